"""What a seed stands for: what clients ask and what goes wrong, as data that can be printed and made smaller."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from random import Random
from typing import TypeVar

import msgspec

from mgmtnode.testing.simulation.faults import Fault, FaultKind
from mgmtnode.testing.simulation.lines import Weather
from tests.simulation.rack import HOSTS

K = TypeVar("K")

BUSY = 18.0  # seconds in which faults begin
VMS = (3, 6)
FAULTS = (2, 7)
NODES = {1: 5, 2: 15, 3: 50, 4: 20, 5: 10}
OUTAGE = 0.05  # how many schedules have all nodes killed at once
AGAIN = 0.25  # how many faults strike while others may still deal with the one before
LATE = 0.6  # how many schedules have commands that come late, which is what fences are for
WRONG_CLOCKS = 0.3  # how many have nodes whose wall clocks differ from the start
SKEW = 20.0  # seconds that they are wrong by, either way, at most
AIMED = 0.7  # how many of the nodes' faults strike just after a request


class Kind(StrEnum):
    CREATE = "create"
    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    PAUSE = "pause"
    RESUME = "resume"
    MIGRATE = "migrate"
    RESIZE = "resize"
    ATTACH = "attach"
    DETACH = "detach"
    DESTROY = "destroy"
    RECOVER = "recover"
    EXPUNGE = "expunge"
    MAINTAIN = "maintain"
    ENABLE = "enable"
    DISABLE = "disable"
    RECONNECT = "reconnect"
    REMOVE = "remove"  # a host
    ADD = "add"  # it again
    RAZE = "raze"  # the zone, with all that is in it
    CONFIGURE = "configure"


HOST_KINDS = (Kind.MAINTAIN, Kind.ENABLE, Kind.DISABLE, Kind.RECONNECT, Kind.REMOVE, Kind.ADD)
OPTIONS = (
    ("vm.deletion_policy", "Delay"),
    ("vm.deletion_policy", "Never"),
    ("vm.stranger_policy", "Destroy"),
    ("vm.maintenance_policy", "JustMigrate"),
    ("vm.command_timeout", 3),
    ("job.queue_per_resource", 2),
)


class Ask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request. ``of``: the VM (by the number of its create), host or option it is about. ``how``: ``force``, or
    ``stopped`` for a VM that is only made, or ``to`` a certain host, ``host``. ``twice``: sent to two nodes at once
    under one key. ``hasty``: the client does not wait for the job's end. ``cancel``, ``deadline``: seconds."""

    at: float
    client: int
    kind: Kind
    of: int
    how: str = ""
    host: int = 0
    twice: bool = False
    hasty: bool = False
    cancel: float = 0.0
    deadline: float = 0.0

    def __str__(self) -> str:
        words = [f"{self.at:7.2f} client {self.client}: {self.kind} {self.what}"]
        words += [f"{self.how} host-{self.host + 1}" if self.how == "to" else self.how] if self.how else []
        words += [name for name in ("twice", "hasty") if getattr(self, name)]
        words += [f"{name} {getattr(self, name):g}" for name in ("cancel", "deadline") if getattr(self, name)]
        return ", ".join(words)

    @property
    def what(self) -> str:
        """What it is about, as traces call it."""
        if self.kind is Kind.RAZE:
            return "the zone"
        if self.kind is Kind.CONFIGURE:
            name, value = OPTIONS[self.of]
            return f"{name} = {value}"
        return f"host-{self.of + 1}" if self.kind in HOST_KINDS else f"vm-{self.of}"


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    nodes: int = 1
    asks: list[Ask]
    faults: list[Fault]


WEIGHTS = {
    Kind.START: 3,
    Kind.STOP: 3,
    Kind.MIGRATE: 4,
    Kind.REBOOT: 2,
    Kind.PAUSE: 1,
    Kind.RESUME: 1,
    Kind.RESIZE: 1,
    Kind.ATTACH: 1,
    Kind.DETACH: 1,
    Kind.DESTROY: 4,
    Kind.RECOVER: 0.5,
    Kind.EXPUNGE: 0.5,
}
OF_HOSTS = {Kind.MAINTAIN: 5, Kind.DISABLE: 1, Kind.RECONNECT: 2, Kind.REMOVE: 3}
MEND = {Kind.MAINTAIN: Kind.ENABLE, Kind.DISABLE: Kind.ENABLE, Kind.REMOVE: Kind.ADD}


