"""What a seed stands for: what clients ask and what goes wrong, as data that can be printed and made smaller."""

from __future__ import annotations

from enum import StrEnum
from random import Random

import msgspec

from mgmtnode.testing.simulation.faults import Fault, FaultKind
from mgmtnode.testing.simulation.lines import Weather
from tests.simulation.rack import HOSTS

BUSY = 25.0  # seconds in which faults begin
VMS = (3, 6)
FAULTS = (2, 7)
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
    DESTROY = "destroy"
    MAINTAIN = "maintain"
    ENABLE = "enable"


class Ask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request. ``of``: the VM (by the number of its create) or host it is about. ``twice``: sent to two nodes at
    once under one key. ``hasty``: the client does not wait for the job's end. ``cancel``, ``deadline``: seconds."""

    at: float
    client: int
    kind: Kind
    of: int
    twice: bool = False
    hasty: bool = False
    cancel: float = 0.0
    deadline: float = 0.0

    def __str__(self) -> str:
        words = [f"{self.at:7.2f} client {self.client}: {self.kind} {self.of}"]
        words += [name for name in ("twice", "hasty") if getattr(self, name)]
        words += [f"{name} {getattr(self, name):g}" for name in ("cancel", "deadline") if getattr(self, name)]
        return ", ".join(words)


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
    Kind.DESTROY: 3,
}


CHANCES = {
    FaultKind.KILL: 22,
    FaultKind.PAUSE: 20,
    FaultKind.RESTART: 6,
    FaultKind.DRAIN: 3,
    FaultKind.JOIN: 5,
    FaultKind.SUPERSEDE: 8,
    FaultKind.LINE: 25,
    FaultKind.DATABASE: 4,
    FaultKind.BROKER: 3,
    FaultKind.CLOCK: 3,
    FaultKind.HOST: 18,
}


def draw(seed: int, nodes: int = 0) -> Schedule:
    """``nodes``: how many there are at the start; 0 leaves it to the seed."""
    rng = Random(f"{seed} schedule")
    nodes = nodes or rng.choice((1, 2, 3, 3, 3, 4))
    asks = [ask for vm in range(rng.randint(*VMS)) for ask in _life_of(rng, vm)]
    if rng.random() < 0.2:
        asks += _maintenance(rng)
    faults = [_fault(rng, nodes, asks) for _ in range(rng.randint(*FAULTS))]
    if rng.random() < LATE:
        late = round(rng.uniform(4, 20), 3)
        faults.append(
            Fault(
                at=0.0, kind=FaultKind.LINE, target="*>host-*", what=Weather.LATE, seconds=BUSY, amount=late
            )
        )
    if rng.random() < WRONG_CLOCKS:
        faults += [_clock(rng, 0.0, f"n{number}") for number in range(1, nodes + 1)]
    return Schedule(
        seed=seed,
        nodes=nodes,
        asks=sorted(asks, key=lambda ask: ask.at),
        faults=sorted(faults, key=lambda fault: fault.at),
    )


def _life_of(rng: Random, vm: int) -> list[Ask]:
    at = rng.uniform(0.5, BUSY * 0.6)
    asks = [_ask(rng, at, vm, Kind.CREATE, vm)]
    for _ in range(rng.randint(1, 4)):
        at += rng.choice((0.05, 1.0, 3.0, 8.0)) * rng.uniform(0.5, 1.5)
        kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
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
        twice=rng.random() < 0.15,
        hasty=rng.random() < 0.3,
        cancel=round(rng.choice((0.5, 2.0, 6.0)) * rng.uniform(0.1, 1.5), 3)
        if rng.random() < cancelled
        else 0.0,
        deadline=round(rng.uniform(1.0, 12.0), 3) if rng.random() < 0.1 else 0.0,
    )


def _maintenance(rng: Random) -> list[Ask]:
    host, at = rng.randrange(HOSTS), rng.uniform(5, BUSY)
    after = at + rng.uniform(1, 15)
    return [
        Ask(at=round(at, 3), client=200, kind=Kind.MAINTAIN, of=host),
        Ask(at=round(after, 3), client=200, kind=Kind.ENABLE, of=host),
    ]


def _fault(rng: Random, nodes: int, asks: list[Ask]) -> Fault:
    aim = rng.choice(asks).at + rng.uniform(0.0, 2.5) if rng.random() < AIMED else rng.uniform(1.0, BUSY)
    at = round(min(aim, BUSY), 3)
    node = f"n{rng.randint(1, nodes)}"
    host = f"host-{rng.randint(1, HOSTS)}"
    match rng.choices(list(CHANCES), list(CHANCES.values()))[0]:
        case FaultKind.KILL:
            return Fault(at=at, kind=FaultKind.KILL, target=node, seconds=rng.choice((0.2, 2.0, 10.0)))
        case FaultKind.PAUSE | FaultKind.SUPERSEDE as kind:
            return Fault(at=at, kind=kind, target=node, seconds=round(rng.uniform(0.5, 25), 3))
        case FaultKind.RESTART:
            return Fault(at=at, kind=FaultKind.RESTART, target=node, seconds=rng.choice((0.2, 3.0, 15.0)))
        case FaultKind.DRAIN:
            return Fault(at=at, kind=FaultKind.DRAIN, target=node, seconds=round(rng.uniform(2, 15), 3))
        case FaultKind.JOIN:
            return Fault(at=at, kind=FaultKind.JOIN, target=f"n{nodes + rng.randint(1, 2)}")
        case FaultKind.LINE:
            return _weather(rng, at, node, host)
        case FaultKind.DATABASE | FaultKind.BROKER as kind:
            return Fault(at=at, kind=kind, seconds=round(rng.uniform(0.5, 15), 3))
        case FaultKind.CLOCK:
            return _clock(rng, at, node)
        case _:
            what = rng.choice(("crash", "crash before", "crash after", "crash after", "disk", "fail", "vm"))
            seconds = round(rng.uniform(0.3, 15), 3) if what.startswith("crash") else 0.0
            return Fault(at=at, kind=FaultKind.HOST, target=host, what=what, seconds=seconds)


def _clock(rng: Random, at: float, node: str) -> Fault:
    return Fault(at=at, kind=FaultKind.CLOCK, target=node, amount=round(rng.uniform(-SKEW, SKEW), 3))


def _weather(rng: Random, at: float, node: str, host: str) -> Fault:
    weather = rng.choice([weather for weather in Weather if weather is not Weather.LATE])
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
        )
    )
    amount = round(rng.uniform(5, 30), 3) if weather is Weather.SLOW else round(rng.uniform(0.2, 0.8), 3)
    seconds = round(rng.uniform(1, 20), 3)
    return Fault(at=at, kind=FaultKind.LINE, target=lines, what=weather, seconds=seconds, amount=amount)
