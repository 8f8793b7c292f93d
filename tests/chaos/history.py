"""What clients asked and heard, and what went wrong when: one JSON object a line."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

LOST = 0  # the status of an attempt that got no answer


class Asked(msgspec.Struct, frozen=True, kw_only=True, tag="asked"):
    """A client wants something, under a key that all attempts to get it carry."""

    at: float
    key: str
    client: str
    account: str
    method: str
    path: str


class Answered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="answered"):
    """One attempt. ``status``: 0 if nothing came; ``job``: which it was told of."""

    at: float
    key: str
    status: int
    seconds: float = 0.0
    code: str = ""
    job: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="ended"):
    """A client was told of the end of a job."""

    at: float
    job: str
    state: str
    code: str = ""


class Saw(msgspec.Struct, frozen=True, kw_only=True, tag="saw"):
    """A client was shown resources."""

    at: float
    account: str
    resources: list[str]


class Struck(msgspec.Struct, frozen=True, kw_only=True, tag="struck"):
    """A fault began, or ended."""

    at: float
    cycle: int
    kind: str
    victim: str
    over: bool = False


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag="measured"):
    """What a process holds: bytes, threads, descriptors, and figures of its own."""

    at: float
    process: str
    figures: dict[str, float]


Entry = Asked | Answered | Ended | Saw | Struck | Measured
E = TypeVar("E", bound=Entry)


class History:
    """May be written by several threads at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self._encode = msgspec.json.Encoder().encode

    def note(self, entry: Entry) -> None:
        line = self._encode(entry) + b"\n"
        with self._lock:
            if not self._file.closed:  # a client that was told to stop may have a last word
                self._file.write(line)

    def close(self) -> None:
        with self._lock:
            self._file.close()


def read(path: Path) -> Iterator[Entry]:
    decode = msgspec.json.Decoder(Entry).decode
    with path.open("rb") as lines:
        for line in lines:
            yield decode(line)


def of(kind: type[E], entries: list[Entry]) -> Iterator[E]:
    return (entry for entry in entries if isinstance(entry, kind))


def now() -> float:
    """Unix time, to the millisecond."""
    return round(time.time(), 3)
