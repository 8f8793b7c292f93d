"""A world: some nodes, their database, their broker, the lines to the hosts, and what goes wrong with all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol, TypeVar

from mgmtnode.agents.local import LocalAgents
from mgmtnode.agents.port import AgentEndpoint
from mgmtnode.cluster import survey
from mgmtnode.cluster.records import PRESENT
from mgmtnode.config import core_properties as core
from mgmtnode.config.file import Properties
from mgmtnode.db.session import Tx
from mgmtnode.errors import UNAVAILABLE, ApiError
from mgmtnode.jobs.repository import Fenced
from mgmtnode.node import ManagementNode
from mgmtnode.serve import EVICTED, live
from mgmtnode.service import ServiceManifest
from mgmtnode.testing.simulation.agents import DistantAgent
from mgmtnode.testing.simulation.database import DatabaseServer, SimulatedDatabase
from mgmtnode.testing.simulation.faults import Fault, FaultKind
from mgmtnode.testing.simulation.lines import Line, Lines, Spell, Weather
from mgmtnode.testing.simulation.loop import WORLD, VirtualLoop
from mgmtnode.testing.simulation.network import Network
from mgmtnode.testing.simulation.node import SimulatedNode
from mgmtnode.testing.simulation.ports import SeededRng, VirtualClock
from mgmtnode.testing.simulation.scale import BATCH
from mgmtnode.testing.simulation.trace import Trace

T = TypeVar("T")

DATABASE = "database"
STANDS_UP_AGAIN = 1.0  # seconds until what supervises a node starts it again after it ended by itself
QUEUE_STAYS = 60.0  # seconds that the queue of a dead node goes on to swallow messages, at most
CLIENT_WAITS = 10.0


class WentWrong(Exception):
    """Something happened that must not."""


class Hosts(Protocol):
    """The machines below: what the domain simulates. ``names`` in a fixed order."""

    scheme: str
    names: Sequence[str]

    def find(self, name: str) -> AgentEndpoint: ...

    def name_of(self, address: str) -> str: ...

    def strike(self, fault: Fault) -> None: ...

    def heal(self) -> None: ...


@dataclass
class Life:
    """One process of a node, from its start to its end. ``id`` is what the loop calls it."""

    name: str
    id: str
    node: SimulatedNode
    told: asyncio.Event = field(default_factory=asyncio.Event)
    up: bool = False
    over: bool = False


@dataclass
class Machine:
    """Where a node runs: its lives follow each other, unless one is superseded while it stands still. ``wanted``:
    what supervises it starts it again, ``delay`` seconds after it ended."""

    name: str
    clock: VirtualClock
    lives: list[Life] = field(default_factory=list)
    wanted: bool = True
    delay: float = STANDS_UP_AGAIN
    killed_at: float | None = None

    @property
    def life(self) -> Life | None:
        return self.lives[-1] if self.lives and not self.lives[-1].over else None


class World:
    """Made outside of the loop, run by ``loop.run_until_complete``. ``wrong`` collects what must not happen.
    ``environment``: how every node is configured, besides its name."""

    def __init__(
        self,
        seed: int,
        server: DatabaseServer,
        manifests: Sequence[ServiceManifest],
        hosts: Callable[[World], Hosts],
        environment: Mapping[str, str],
    ) -> None:
        self.seed = seed
        self.loop = VirtualLoop(Random(f"{seed} loop"))
        self.loop.set_exception_handler(self._unhandled)
        self.trace = Trace(self.loop.time)
        self.wrong: list[str] = []
        self.hasty = False  # the first thing that is wrong ends the schedule
        self.rng = Random(f"{seed} world")
        self.lines = Lines(seed)
        self.server = server
        self.network = Network(self.loop, self.lines, self.trace)
        self.machines: dict[str, Machine] = {}
        self._manifests, self._environment = manifests, environment
        self.hosts = hosts(self)

    # what goes on

    def start(self, name: str) -> Life:
        """Starts a process of the node, and again whenever it ends by itself."""
        machine = self.machines.setdefault(name, Machine(name, VirtualClock(self.loop)))
        machine.wanted = True
        life = Life(name, f"{name}#{len(machine.lives) + 1}", self._build(machine))
        machine.lives.append(life)
        self.trace(life.id, "starts")
        living = self.loop.spawn(self._live(life), life.id)
        living.add_done_callback(lambda task: self._ended(life, task), context=self.loop.context_of(WORLD))
        return life

    def kill(self, life: Life, why: str = "is killed") -> None:
        """SIGKILL."""
        self.trace(life.id, why)
        life.over, life.up = True, False
        self.machines[life.name].killed_at = self.loop.time()
        self.loop.kill(life.id)
        bus = getattr(life.node, "bus", None)
        if bus is not None:
            stays = self.rng.uniform(0, QUEUE_STAYS)
            self._later(stays, self.network.leave, bus.transport.address)

    def stop(self, life: Life) -> None:
        """SIGTERM."""
        self.trace(life.id, "is told to stop")
        self.loop.call_soon(life.told.set, context=self.loop.context_of(life.id))

    async def until_up(self, name: str) -> Life:
        """The life of the node that serves. Raises WentWrong."""
        while True:
            if self.wrong:
                raise WentWrong(self.wrong[0])
            life = self.machines[name].life
            if life is not None and life.up:
                return life
            await asyncio.sleep(0.1)

    def up(self) -> list[Life]:
        """The lives that serve."""
        return [m.life for m in self.machines.values() if m.life is not None and m.life.up]

    async def ask(self, name: str, question: Callable[[SimulatedNode], Awaitable[T]]) -> T:
        """What a client hears of a node: the answer, or core.unavailable, and then nobody knows whether it was done.
        Other errors of the node come through as they are."""
        line = self.lines.line("client", name)
        life = self.machines[name].life
        there = line.there()
        if life is None or not life.up or there is None:
            await asyncio.sleep(0.1)
            raise UNAVAILABLE.error(f"{name} cannot be reached")
        answer: asyncio.Future[T] = self.loop.create_future()
        here = self.loop.context_of(WORLD)

        def begin() -> None:
            task = self.loop.create_task(question(life.node))
            task.add_done_callback(lambda done: self._reply(line, answer, done), context=here)

        self.loop.call_later(there, begin, context=self.loop.context_of(life.id))
        timer = self.loop.call_later(CLIENT_WAITS, _give_up, answer, name)
        try:
            return await answer
        finally:
            timer.cancel()

    # what goes wrong

    def strike(self, fault: Fault) -> None:
        self.trace(WORLD, f"fault: {fault.kind} {fault.target} {fault.what}".rstrip())
        match fault.kind:
            case FaultKind.LINE:
                self._weather(fault.target, Spell(Weather(fault.what), fault.amount), fault.seconds)
            case FaultKind.DATABASE:
                weather = Weather.REFUSED if fault.what == "refused" else Weather.CUT
                self._weather(f"*>{DATABASE}", Spell(weather, 1.0), fault.seconds)
            case FaultKind.BROKER:
                self.network.stop_broker()
                self.loop.call_later(fault.seconds, self._broker_back)
            case FaultKind.HOST:
                self.hosts.strike(fault)
            case FaultKind.CLOCK:
                self.machines[fault.target].clock.offset += fault.amount
            case FaultKind.JOIN:
                self._stand_up(fault.target) if fault.target in self.machines else self.start(fault.target)
            case _:
                self._strike_node(fault)

    def heal(self) -> None:
        """Everything works from now on."""
        self.trace(WORLD, "everything is well again")
        self.lines.heal()
        while self.network.down:
            self._broker_back()
        self.hosts.heal()
        for machine in self.machines.values():
            for life in machine.lives:
                while self.loop.paused(life.id):
                    self.loop.resume(life.id)
            if machine.wanted and machine.life is None:
                self.start(machine.name)

    def fail(self, what: str) -> None:
        """Something happened that must not."""
        if what not in self.wrong:
            self.wrong.append(what)
            self.trace(WORLD, f"WRONG: {what}")
            if self.hasty:
                self.loop.abort(WentWrong(what))

    def end(self) -> None:
        for error in self.loop.lost_failures():
            self.fail(f"a task died and nobody looked: {error!r}")
        self.loop.end()

    # inside

    def _build(self, machine: Machine) -> SimulatedNode:
        name, number = machine.name, len(machine.lives) + 1
        own = {
            core.NODE_NAME.env: name,
            core.BUS_URL.env: "amqp://simulated",
            core.SLOTS_AT_ONCE.env: str(BATCH),
        }
        properties = Properties(environ={**self._environment, **own})
        agents = LocalAgents()
        agents.serve(self.hosts.scheme, lambda address: self._distant(name, address))
        return SimulatedNode(
            properties,
            self._manifests,
            clock=machine.clock,
            rng=SeededRng(f"{self.seed} {name} {number}"),
            agents=agents,
            database=SimulatedDatabase(
                self.server,
                self.loop,
                self.lines.line(name, DATABASE),
                machine.clock,
                lambda work, answered: self._transacted(f"{name}#{number}", work, answered),
            ),
            network=self.network,
        )

    def _distant(self, name: str, address: str) -> AgentEndpoint:
        host = self.hosts.name_of(address)
        return DistantAgent(self.loop, self.lines, name, host, lambda: self.hosts.find(host))

    async def _live(self, life: Life) -> int:
        async def ready(node: ManagementNode) -> None:
            life.up = True
            self.trace(life.id, "serves")

        return await live(
            life.node, life.told, ready, grace=0.0, abort=lambda code: self._aborted(life, code)
        )

    def _ended(self, life: Life, task: asyncio.Task[int]) -> None:
        if life.over:
            return
        error = None if task.cancelled() else task.exception()
        if error is None:
            self.kill(life, f"has ended with {task.result()}")
        else:
            self.kill(life, f"did not start: {error!r}")
            if not isinstance(error, ApiError | Fenced):
                self.fail(f"{life.id} did not start: {error!r}")
        if isinstance(error, Fenced) or (error is None and task.result() == EVICTED):
            self._check_evicted(life)
        machine = self.machines[life.name]
        self.loop.call_later(machine.delay, self._stand_up, life.name)
        machine.delay = STANDS_UP_AGAIN

    def _aborted(self, life: Life, code: int) -> None:
        self.kill(life, f"aborts with {code}")
        self._check_evicted(life)
        self._later(STANDS_UP_AGAIN, self._stand_up, life.name)

    def _later(self, seconds: float, act: Callable[[str], None], whom: str) -> None:
        """Whoever says it, and though that may be dead by then."""
        self.loop.call_later(seconds, act, whom, context=self.loop.context_of(WORLD))

    def _check_evicted(self, life: Life) -> None:
        """A node that ends because the cluster goes on without it is right about that."""
        incarnation = life.node.membership.incarnation
        rows = self.server.rows("SELECT incarnation, state FROM mn_node WHERE name = ?", life.name)
        if any(row == (incarnation, state) for row in rows for state in PRESENT):
            self.fail(f"{life.id} ends as if it were evicted, and it is not")

    def _stand_up(self, name: str) -> None:
        machine = self.machines[name]
        if machine.wanted and machine.life is None:
            self.start(name)

    def _strike_node(self, fault: Fault) -> None:
        life = self.machines[fault.target].life
        if life is None:
            return
        match fault.kind:
            case FaultKind.KILL:
                self.kill(life)
                self.loop.call_later(fault.seconds, self._stand_up, life.name)
            case FaultKind.PAUSE:
                self._pause(life, fault.seconds)
            case FaultKind.RESTART:
                self.machines[life.name].delay = fault.seconds
                self.stop(life)
            case FaultKind.LEAVE:
                self.machines[life.name].wanted = not self._others(life)
                self.stop(life)
            case FaultKind.DRAIN:
                self._by_operator(survey.drain, life)
                self.loop.call_later(fault.seconds, self._strike_again, fault)
            case FaultKind.EVICT:
                self._by_operator(survey.evict, life)
            case FaultKind.SUPERSEDE:
                self._pause(life, fault.seconds)
                self.start(life.name)
                self.loop.call_later(fault.seconds + 20.0, self._end_late, life)

    def _others(self, life: Life) -> bool:
        """Whether any other node is to be there."""
        return any(machine.wanted for machine in self.machines.values() if machine.name != life.name)

    def _by_operator(self, act: Callable[[Tx, str], bool], life: Life) -> None:
        """In the database, as ``mgmtnode cluster`` does it."""
        self.server.run(lambda tx: act(tx, life.name), VirtualClock(self.loop), None, "operator")

    def _strike_again(self, drained: Fault) -> None:
        life = self.machines[drained.target].life
        if life is not None:
            self.stop(life)

    def _pause(self, life: Life, seconds: float) -> None:
        self.loop.pause(life.id)
        self.loop.call_later(seconds, self._resume, life)

    def _resume(self, life: Life) -> None:
        if not life.over:
            self.trace(life.id, "goes on")
            self.loop.resume(life.id)

    def _end_late(self, life: Life) -> None:
        if not life.over:
            self.kill(life)

    def _weather(self, lines: str, spell: Spell, seconds: float) -> None:
        self.lines.begin(lines, spell)
        self.loop.call_later(seconds, self.lines.end, spell)

    def _broker_back(self) -> None:
        if self.network.down:
            self.network.start_broker()

    def _transacted(self, life: str, work: str, answered: bool) -> None:
        if not answered:
            self.trace(life, f"COMMIT of {work} is answered to nobody")

    def _reply(self, line: Line, answer: asyncio.Future[Any], done: asyncio.Task[Any]) -> None:
        back = line.back()
        error = None if done.cancelled() else done.exception()
        if not done.cancelled() and back is not None:
            self.loop.call_later(back, _settle, answer, done, error)

    def _unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "never retrieved" in context["message"] and isinstance(error, ApiError):
            return  # a node that was killed between an answer and whoever waited for it
        self.fail(f"unhandled: {context.get('message')}: {error!r}")


def _settle(answer: asyncio.Future[Any], done: asyncio.Task[Any], error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(done.result())
    else:
        answer.set_exception(error)


def _give_up(answer: asyncio.Future[Any], name: str) -> None:
    if not answer.done():
        answer.set_exception(UNAVAILABLE.error(f"{name} has not answered in time"))
