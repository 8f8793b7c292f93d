"""Keeps a message that the library cannot decode, or that is too large, from ending the connection it comes on.

py-amqp decodes a message's properties while it reads. A header table nested 1,000 times, a timestamp beyond the
calendar or a text that is not UTF-8 raises there; the connection is lost, and the broker gives the same message to
the next node.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack, unpack_from
from typing import Any

METHOD, HEADER, BODY = 1, 2, 3
DELIVER = b"\x00\x3c\x00\x3c"  # class 60, method 60
SIZE = 4  # where a header frame has the size of the body: after class and weight
PROPERTIES = 12
NO_PROPERTIES = b"\x00\x00"
HEADER_LIMIT = (
    16 * 1024
)  # bytes; a token has up to 4 KiB, and a frame of 128 KiB takes 0.1 s and more to decode

UNDECODABLE = "undecodable"
TOO_LARGE = "too-large"

Frame = tuple[int, int, bytes]


class FrameGuard:
    """Between the socket and the library. ``flaw`` says what is wrong with the message that is being delivered
    right now: it comes without its body and, if it is undecodable, without properties."""

    def __init__(self, connection: Any, body_limit: int) -> None:
        self.flaw = ""
        self._connection, self._limit = connection, body_limit
        self._inner: Callable[[Frame], bool] = connection.on_inbound_frame
        self._skipping: dict[int, int] = {}
        connection.on_inbound_frame = self

    def __call__(self, frame: Frame) -> bool:
        kind, channel, payload = frame
        if kind == METHOD:
            return self._inner((kind, channel, with_readable_key(payload)))
        if kind == HEADER:
            return self._header(channel, payload)
        if kind == BODY and channel in self._skipping:
            return self._skip(channel, len(payload))
        return self._inner(frame)

    def _header(self, channel: int, payload: bytes) -> bool:
        (size,) = unpack_from(">Q", payload, SIZE)
        properties, flaw = payload[PROPERTIES:], ""
        if len(payload) > HEADER_LIMIT:
            return self._deliver(
                channel, payload, self._without_body(channel, size), NO_PROPERTIES, UNDECODABLE
            )
        if size > self._limit:
            size, flaw = self._without_body(channel, size), TOO_LARGE
        try:
            return self._deliver(channel, payload, size, properties, flaw)
        except Exception:
            # Whatever it was: RecursionError, OverflowError, UnicodeDecodeError … The library still waits for the
            # header and gets one that it can read. If it fails on that too, or had gone further, the connection
            # ends, and the broker counts the delivery.
            size = self._without_body(channel, size)
            return self._deliver(channel, payload, size, NO_PROPERTIES, UNDECODABLE)

    def _deliver(self, channel: int, payload: bytes, size: int, properties: bytes, flaw: str) -> bool:
        self.flaw = flaw
        try:
            return self._inner((HEADER, channel, payload[:SIZE] + pack(">Q", size) + properties))
        finally:
            self.flaw = ""

    def _without_body(self, channel: int, size: int) -> int:
        if size:
            self._skipping[channel] = size
        return 0

    def _skip(self, channel: int, size: int) -> bool:
        self._connection.bytes_recv += 1  # the library's sign of life
        self._skipping[channel] -= size
        if self._skipping[channel] <= 0:
            del self._skipping[channel]
        return False


def with_readable_key(payload: bytes) -> bytes:
    """A delivery whose routing key is not UTF-8, which the library raises on, gets ``?`` for it."""
    if payload[:4] != DELIVER:
        return payload
    at = 5 + payload[4] + 9  # the consumer's tag, the delivery's, and whether it is redelivered
    at += 1 + payload[at]  # the exchange
    try:
        payload[at + 1 : at + 1 + payload[at]].decode()
    except UnicodeDecodeError:
        return payload[:at] + b"\x01?"
    return payload