CHANCES = {
    FaultKind.KILL: 22,
    FaultKind.PAUSE: 20,
    FaultKind.RESTART: 5,
    FaultKind.LEAVE: 3,
    FaultKind.DRAIN: 3,
    FaultKind.EVICT: 3,
    FaultKind.JOIN: 5,
    FaultKind.SUPERSEDE: 8,
    FaultKind.LINE: 30,
    FaultKind.DATABASE: 4,
    FaultKind.BROKER: 3,
    FaultKind.CLOCK: 3,
    FaultKind.HOST: 24,
}
HOST_FAULTS = {
    "crash": 2,
    "crash before": 3,
    "crash after": 5,
    "disk": 2,
    "fail": 3,
    "fails": 4,
    "hangs": 2,
    "vm": 2,
    "power": 2,
}
AT_ONCE = ("disk", "fail", "vm")
OF_DATABASE = (Weather.BROKEN, Weather.COLLIDES, Weather.STOPS)
OF_LINES = (Weather.CUT, Weather.DEAF, Weather.LOSSY, Weather.SLOW, Weather.TWICE)
HOW = {
    Kind.CREATE: ("", "", "", "stopped", "to"),
    Kind.START: ("", "", "to"),
    Kind.STOP: ("", "force"),
    Kind.MIGRATE: ("", "to"),
    Kind.DESTROY: ("", "", "force"),
}


def draw(seed: int, nodes: int = 0) -> Schedule:
    """``nodes``: how many there are at the start; 0 leaves it to the seed."""
    rng = Random(f"{seed} schedule")
    nodes = nodes or _choice(rng, NODES)
    asks = [ask for vm in range(rng.randint(*VMS)) for ask in _life_of(rng, vm)]
    asks += _operations(rng)
    faults: list[Fault] = []
    for _ in range(rng.randint(*FAULTS)):
        faults.append(_fault(rng, nodes, _when(rng, asks, faults)))
    if rng.random() < OUTAGE:
        at = _when(rng, asks, [])
        faults += [
            Fault(at=at, kind=FaultKind.KILL, target=f"n{number}", seconds=rng.choice((0.2, 2.0, 10.0)))
            for number in range(1, nodes + 1)
        ]
    if rng.random() < LATE:
        late = round(rng.uniform(4, 30), 3)
        line = {"kind": FaultKind.LINE, "target": "*>host-*", "what": Weather.LATE}
        faults.append(Fault(at=0.0, seconds=BUSY, amount=late, **line))
    if rng.random() < WRONG_CLOCKS:
        faults += [_clock(rng, 0.0, f"n{number}") for number in range(1, nodes + 1)]
    return Schedule(
        seed=seed,
        nodes=nodes,
        asks=sorted(asks, key=lambda ask: ask.at),
        faults=sorted(faults, key=lambda fault: fault.at),
    )


def _choice(rng: Random, weights: Mapping[K, float]) -> K:
    return rng.choices(list(weights), list(weights.values()))[0]


def _life_of(rng: Random, vm: int) -> list[Ask]:
    at = rng.uniform(0.5, BUSY * 0.6)
    asks = [_ask(rng, at, vm, Kind.CREATE, vm)]
    for _ in range(rng.randint(1, 4)):
        at += rng.choice((0.05, 1.0, 3.0, 8.0)) * rng.uniform(0.5, 1.5)
        kind = _choice(rng, WEIGHTS)
        client = vm if rng.random() < 0.7 else vm + 100
        asks.append(_ask(rng, at, client, kind, vm))
    return asks


def _ask(rng: Random, at: float, client: int, kind: Kind, of: int) -> Ask:
    cancelled = 0.35 if kind is Kind.MIGRATE else 0.15
    return Ask(
        at=round(at, 3),
        client=client,
        kind=kind,
        of=of,
        how=rng.choice(HOW[kind]) if kind in HOW else "",
        host=rng.randrange(HOSTS),
        twice=rng.random() < 0.15,
        hasty=rng.random() < 0.3,
        cancel=round(rng.choice((0.5, 2.0, 6.0)) * rng.uniform(0.1, 1.5), 3)
        if rng.random() < cancelled
        else 0.0,
        deadline=round(rng.uniform(1.0, 12.0), 3) if rng.random() < 0.1 else 0.0,
    )


