"""One cell of the matrix: a create on three nodes, one fault at one place, and whether all holds in the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from mgmtnode.jobs.job import SYSTEM
from mgmtnode.testing.simulation.scale import small_world
from mgmtnode.testing.simulation.world import World
from tests.matrix.cells import DEADLINE, FAULTS, LATE, Cell, Moment
from tests.matrix.points import AT_HOST, Phase, watched
from tests.simulation.clients import Clients
from tests.simulation.invariants import Watch, at_the_end
from tests.simulation.mutants import mutated
from tests.simulation.rack import Rack
from tests.simulation.running import play, quiet
from tests.simulation.schedule import Ask, Kind
from tests.simulation.site import Site, site

NODES = 3
SEED = 7
CREATE = Ask(at=3.0, client=0, kind=Kind.CREATE, of=0)
AFTER = Ask(at=3.0, client=0, kind=Kind.REBOOT, of=0)  # asked once the create has ended
LOOK = 0.5


@dataclass
class Outcome:
    """``ended``: how the create did; ``struck``: when the fault struck, None if its place was not reached;
    ``passed``: the places, as they were reached first."""

    wrong: list[str]
    trace: str
    struck: float | None
    ended: str
    seconds: float
    passed: list[Phase]


def run(cell: Cell | None, mutant: str = "") -> Outcome:
    """None: nothing goes wrong."""
    with small_world():
        ground = site()
        with mutated(mutant):
            return Play(ground, cell).run()


@dataclass
class Play:
    ground: Site
    cell: Cell | None
    struck: float | None = None
    over: float = 0.0
    host: str = ""
    sender: str = ""
    passed: dict[Phase, None] = field(default_factory=dict)
    world: World = field(init=False)
    clients: Clients = field(init=False)

    def run(self) -> Outcome:
        world = self.world = self.ground.world(SEED)
        self.clients = Clients(world, self.ground)
        world.server.audit = Watch(world)
        with watched(self._reached):
            play(world, self._play())
        ends = world.server.rows("SELECT state FROM job WHERE api = 'vm.create' ORDER BY seq")
        ended = ends[0][0] if ends else "never accepted"
        return Outcome(
            world.wrong, world.trace.text(), self.struck, ended, world.loop.time(), list(self.passed)
        )

    async def _play(self) -> None:
        world = self.world
        assert isinstance(world.hosts, Rack)
        world.hosts.power_on()
        for number in range(1, NODES + 1):
            world.start(f"n{number}")
        deadline = DEADLINE if self.cell and self.cell.fault == "deadline passes" else 0.0
        create = Ask(at=CREATE.at, client=0, kind=Kind.CREATE, of=0, deadline=deadline)
        at_work = world.loop.spawn(self.clients.run([create, AFTER]))
        await asyncio.sleep(CREATE.at + LOOK)
        while self.over > world.loop.time() or (self.struck is None and not at_work.done()):
            await asyncio.sleep(LOOK)
        world.heal()
        await at_work
        at_work.result()
        await quiet(world)
        for what in at_the_end(world, self.clients):
            world.fail(what)

    # the fault

    def _reached(self, phase: Phase, who: str, host: Any) -> float:
        world, cell = self.world, self.cell
        self.passed[phase] = None
        if phase in AT_HOST:
            self.host = self.host or str(host)
        if phase is Phase.SENDING:
            self.sender = self.sender or who
        if cell is None or self.struck is not None or phase is not cell.phase:
            return 0.0
        self.struck = world.loop.time()
        life = self._befallen(who)
        world.trace("world", f"{cell} at {life}")
        faults = FAULTS[cell.fault](Moment(self.struck, life.partition("#")[0], self._host(phase)))
        for fault in faults:
            world.strike(fault)
        self.over = self.struck + max([fault.seconds for fault in faults], default=0.0)
        self.over += LATE if cell.late else 0.0
        if not faults:
            world.loop.spawn(self._client())
        return LATE if cell.late else 0.0

    def _befallen(self, who: str) -> str:
        """The owner of the job, or who sends its command."""
        assert self.cell is not None
        if self.cell.phase not in AT_HOST:
            return who
        if self.cell.sender:
            return self.sender
        ((owner,),) = self.world.server.rows("SELECT owner_node FROM job WHERE api = 'vm.create'")
        return str(owner)

    def _host(self, phase: Phase) -> str:
        """The VM's. Not where it is too late for its command to be meant."""
        return "" if phase is Phase.DONE and self.cell and self.cell.fault == "deadline passes" else self.host

    async def _client(self) -> None:
        """What a client does at this very moment."""
        assert self.cell is not None
        promise, ask = self.clients.promises[0], CREATE
        if self.cell.fault == "cancel":
            ((uuid,),) = self.world.server.rows("SELECT uuid FROM job WHERE api = 'vm.create'")
            await self.clients._persist(lambda jobs: jobs.cancel(uuid, SYSTEM))
            return
        message = self.clients._message(ask)
        assert message is not None
        await self.clients._accepted(promise, message)
