"""Celery: one worker without gossip, mingle, heartbeat and events; results over RPC; tasks acknowledged early,
transient, ``json``. The pool is an argument: ``solo`` for tasks that do not wait, ``gevent`` for those that do."""

from __future__ import annotations

import sys
import time

if len(sys.argv) > 3 and sys.argv[3] == "gevent":
    from gevent import monkey

    monkey.patch_all()

from celery import Celery
from celery.signals import worker_ready
from orders import TIMEOUT, orders, ready, say, window

GREENLETS = 10_000

app = Celery("bench", broker=sys.argv[2], backend="rpc://")
app.conf.update(
    task_default_queue=f"bench.celery.{sys.argv[3]}",
    task_default_delivery_mode="transient",
    result_persistent=False,
    result_expires=None,
    task_acks_late=False,
    worker_prefetch_multiplier=0,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_send_task_events=False,
    task_send_sent_event=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="bench.answer")
def answer(text: str, wait: float) -> str:
    if wait:
        time.sleep(wait)
    return text


@worker_ready.connect
def say_ready(**_: object) -> None:
    ready("celery", "kombu")


def serve(pool: str) -> None:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    app.worker_main(
        ["worker", f"--pool={pool}", f"--concurrency={GREENLETS if pool == 'gevent' else 1}", *quiet]
    )


def call() -> None:
    ready("celery", "kombu")
    for turn in orders():
        window(
            turn,
            lambda turn=turn: answer.apply_async((turn.text, turn.wait)),
            lambda result: result.get(timeout=TIMEOUT, interval=0),
        )
        say(**turn.result())


if __name__ == "__main__":
    serve(sys.argv[3]) if sys.argv[1] == "serve" else call()
