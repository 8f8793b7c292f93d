"""kombu without a framework, as fast as it goes: one thread that drains, publishing on a connection of its own,
transient messages, no acknowledgements, no confirms; answers that wait lie in a heap."""

from __future__ import annotations

import heapq
import itertools
import sys
import time
import uuid
from typing import Any

from kombu import Connection, Consumer, Producer, Queue
from orders import Turn, orders, ready, say

SERVER = Queue("bench.kombu", auto_delete=True, durable=False)
OPTIONS = {"delivery_mode": "transient", "serializer": "json"}


def drain(connection: Connection, seconds: float) -> None:
    try:
        connection.drain_events(timeout=max(seconds, 0.0001))
    except TimeoutError:
        return


class Server:
    def __init__(self, url: str) -> None:
        self._consuming, publishing = Connection(url), Connection(url)
        self._producer = Producer(publishing.channel())
        self._late: list[tuple[float, int, Any, Any]] = []
        self._number = itertools.count()
        consumer = Consumer(self._consuming.channel(), [SERVER], callbacks=[self._asked], no_ack=True)
        consumer.consume()

    def run(self) -> None:
        while True:
            drain(self._consuming, self._late[0][0] - time.monotonic() if self._late else 60.0)
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, body, message = heapq.heappop(self._late)
                self._answer(body, message)

    def _asked(self, body: Any, message: Any) -> None:
        if body["wait"]:
            heapq.heappush(self._late, (time.monotonic() + body["wait"], next(self._number), body, message))
        else:
            self._answer(body, message)

    def _answer(self, body: Any, message: Any) -> None:
        asked = message.properties
        self._producer.publish(
            {"text": body["text"]},
            routing_key=asked["reply_to"],
            correlation_id=asked["correlation_id"],
            **OPTIONS,
        )


class Client:
    def __init__(self, url: str) -> None:
        self._consuming, publishing = Connection(url), Connection(url)
        self._producer = Producer(publishing.channel())
        self._replies = f"bench.kombu.{uuid.uuid4()}"
        queue = Queue(self._replies, exclusive=True, auto_delete=True, durable=False)
        Consumer(self._consuming.channel(), [queue], callbacks=[self._answered], no_ack=True).consume()
        self._begun: dict[str, float] = {}
        self._numbers = itertools.count()
        self._turn: Turn

    def run(self, turn: Turn) -> None:
        self._turn = turn
        while len(self._begun) < turn.outstanding and turn.more():
            self._send()
        while self._begun:
            drain(self._consuming, 60.0)

    def _send(self) -> None:
        number = str(next(self._numbers))
        self._begun[number] = time.perf_counter()
        self._producer.publish(
            {"text": self._turn.text, "wait": self._turn.wait},
            routing_key=SERVER.name,
            reply_to=self._replies,
            correlation_id=number,
            **OPTIONS,
        )

    def _answered(self, body: Any, message: Any) -> None:
        self._turn.took(self._begun.pop(message.properties["correlation_id"]), body["text"])
        if self._turn.more():
            self._send()


if __name__ == "__main__":
    what, url = sys.argv[1:]
    if what == "serve":
        server = Server(url)
        ready("kombu")
        server.run()
    client = Client(url)
    ready("kombu")
    for turn in orders():
        client.run(turn)
        say(**turn.result())
