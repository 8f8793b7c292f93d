"""A client of the AMQP API as somebody outside would write it, with pika; and a node that serves it."""

from __future__ import annotations

import inspect
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika

from mgmtnode.config import core_properties as core
from mgmtnode.testing.cloud import Cloud, NodeThread, operator_token

SECONDS = 30.0


class Message:
    """What came: its properties by name, and its body as JSON."""

    def __init__(self, key: str, properties: pika.BasicProperties, body: bytes) -> None:
        self.key, self.raw = key, body
        self.type: str = properties.type
        self.correlation_id: str | None = properties.correlation_id
        self.message_id: str | None = properties.message_id
        self.content_type: str = properties.content_type
        self.headers: dict[str, Any] = properties.headers or {}

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def status(self) -> int:
        return int(self.headers["status"])

    def __repr__(self) -> str:
        return f"<{self.type} {self.headers} {self.raw[:300]!r}>"


class Outside:
    """One connection with a reply queue of its own."""

    def __init__(self, url: str, token: str) -> None:
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.token = token
        self.inbox: list[Message] = []
        self.replies = self.listen("")

    def listen(self, exchange: str, key: str = "#") -> str:
        """Puts into the inbox what comes to a new queue, bound to ``exchange`` if one is named."""
        queue = self.channel.queue_declare("", exclusive=True).method.queue
        if exchange:
            self.channel.queue_bind(queue, exchange, key)
        self.channel.basic_consume(queue, self._take, auto_ack=True)
        return str(queue)

    def publish(self, key: str, body: Any = None, **properties: Any) -> Any:
        """Publishes a request and returns its correlation id. Headers are keyword ``headers``; what is given as None
        is left out."""
        correlation_id = uuid.uuid4().hex
        headers = {"authorization": f"Bearer {self.token}"} | properties.pop("headers", {})
        values = {
            "reply_to": self.replies,
            "correlation_id": correlation_id,
            "content_type": "application/json",
            "headers": {k: v for k, v in headers.items() if v is not None},
        } | properties
        raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        self.channel.basic_publish("mgmtnode.api", key, raw, pika.BasicProperties(**values))
        return values["correlation_id"]

    def get(self, count: int = 1, seconds: float = SECONDS) -> list[Message]:
        """The next ``count`` messages, in the order they came."""
        end = time.monotonic() + seconds
        while len(self.inbox) < count:
            assert time.monotonic() < end, f"{len(self.inbox)} of {count} within {seconds:g} s: {self.inbox}"
            self.connection.process_data_events(time_limit=0.05)
        taken, self.inbox = self.inbox[:count], self.inbox[count:]
        return taken

    def ask(self, key: str, body: Any = None, **properties: Any) -> Message:
        """The one answer of a request that is no job, or is refused."""
        sent = self.publish(key, body, **properties)
        [answer] = self.get()
        assert answer.correlation_id == sent, answer
        return answer

    def do(self, key: str, body: Any = None, **properties: Any) -> tuple[Message, Message]:
        """The accepted job and its end."""
        sent = self.publish(key, body, **properties)
        answers = {answer.type: answer for answer in self.get(2)}
        assert {a.correlation_id for a in answers.values()} == {sent}, answers
        return answers["job.accepted"], answers["job.ended"]

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def __enter__(self) -> Outside:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self.connection.is_open:
            self.connection.close()

    def _take(self, channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        self.inbox.append(Message(method.routing_key, properties, body))


@contextmanager
def serving(
    url: str, data_dir: Path, database_url: str = "", *, prefetch: int = 64, until_connected: bool = True
) -> Iterator[Cloud]:
    """A node with the AMQP API."""
    thread = NodeThread(data_dir, database_url=database_url)
    thread.properties.override(core.API_AMQP_URL, url, "the test")
    thread.properties.override(core.API_AMQP_PREFETCH, prefetch, "the test")
    thread.start()
    cloud = Cloud(thread, operator_token(thread))
    try:
        cloud.until(lambda: connected(cloud) or not until_connected)
        yield cloud
    finally:
        cloud.close()
        thread.stop()


def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Returns once ``condition()`` is true, asking again and again. Fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds:g} s: {inspect.getsource(condition).strip()}"
        time.sleep(0.05)


def connected(cloud: Cloud) -> bool:
    checks = cloud.http.get("/readyz", params={"verbose": "true"}).json()["checks"]
    return bool(next(check["ok"] for check in checks if check["name"] == "AMQP API"))
