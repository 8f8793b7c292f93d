"""What a line does with the bytes it carries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Way(StrEnum):
    """Up: towards the server that is listening. Down: what it answers."""

    UP = "up"
    DOWN = "down"


class Commit(StrEnum):
    """What becomes of a transaction whose client hears nothing of its end. Lost: the COMMIT never arrives, so it is
    undone. Unanswered: it arrives, is done, and the answer never comes back."""

    LOST = "lost"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Weather:
    """``held``: the ways on which nothing arrives, for as long as this lasts. ``severed``: servers lose their
    connections and clients do not hear of it. ``refuses``: new connections are reset. ``delay``: seconds that each
    piece of data waits; ``rate``: bytes a second, 0 without a limit. ``commit``: what happens to the part ``share`` of
    PostgreSQL's COMMITs."""

    held: frozenset[Way] = frozenset()
    severed: bool = False
    refuses: bool = False
    delay: float = 0.0
    rate: int = 0
    commit: Commit | None = None
    share: float = 1.0


FAIR = Weather()
