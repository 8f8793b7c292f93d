"""What travels between nodes: envelopes, many of them in one JSON list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

import msgspec

from mgmtnode.errors import Category, ErrorCode, Problem
from mgmtnode.jobs.job import WorkToken

MAX_ENVELOPE = 64 * 1024
MAX_BATCH = 120_000  # bytes; with its headers it fits one AMQP frame of the usual 128 KB

TOO_LARGE = ErrorCode("bus.message-too-large", Category.INVALID, "a message between nodes has at most 64 KB")

NO_BODY = msgspec.Raw(b"null")


class Kind(StrEnum):
    CALL = "call"
    REPLY = "reply"
    SEND = "send"
    EVENT = "event"
    HINT = "hint"
    PROBE = "probe"


class Envelope(msgspec.Struct, kw_only=True, omit_defaults=True):
    """``slot`` or ``node`` say whom it is for. ``remaining_ms`` is the deadline: clocks of two machines are
    never compared. ``reply_to`` is the address of who sent it, ``correlation`` the id of the call a reply is
    for, ``hops`` how often it was passed on. ``chain``, ``trace``, ``span`` and ``work`` are the call context.
    Fields are only ever added."""

    id: str
    kind: Kind
    type: str = ""
    slot: int | None = None
    node: str | None = None
    reply_to: str = ""
    correlation: str = ""
    hops: int = 0
    remaining_ms: int | None = None
    chain: tuple[str, ...] = ()
    trace: str = ""
    work: WorkToken | None = None
    body: msgspec.Raw = NO_BODY
    error: Problem | None = None
    span: str = ""


class HintBody(msgspec.Struct, kw_only=True):
    """A job waits in a slot."""

    seq: int
    job_uuid: str
    resource_uuid: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Envelope)
_batch_decoder = msgspec.json.Decoder(list[Envelope])
_raw_batch_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def encode(envelope: Envelope) -> bytes:
    """Raises ``bus.message-too-large``."""
    data = _encoder.encode(envelope)
    if len(data) > MAX_ENVELOPE:
        raise TOO_LARGE.error(f"{envelope.type or envelope.kind}: {len(data)} bytes, at most {MAX_ENVELOPE}")
    return data


def pack(envelopes: Sequence[bytes]) -> Iterator[bytes]:
    """JSON lists of at most MAX_BATCH bytes."""
    chunk: list[bytes] = []
    size = 0
    for data in envelopes:
        if chunk and size + len(data) > MAX_BATCH:
            yield b"[%b]" % b",".join(chunk)
            chunk, size = [], 0
        chunk.append(data)
        size += len(data) + 1
    if chunk:
        yield b"[%b]" % b",".join(chunk)


def unpack(batch: bytes) -> tuple[list[Envelope], list[bytes]]:
    """The envelopes of a batch, and what could not be read: one bad envelope does not take the others
    along."""
    try:
        return _batch_decoder.decode(batch), []
    except (msgspec.DecodeError, RecursionError):
        return _one_by_one(batch)


def _one_by_one(batch: bytes) -> tuple[list[Envelope], list[bytes]]:
    try:
        parts: Iterable[msgspec.Raw] = _raw_batch_decoder.decode(batch)
    except (msgspec.DecodeError, RecursionError):
        return [], [batch]
    good: list[Envelope] = []
    bad: list[bytes] = []
    for part in parts:
        try:
            good.append(_decoder.decode(part))
        except (msgspec.DecodeError, RecursionError):
            bad.append(bytes(part))
    return good, bad
