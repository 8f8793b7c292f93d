"""Running one schedule: a world, its clients, its faults, its healing, and what was wrong."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgmtnode.errors import ApiError
from mgmtnode.testing.simulation.loop import Deadlock, Livelock
from mgmtnode.testing.simulation.node import SimulatedNode
from mgmtnode.testing.simulation.scale import small_world
from mgmtnode.testing.simulation.world import WentWrong, World
from services.host.service import HostService
from tests.simulation.clients import Clients
from tests.simulation.invariants import OPEN, Books, Watch, at_the_end
from tests.simulation.mutants import mutated
from tests.simulation.rack import Rack
from tests.simulation.schedule import Schedule
from tests.simulation.site import Site, site
from tests.simulation.telling import readable

LONGEST = 400.0  # seconds that all may take to be quiet, once everything works again
LOOK = 1.5
SOON = 1.0  # what arrives by then has nothing to do with a fault
CALM = 4  # so many looks in a row find nothing open


@dataclass(frozen=True)
class Outcome:
    """``wrong``: what must not have happened, the first first. ``takeovers``: seconds from each node's end until others
    had its slots, one for each slot. ``names``: of VMs, hosts and jobs, by uuid."""

    schedule: Schedule
    wrong: list[str]
    trace: str
    digest: str
    seconds: float
    steps: int
    jobs: int
    deeds: int
    takeovers: list[float]
    names: dict[str, str]

    def told(self) -> list[str]:
        """The trace, and what was wrong, for people."""
        wrong = (f"WRONG: {what}" for what in self.wrong)
        return list(readable("\n".join((*self.trace.splitlines(), *wrong)), self.names))


class Alarm(logging.Handler):
    """An exception that the product logs, and that is not one of its own errors, is one that nobody foresaw."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, ApiError) and not self._world.loop.over:
            self._world.fail(f"logged: {record.getMessage()}: {error!r} {_where(error)}")


def _where(error: BaseException) -> str:
    """The last calls that led to it, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)


def run(schedule: Schedule, mutant: str = "", *, hasty: bool = False) -> Outcome:
    """``mutant``: the guard that is off. ``hasty``: the first thing that is wrong ends it."""
    with small_world():
        ground = site()
        with mutated(mutant):
            return _run(schedule, ground, hasty)


def play(world: World, story: Coroutine[Any, Any, None]) -> None:
    """Runs a story in the world, to its end or to that of the world: what goes wrong is noted there."""
    alarm = Alarm(world)
    logging.getLogger().addHandler(alarm)
    try:
        world.loop.run_until_complete(story)
    except (Deadlock, Livelock) as exc:
        world.fail(f"I16 {exc!r}")
    except WentWrong:
        pass  # it is in the trace
    finally:
        world.end()
        logging.getLogger().removeHandler(alarm)


def _run(schedule: Schedule, ground: Site, hasty: bool) -> Outcome:
    world = ground.world(schedule.seed)
    world.hasty = hasty
    clients = Clients(world, ground)
    watch = world.server.audit = Watch(world)
    gc.disable()
    try:
        play(world, _play(world, clients, schedule))
    finally:
        gc.enable()
    assert isinstance(world.hosts, Rack)
    return Outcome(
        schedule,
        world.wrong,
        world.trace.text(),
        world.trace.digest(),
        world.loop.time(),
        world.loop.steps,
        watch.accepted,
        len(world.hosts.deeds),
        watch.takeovers,
        _names(world, clients),
    )


def _names(world: World, clients: Clients) -> dict[str, str]:
    vms = {uuid: f"vm-{number}" for number, uuid in clients.vms.items()}
    hosts = {uuid: f"host-{number + 1}" for number, uuid in enumerate(clients.hosts)}
    return vms | hosts | {uuid: f"job-{seq}" for uuid, seq in world.server.rows("SELECT uuid, seq FROM job")}


async def _play(world: World, clients: Clients, schedule: Schedule) -> None:
    assert isinstance(world.hosts, Rack)
    world.hosts.power_on()
    for number in range(1, schedule.nodes + 1):
        world.start(f"n{number}")
    for fault in schedule.faults:
        world.loop.call_at(fault.at, world.strike, fault)
    at_work = world.loop.spawn(clients.run(schedule.asks))
    over = max((fault.at + fault.seconds for fault in schedule.faults), default=0.0)
    await asyncio.wait((at_work,), timeout=over)
    await asyncio.sleep(max(0.0, over - world.loop.time()))
    world.heal()
    await at_work
    at_work.result()
    await clients.enable_again()
    await quiet(world)
    for what in at_the_end(world, clients):
        world.fail(what)


async def quiet(world: World) -> None:
    """Returns once nothing is open, owed, unknown or on its way, also after each host was asked what it runs."""
    until, calm = world.loop.time() + LONGEST, 0
    while world.loop.time() < until and calm < CALM:
        await asyncio.sleep(LOOK)
        assert isinstance(world.hosts, Rack)
        open_jobs = world.server.rows(f"SELECT 1 FROM job WHERE state IN {OPEN} LIMIT 1")
        late = world.lines.under_way or world.lines.busy_until > world.loop.time() + SOON
        if open_jobs or world.hosts.at_work or late or any(Books(world).unsettled()):
            calm = 0
            continue
        calm += 1
        for life in world.up():
            world.loop.call_soon(_ask_hosts, life.node, context=world.loop.context_of(life.id))


def _ask_hosts(node: SimulatedNode) -> None:
    """Now, instead of when their next ping is due."""
    watcher = next(service.watcher for _, service in node.parts.services if isinstance(service, HostService))
    for uuid in watcher.rounds:
        watcher.rounds.poke(uuid)
