"""What a seed stands for: which faults strike whom, when and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

import msgspec

BUSY = 20.0  # seconds of a cycle in which faults begin
AT_ONCE = (3, 6)


class Kind(StrEnum):
    KILL = "kill"
    PAUSE = "pause"
    DRAIN = "drain"
    CUT = "cut"
    DEAF = "deaf"
    MUTE = "mute"
    HALF_OPEN = "half-open"
    REFUSED = "refused"
    RESET = "reset"
    DELAY = "delay"
    SLOW = "slow"
    COMMIT_LOST = "commit lost"
    COMMIT_UNANSWERED = "commit unanswered"
    STOP_IMMEDIATE = "immediate stop"
    SESSIONS_ENDED = "sessions ended"
    BACKEND_KILLED = "backend killed"
    WIPED = "wiped"
    ALARM = "memory alarm"
    DISK_FULL = "disk full"
    HOSTILE = "hostile messages"
    OVERLOAD = "overload"


LINE_KINDS = (
    Kind.CUT,
    Kind.DEAF,
    Kind.MUTE,
    Kind.HALF_OPEN,
    Kind.REFUSED,
    Kind.RESET,
    Kind.DELAY,
    Kind.SLOW,
)
TO_DATABASE, TO_BROKER, TO_HOSTS, FROM_CLIENTS = "database", "broker", "hosts", "clients"
ENDS = (TO_DATABASE, TO_BROKER, TO_HOSTS, FROM_CLIENTS)
ANY_NODE = "node"
DATABASE, BROKER, AGENTS = "postgres", "rabbitmq", "agents"
CLIENTS_BROKER = "clients>rabbitmq"
EVERYBODY = "everybody"

SECONDS: dict[Kind, tuple[float, float]] = {
    Kind.KILL: (0.5, 8),
    Kind.PAUSE: (2, 16),
    Kind.DRAIN: (0.5, 3),
    Kind.CUT: (1, 14),
    Kind.DEAF: (1, 12),
    Kind.MUTE: (1, 12),
    Kind.HALF_OPEN: (1, 12),
    Kind.REFUSED: (1, 8),
    Kind.DELAY: (4, 12),
    Kind.SLOW: (4, 12),
    Kind.COMMIT_LOST: (2, 8),
    Kind.COMMIT_UNANSWERED: (2, 8),
    Kind.STOP_IMMEDIATE: (0.5, 6),
    Kind.WIPED: (0.5, 4),
    Kind.ALARM: (2, 10),
    Kind.DISK_FULL: (2, 8),
    Kind.OVERLOAD: (3, 6),
}
AMOUNTS: dict[Kind, tuple[float, float]] = {
    Kind.DELAY: (0.02, 1.5),  # seconds
    Kind.SLOW: (4_000, 60_000),  # bytes a second
    Kind.COMMIT_LOST: (0.05, 0.5),  # the part of all COMMITs
    Kind.COMMIT_UNANSWERED: (0.05, 0.5),
}
NODE_KINDS = (Kind.KILL, Kind.PAUSE, Kind.DRAIN)

Card = tuple[Kind, str]


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``at``: seconds after the cycle began; ``victim``: ``node-1``, ``node-1>database``, ``clients>node-1``,
    ``postgres``, ``rabbitmq``, ``agents``."""

    at: float
    kind: Kind
    victim: str
    seconds: float = 0.0
    amount: float = 0.0

    @property
    def end(self) -> float:
        return self.at + self.seconds

    def __str__(self) -> str:
        amount = f" of {self.amount:g}" if self.amount else ""
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:5.1f} s: {self.victim} {self.kind}{amount}{lasts}"


def _deck(kinds: frozenset[str]) -> list[Card]:
    """Every fault there is, the more important ones several times."""
    deck = [(Kind.KILL, ANY_NODE)] * 5 + [(Kind.PAUSE, ANY_NODE)] * 4 + [(Kind.DRAIN, ANY_NODE)] * 2
    deck += [(kind, end) for kind in LINE_KINDS for end in ENDS]
    deck += [(kind, TO_DATABASE) for kind in (Kind.COMMIT_LOST, Kind.COMMIT_UNANSWERED)] * 3
    deck += [(kind, DATABASE) for kind in (Kind.STOP_IMMEDIATE, Kind.SESSIONS_ENDED, Kind.BACKEND_KILLED)] * 2
    deck += [(kind, BROKER) for kind in (Kind.KILL, Kind.WIPED, Kind.ALARM)] * 2
    deck += [(Kind.KILL, AGENTS), (Kind.PAUSE, AGENTS)] * 2
    deck += [(kind, CLIENTS_BROKER) for kind in (Kind.CUT, Kind.RESET, Kind.HALF_OPEN)]
    deck += [(Kind.DISK_FULL, DATABASE), (Kind.DISK_FULL, AGENTS)]
    deck += [(Kind.HOSTILE, BROKER), (Kind.OVERLOAD, EVERYBODY)] * 2
    return [card for card in deck if not kinds or card[0] in kinds]


@dataclass
class Plan:
    """The faults of one cycle after the other. Every card of the deck is played before one is again."""

    seed: int
    nodes: int
    kinds: frozenset[str] = frozenset()
    """Only these, if any are named."""
    _left: list[Card] = field(default_factory=list)
    _rng: Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = Random(f"{self.seed} faults")

    def cycles(self) -> Iterator[list[Fault]]:
        while True:
            yield self._cycle()

    def _cycle(self) -> list[Fault]:
        faults = list[Fault]()
        for _ in range(self._rng.randint(*AT_ONCE)):
            faults.append(self._fault(faults))
        return sorted(faults, key=lambda fault: fault.at)

    def _fault(self, others: list[Fault]) -> Fault:
        kind, where = self._card()
        rng, node = self._rng, f"node-{self._rng.randint(1, self.nodes)}"
        fault = Fault(
            at=round(rng.uniform(0.5, BUSY), 1),
            kind=kind,
            victim=_victim(where, node),
            seconds=round(rng.uniform(*SECONDS.get(kind, (0.0, 0.0))), 1),
            amount=float(f"{rng.uniform(*AMOUNTS.get(kind, (0.0, 0.0))):.2g}"),
        )
        return self._after(fault, others)

    def _card(self) -> Card:
        if not self._left:
            self._left = _deck(self.kinds)
            self._rng.shuffle(self._left)
        return self._left.pop()

    def _after(self, fault: Fault, others: list[Fault]) -> Fault:
        """Later, if what it strikes is struck at that time already, or no node would be left."""
        same = [other for other in others if other.victim == fault.victim and _meet(fault, other)]
        nodes = {other.victim for other in others if other.kind in NODE_KINDS and _meet(fault, other)}
        if fault.kind in NODE_KINDS and len(nodes - {fault.victim}) >= self.nodes - 1:
            same += [other for other in others if other.victim in nodes and _meet(fault, other)]
        if not same:
            return fault
        later = round(max(other.end for other in same) + 1.5, 1)
        return self._after(msgspec.structs.replace(fault, at=later), others)


def _victim(where: str, node: str) -> str:
    if where == ANY_NODE:
        return node
    if where == FROM_CLIENTS:
        return f"clients>{node}"
    return f"{node}>{where}" if where in ENDS else where


def _meet(one: Fault, other: Fault) -> bool:
    return one.at < other.end + 1.0 and other.at < one.end + 1.0