def _operations(rng: Random) -> list[Ask]:
    """What operators do meanwhile, if they do."""
    asks = []
    if rng.random() < 0.25:
        host, at, kind = rng.randrange(HOSTS), rng.uniform(3, BUSY), _choice(rng, OF_HOSTS)
        cancel = round(rng.uniform(0.2, 8), 3) if rng.random() < 0.15 else 0.0
        asks.append(Ask(at=round(at, 3), client=200, kind=kind, of=host, cancel=cancel))
        if kind in MEND:
            after = at + rng.uniform(1, 15)
            asks.append(Ask(at=round(after, 3), client=200, kind=MEND[kind], of=host))
    if rng.random() < 0.15:
        option, at = rng.randrange(len(OPTIONS)), rng.choice((0.0, rng.uniform(3, BUSY)))
        asks.append(Ask(at=round(at, 3), client=201, kind=Kind.CONFIGURE, of=option))
    if rng.random() < 0.03:
        at = rng.uniform(10, BUSY + 5)
        asks.append(Ask(at=round(at, 3), client=202, kind=Kind.RAZE, of=0))
    return asks


def _when(rng: Random, asks: list[Ask], faults: list[Fault]) -> float:
    """Just after a request, or after another fault, or at any time."""
    if faults and rng.random() < AGAIN:
        at = faults[-1].at + rng.choice((0.05, 1.0, 9.0)) * rng.random()
    elif rng.random() < AIMED:
        at = rng.choice(asks).at + rng.uniform(0.0, 2.5)
    else:
        at = rng.uniform(1.0, BUSY)
    return round(min(at, BUSY), 3)


def _fault(rng: Random, nodes: int, at: float) -> Fault:
    node = f"n{rng.randint(1, nodes)}"
    host = f"host-{rng.randint(1, HOSTS)}"
    match _choice(rng, CHANCES):
        case FaultKind.KILL:
            return Fault(at=at, kind=FaultKind.KILL, target=node, seconds=rng.choice((0.2, 2.0, 10.0)))
        case FaultKind.PAUSE | FaultKind.SUPERSEDE as kind:
            return Fault(at=at, kind=kind, target=node, seconds=round(rng.uniform(0.5, 25), 3))
        case FaultKind.RESTART:
            return Fault(at=at, kind=FaultKind.RESTART, target=node, seconds=rng.choice((0.2, 3.0, 15.0)))
        case FaultKind.LEAVE | FaultKind.EVICT as kind:
            return Fault(at=at, kind=kind, target=node)
        case FaultKind.DRAIN:
            return Fault(at=at, kind=FaultKind.DRAIN, target=node, seconds=round(rng.uniform(2, 15), 3))
        case FaultKind.JOIN:
            return Fault(at=at, kind=FaultKind.JOIN, target=f"n{nodes + rng.randint(1, 2)}")
        case FaultKind.LINE:
            return _weather(rng, at, node, host)
        case FaultKind.DATABASE:
            how = rng.choice(("", "refused"))
            return Fault(at=at, kind=FaultKind.DATABASE, what=how, seconds=round(rng.uniform(0.5, 15), 3))
        case FaultKind.BROKER:
            return Fault(at=at, kind=FaultKind.BROKER, seconds=round(rng.uniform(0.5, 15), 3))
        case FaultKind.CLOCK:
            return _clock(rng, at, node)
        case _:
            what = _choice(rng, HOST_FAULTS)
            seconds = 0.0 if what in AT_ONCE else round(rng.uniform(0.3, 15), 3)
            return Fault(at=at, kind=FaultKind.HOST, target=host, what=what, seconds=seconds)


def _clock(rng: Random, at: float, node: str) -> Fault:
    return Fault(at=at, kind=FaultKind.CLOCK, target=node, amount=round(rng.uniform(-SKEW, SKEW), 3))


def _weather(rng: Random, at: float, node: str, host: str) -> Fault:
    if rng.random() < 0.2:
        weather, lines = rng.choice(OF_DATABASE), rng.choice((f"{node}>database", "*>database"))
        amount, seconds = round(rng.uniform(0.1, 0.6), 3), round(rng.uniform(1, 20), 3)
        return Fault(at=at, kind=FaultKind.LINE, target=lines, what=weather, seconds=seconds, amount=amount)
    weather = rng.choice(OF_LINES)
    lines = rng.choice(
        (
            f"{node}>{host}",
            f"{node}>*",
            f"*>{host}",
            f"{node}>database",
            "*>*",
            "client>*",
            f"*>{node}",
            f"{node}>n*",
            f"{node}<>n*",
        )
    )
    amount = round(rng.uniform(5, 30), 3) if weather is Weather.SLOW else round(rng.uniform(0.2, 0.8), 3)
    seconds = round(rng.uniform(1, 20), 3)
    return Fault(at=at, kind=FaultKind.LINE, target=lines, what=weather, seconds=seconds, amount=amount)
