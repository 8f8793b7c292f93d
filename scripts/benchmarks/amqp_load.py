"""The load generator of the AMQP API: one connection for requests and one for answers, a number of requests in flight.

A process of its own, ``python -m scripts.benchmarks.amqp_load``: reads an AmqpLoad as JSON from its standard input and
writes an Outcome; a latency is that of the first answer, which says that the job is durable.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import msgspec
from kombu import Connection, Consumer, Exchange, Producer, Queue

from scripts.benchmarks.load import Outcome

SECONDS = 120.0


class AmqpLoad(msgspec.Struct):
    """``body`` has ``{n}`` for the number of the request."""

    url: str
    token: str
    api: str
    count: int
    clients: int
    body: str


class Requests:
    def __init__(self, load: AmqpLoad, name: str) -> None:
        self._load = load
        self._consuming = Connection(load.url)
        self._producer = Producer(Connection(load.url).channel(), Exchange("mgmtnode.api", "topic"))
        self._queue = Queue(name, exclusive=True, auto_delete=True, durable=False)
        Consumer(self._consuming.channel(), [self._queue], callbacks=[self._answered], no_ack=True).consume()
        self._numbers = itertools.count()
        self._begun: dict[str, float] = {}
        self._latencies: list[float] = []
        self._statuses = Counter[int]()
        self._failure = ""

    def run(self) -> Outcome:
        begin = time.perf_counter()
        for _ in range(self._load.clients):
            self._send()
        while len(self._latencies) < self._load.count:
            self._consuming.drain_events(timeout=SECONDS)
        seconds = time.perf_counter() - begin
        return Outcome(seconds, dict(self._statuses), sorted(self._latencies), self._failure)

    def _send(self) -> None:
        number = next(self._numbers)
        if number >= self._load.count:
            return
        self._begun[str(number)] = time.perf_counter()
        self._producer.publish(
            self._load.body.replace("{n}", str(number)),
            routing_key=self._load.api,
            reply_to=self._queue.name,
            correlation_id=str(number),
            content_type="application/json",
            content_encoding="utf-8",
            headers={"authorization": f"Bearer {self._load.token}"},
        )

    def _answered(self, body: Any, message: Any) -> None:
        begun = self._begun.pop(message.properties["correlation_id"], None)
        if begun is None:
            return  # the end of the job
        self._latencies.append(time.perf_counter() - begun)
        status = message.headers["status"]
        self._statuses[status] += 1
        if status != 202:
            self._failure = self._failure or str(body)[:1000]
        self._send()


def run(load: AmqpLoad) -> Outcome:
    """Runs it in a process of its own and waits for its end."""
    command = [sys.executable, "-m", "scripts.benchmarks.amqp_load"]
    done = subprocess.run(
        command, input=msgspec.json.encode(load), stdout=subprocess.PIPE, check=True, timeout=900
    )
    return msgspec.json.decode(done.stdout, type=Outcome)


def main() -> None:
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=AmqpLoad)
    found = Requests(load, f"bench.{time.time_ns()}").run()
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
