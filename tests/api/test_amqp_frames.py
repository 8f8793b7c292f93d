"""The guard before py-amqp's decoder, without a broker: whatever a header holds, one message is delivered."""

from __future__ import annotations

from struct import pack
from typing import Any

from amqp.method_framing import frame_handler
from hypothesis import given
from hypothesis import strategies as st

from mgmtnode.api.amqp.frames import (
    BODY,
    DELIVER,
    HEADER,
    HEADER_LIMIT,
    METHOD,
    TOO_LARGE,
    UNDECODABLE,
    FrameGuard,
)

LIMIT = 1000


class Connection:
    """What the library and the guard need of one: what is delivered is kept, with its flaw."""

    def __init__(self) -> None:
        self.bytes_recv = 0
        self.delivered: list[tuple[bytes, Any, str]] = []
        self.on_inbound_frame: Any = frame_handler(self, self._deliver)
        self.guard = FrameGuard(self, LIMIT)

    def _deliver(self, channel: int, method: tuple[int, int], arguments: bytes, message: Any) -> None:
        self.delivered.append((arguments, message, self.guard.flaw))

    def receive(self, properties: bytes, body: bytes, key: bytes = b"vm.create", frame: int = 400) -> None:
        arguments = DELIVER + b"\x01c" + pack(">QB", 7, 0) + b"\x01x" + bytes([len(key)]) + key
        self.on_inbound_frame((METHOD, 1, arguments))
        self.on_inbound_frame((HEADER, 1, pack(">HHQ", 60, 0, len(body)) + properties))
        for at in range(0, len(body), frame):
            self.on_inbound_frame((BODY, 1, body[at : at + frame]))


def text(value: bytes) -> bytes:
    return bytes([len(value)]) + value


PLAIN = pack(">H", 0x8000) + text(b"application/json")


def test_what_is_well_passes_through() -> None:
    connection = Connection()
    connection.receive(PLAIN, b"x" * LIMIT)
    [(arguments, message, flaw)] = connection.delivered
    assert (bytes(message.body), flaw) == (b"x" * LIMIT, "")
    assert message.properties == {"content_type": "application/json"} and arguments.endswith(b"vm.create")


def test_a_body_above_the_limit_is_left_out_and_its_properties_are_kept() -> None:
    connection = Connection()
    connection.receive(PLAIN, b"x" * (LIMIT + 1))
    connection.receive(PLAIN, b"next")
    (_, large, flaw), (_, after, none) = connection.delivered
    assert (flaw, large.body, large.properties) == (TOO_LARGE, "", {"content_type": "application/json"})
    assert (none, bytes(after.body)) == ("", b"next")


def test_a_header_above_the_limit_is_not_decoded() -> None:
    connection = Connection()
    connection.receive(pack(">H", 0x0400) + text(b"c") + b"\0" * HEADER_LIMIT, b"body")
    connection.receive(PLAIN, b"next")
    (_, first, flaw), (_, after, none) = connection.delivered
    assert (flaw, first.properties, none, bytes(after.body)) == (UNDECODABLE, {}, "", b"next")


def test_a_routing_key_that_is_not_utf8_becomes_a_question_mark() -> None:
    connection = Connection()
    connection.receive(PLAIN, b"", key=b"\xff\xfe")
    assert connection.delivered[0][0].endswith(b"\x01x\x01?")


@given(
    flags=st.integers(0, 0xFFFF).map(lambda flags: flags & 0xFFFE),
    properties=st.one_of(
        st.binary(max_size=200),
        st.integers(1, 2300).map(lambda n: pack(">I", 7 * n) + b"\x01aF\x00\x00\x00\x07" * n),
        st.integers(0, 2**64 - 1).map(lambda n: pack(">I", 11) + text(b"t") + b"T" + pack(">Q", n)),
    ),
    size=st.integers(0, 3 * LIMIT),
)
def test_whatever_the_header_holds_one_message_is_delivered_and_the_next_is_well(
    flags: int, properties: bytes, size: int
) -> None:
    connection = Connection()
    connection.receive(pack(">H", flags) + properties, b"x" * size)
    connection.receive(PLAIN, b"next")
    (_, first, flaw), (_, after, none) = connection.delivered
    assert flaw in ("", UNDECODABLE, TOO_LARGE) and (none, bytes(after.body)) == ("", b"next")
    if flaw == UNDECODABLE:
        assert (first.properties, first.body) == ({}, "")
