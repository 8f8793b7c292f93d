"""Messages that AMQP allows and that no node can read, among those of honest clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pika
from amqp.exceptions import AMQPError

from mgmtnode.api.amqp import topology
from tests.chaos.plan import Fault
from tests.chaos.stage import API_VHOST, Stage
from tests.integration import poison

MOST = 8


def waiting(url: str) -> str:
    """What nodes have still to take from the queue of requests; empty if nothing. One message that nobody could settle
    would stay there for ever."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        try:
            found = connection.channel().queue_declare(topology.REQUESTS, passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return "nobody has declared the queue of requests"
        count = found.method.message_count
    return f"{count} requests over AMQP wait" if count else ""


class Hostile:
    def __init__(self, seed: int) -> None:
        self._rng = Random(f"{seed} hostile")
        self.sent = 0

    @contextmanager
    def __call__(self, stage: Stage, fault: Fault) -> Iterator[None]:
        url = stage.cluster.rabbit.vhost_url(API_VHOST)
        for _ in range(self._rng.randint(2, MOST)):
            self.sent += self._send(url)
        yield

    def _send(self, url: str) -> bool:
        rng = self._rng
        properties = rng.choice((poison.nested(5000), poison.nested(1500), poison.TIMESTAMP, poison.NOT_UTF8))
        body = rng.choice((b"{}", b"", b"\xff" * 100, b"[" * 100_000, b"x" * (1 << 20), b'{"uuid": 1e999}'))
        key = rng.choice((b"vm.create", b"\xff\xfe", b"", b"vm.delete"))
        try:
            poison.publish(url, properties, key, body)
        except (OSError, AMQPError):
            return False  # the broker is away: another fault
        return True
