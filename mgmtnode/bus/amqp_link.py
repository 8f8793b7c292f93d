"""One connection to RabbitMQ through kombu: how it is made, and what ends it."""

from __future__ import annotations

import logging
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from amqp.exceptions import AMQPError
from amqp.spec import Basic
from kombu.connection import Connection

from mgmtnode.bus.link import Link
from mgmtnode.bus.session import SEND_TIMEOUT
from mgmtnode.bus.stream import Stream
from mgmtnode.ports import Rng

log = logging.getLogger(__name__)

HEARTBEAT = 10
CONNECT_TIMEOUT = 5.0
COUNTED = ("sent", "sent_bytes", "received", "received_bytes", "returned", "stale", "foreign", "undecodable")

# What py-amqp raises when a connection breaks or a frame cannot be decoded: it ends a session, not the link.
BROKEN = (
    AMQPError, OSError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
    struct.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Broker:
    """``url``: where it is; of the nodes of one RabbitMQ cluster, which are tried in turn, with semicolons between.
    ``ca``: file with the authority behind its certificate, where that is not one of the system's."""

    url: str
    rng: Rng
    ca: str = ""


class AmqpLink(Link):
    """One connection through kombu."""

    broken: ClassVar[tuple[type[Exception], ...]] = BROKEN

    def __init__(self, name: str, broker: Broker, changed: Callable[[], None]) -> None:
        super().__init__(name, broker.rng, changed)
        self._urls = [part.strip() for part in broker.url.split(";") if part.strip()]
        self._ca = broker.ca or None
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
        self.channel: Any = None
        self._connection: Any = None
        self._transport: Any = None
        self._own: tuple[Any, Any, Any]

    def _connect(self) -> Any:
        url = self._urls[self.failures % len(self._urls)]
        client = Connection(
            url,
            ssl=self._tls() if urlsplit(url).scheme == "amqps" else False,
            heartbeat=HEARTBEAT,
            connect_timeout=CONNECT_TIMEOUT,
            transport_options={
                "socket_settings": {socket.TCP_USER_TIMEOUT: int(SEND_TIMEOUT * 1000)},
                "client_properties": {"connection_name": self.name},
                "on_blocked": self._on_blocked,
                "on_unblocked": self._on_unblocked,
            },
        )
        return client.transport.establish_connection()

    def _close(self, connection: Any) -> None:
        connection.close()

    def _attach(self, connection: Any) -> Stream:
        """py-amqp reads by its transport's ``_quick_recv`` and writes by ``_write``; it keeps what has come of a
        frame when no more is there."""
        transport, stream = connection.transport, Stream(connection.sock)
        self._connection, self._transport = connection, transport
        self._own = (transport.sock, transport._quick_recv, transport._write)
        transport.sock, transport._quick_recv, transport._write = stream, stream.recv, stream.sendall
        return stream

    def _detach(self) -> None:
        transport = self._transport
        transport.sock, transport._quick_recv, transport._write = self._own

    def _collect(self, connection: Any) -> None:
        super()._collect(connection)
        if self._transport is not None:
            self._transport.close()  # which py-amqp believes to be done if it was the broker that closed
            self._transport = None

    def read(self) -> None:
        connection = self._connection
        while True:
            try:
                frame = connection.transport.read_frame()
            except TimeoutError:
                return
            connection.on_inbound_frame(frame)

    def _set_prefetch(self, count: int) -> None:
        """Of consumers that begin from now on. Unlike ``basic_qos`` it does not wait for the broker."""
        self.channel.send_method(Basic.Qos, "lBb", (0, count, False))

    def tick(self) -> None:
        self._connection.heartbeat_tick(rate=2)

    def _tls(self) -> dict[str, Any]:
        """For py-amqp, which looks at the name in the certificate only where it is given one; kombu fills in the
        host's for None."""
        return {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": self._ca, "server_hostname": None}

    def _on_blocked(self, reason: str) -> None:
        log.warning("%s: the broker is short of memory or disk: %s", self.name, reason)

    def _on_unblocked(self) -> None:
        log.info("%s: the broker takes messages again", self.name)
