"""What may go wrong, and where that means something: the cells of the matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mgmtnode.testing.simulation.faults import Fault, FaultKind
from mgmtnode.testing.simulation.lines import Weather
from tests.matrix.points import AT_HOST, ON_ITS_WAY, Phase

BEYOND_LEASE = 15.0
A_WHILE = 9.0
LATE = 14.0  # seconds that something is on its way, until long after others have taken over
DEADLINE = 4.0
LATE_FOR_A_CANCEL = (Phase.DONE, Phase.FINISHING, Phase.FINISHED)


@dataclass(frozen=True)
class Moment:
    """When and to whom a fault happens: seconds, the node, the host of the VM (empty before it is chosen)."""

    at: float
    node: str
    host: str


Strike = Callable[[Moment], list[Fault]]


def _node(kind: FaultKind, seconds: float = 0.0) -> Strike:
    return lambda now: [Fault(at=now.at, kind=kind, target=now.node, seconds=seconds)]


def _line(asked: str, weather: Weather, seconds: float, amount: float = 1.0) -> Strike:
    def strike(now: Moment) -> list[Fault]:
        lines = f"{now.node}>{asked}"
        return [
            Fault(at=now.at, kind=FaultKind.LINE, target=lines, what=weather, seconds=seconds, amount=amount)
        ]

    return strike


def _host(what: str, seconds: float = 0.0) -> Strike:
    def strike(now: Moment) -> list[Fault]:
        return [
            Fault(at=now.at, kind=FaultKind.HOST, target=now.host or "host-1", what=what, seconds=seconds)
        ]

    return strike


def _everybody(kind: FaultKind, seconds: float) -> Strike:
    return lambda now: [Fault(at=now.at, kind=kind, seconds=seconds)]


def _too_late(now: Moment) -> list[Fault]:
    """The node stands still until the deadline of its job has passed, but not so long that it loses its lease; the
    host hangs meanwhile, if the command has not been done yet."""
    stands = Fault(at=now.at, kind=FaultKind.PAUSE, target=now.node, seconds=DEADLINE + 0.5)
    hangs = Fault(at=now.at, kind=FaultKind.HOST, target=now.host, what="hangs", seconds=DEADLINE + 1.5)
    return [stands, hangs] if now.host else [stands]


NODE_FAULTS: dict[str, Strike] = {
    "kill": _node(FaultKind.KILL, 25.0),
    "restart": _node(FaultKind.KILL, 0.2),
    "pause beyond the lease": _node(FaultKind.PAUSE, BEYOND_LEASE),
    "evict": _node(FaultKind.EVICT),
    "drain": _node(FaultKind.DRAIN, A_WHILE),
    "cut from the database": _line("database", Weather.CUT, A_WHILE),
    "cut from hosts": _line("host-*", Weather.CUT, A_WHILE),
}
FAULTS: dict[str, Strike] = NODE_FAULTS | {
    "broker restarts empty": _everybody(FaultKind.BROKER, A_WHILE),
    "database restarts": _everybody(FaultKind.DATABASE, A_WHILE),
    "answer of COMMIT is lost": _line("database", Weather.DEAF, 0.5),
    "answer of the agent is lost": _line("host-*", Weather.DEAF, A_WHILE),
    "messages come twice": _line("*", Weather.TWICE, A_WHILE),
    "agent restarts": _host("crash", 3.0),
    "agent loses its memory": _host("disk"),
    "cancel": lambda now: [],
    "deadline passes": _too_late,
    "client repeats its request": lambda now: [],
}

IN_TRANSIT = "the COMMIT that would go unanswered is the next phase's"
NO_COMMIT = "no transaction is under way: the next one is that of «finishing»"
NO_COMMAND = "no command is under way"
ONCE = "what is under way cannot come twice: a transaction, or a command that has arrived"
DEAD: dict[tuple[str, Phase], str] = {
    **{("answer of COMMIT is lost", phase): IN_TRANSIT for phase in ON_ITS_WAY if phase not in AT_HOST},
    **{("answer of COMMIT is lost", phase): NO_COMMIT for phase in AT_HOST},
    **{("answer of the agent is lost", phase): NO_COMMAND for phase in Phase if phase not in AT_HOST},
    **{
        ("messages come twice", phase): ONCE
        for phase in (Phase.ACCEPTING, Phase.CLAIMING, Phase.BEGUN, Phase.DONE, Phase.FINISHING)
    },
    ("cancel", Phase.ACCEPTING): "there is no job yet that could be cancelled",
    ("deadline passes", Phase.ACCEPTING): "the deadline counts from the acceptance",
    ("deadline passes", Phase.FINISHED): "the job has ended",
}


@dataclass(frozen=True)
class Cell:
    """``sender``: the fault befalls the node that sends the command, not the owner of the job. ``late``: what is on
    its way arrives long after the fault."""

    fault: str
    phase: Phase
    sender: bool = False
    late: bool = False

    def __str__(self) -> str:
        more = "-of the sender" * self.sender + "-late" * self.late
        return f"{self.fault}-{self.phase}{more}"


def live() -> Iterator[Cell]:
    """All cells that mean something, with their variants."""
    for fault in FAULTS:
        for phase in Phase:
            if (fault, phase) in DEAD:
                continue
            yield Cell(fault, phase)
            if fault in NODE_FAULTS and phase in AT_HOST:
                yield Cell(fault, phase, sender=True)
            if fault in NODE_FAULTS and phase in ON_ITS_WAY:
                yield Cell(fault, phase, sender=phase is Phase.SENDING, late=True)


def expected(cell: Cell) -> frozenset[str]:
    """How the create may end. Only who asks for that makes it fail."""
    match cell.fault:
        case "deadline passes":
            # One that passes while the end is being written comes before it or after it.
            return frozenset({"Failed", "Succeeded"} if cell.phase is Phase.FINISHING else {"Failed"})
        case "cancel":
            return frozenset({"Cancelled", "Succeeded"} if cell.phase in LATE_FOR_A_CANCEL else {"Cancelled"})
        case _:
            return frozenset({"Succeeded"})
