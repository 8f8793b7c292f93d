"""nameko: a service with as many workers as calls are outstanding at most, ``json``, called through its standalone
client with ``call_async``."""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import sys  # noqa: E402  # eventlet must be first

from nameko import config  # noqa: E402
from nameko.amqp.publish import Publisher  # noqa: E402
from nameko.containers import ServiceContainer  # noqa: E402
from nameko.rpc import rpc  # noqa: E402
from nameko.standalone.rpc import ServiceRpcClient  # noqa: E402
from orders import TIMEOUT, orders, ready, say, window  # noqa: E402

WORKERS = 10_000
TRANSIENT = {"use_confirms": False, "delivery_mode": "transient"}
for option, value in TRANSIENT.items():
    setattr(Publisher, option, value)  # for the answers, whose publisher takes no options


class Answering:
    name = "bench"

    @rpc
    def answer(self, text: str, wait: float) -> str:
        if wait:
            eventlet.sleep(wait)
        return text


def serve() -> None:
    container = ServiceContainer(Answering)
    container.start()
    ready("nameko", "eventlet", "kombu")
    container.wait()


def call() -> None:
    with ServiceRpcClient("bench", timeout=TIMEOUT, **TRANSIENT) as service:
        ready("nameko", "eventlet", "kombu")
        for turn in orders():
            window(
                turn,
                lambda turn=turn: service.answer.call_async(turn.text, turn.wait),
                lambda reply: reply.result(),
            )
            say(**turn.result())


if __name__ == "__main__":
    config.update(
        {
            "AMQP_URI": sys.argv[2],
            "max_workers": WORKERS,
            "PREFETCH_COUNT": WORKERS,
            "serializer": "json",
        }
    )
    serve() if sys.argv[1] == "serve" else call()
