"""Messages that AMQP allows and py-amqp cannot decode, written frame by frame."""

from __future__ import annotations

import struct
from typing import Any

import amqp
from amqp.serialization import dumps
from kombu import Connection

from mgmtnode.api.amqp import topology

HEADERS, CORRELATION_ID, REPLY_TO = 0x2000, 0x0400, 0x0200
PUBLISH = (60, 40)


class Raw(amqp.Message):
    """A message whose properties are these bytes."""

    def __init__(self, properties: bytes, body: bytes = b"{}") -> None:
        super().__init__(body)
        self.__dict__["given"] = properties

    def _serialize_properties(self) -> bytes:
        given: bytes = self.__dict__["given"]
        return given


def shortstr(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def headers(table: bytes) -> bytes:
    return struct.pack(">HI", HEADERS, len(table)) + table


def nested(levels: int) -> bytes:
    table = b""
    for _ in range(levels):
        table = shortstr(b"a") + b"F" + struct.pack(">I", len(table)) + table
    return headers(table)


TIMESTAMP = headers(shortstr(b"t") + b"T" + struct.pack(">Q", 2**64 - 1))
NOT_UTF8 = struct.pack(">H", CORRELATION_ID | REPLY_TO) + shortstr(b"\xff\xfe") + shortstr(b"q")


def publish(url: str, properties: bytes, key: bytes = b"zone.create", body: bytes = b"{}") -> None:
    with Connection(url) as client:
        client.connect()
        connection: Any = client.connection
        channel = connection.channel()
        arguments = dumps("Bs", (0, topology.API)) + shortstr(key) + b"\0"
        connection.frame_writer(1, channel.channel_id, PUBLISH, arguments, Raw(properties, body))
        channel.close()


def declare(url: str) -> None:
    """What a node declares, without a node."""
    with Connection(url) as client:
        topology.declare(client.default_channel)
