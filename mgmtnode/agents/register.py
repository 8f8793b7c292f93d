"""The ordered command register: a host command happens at most once, in order, and only for the owner.

The rules, per resource (the cluster protocol, section on agents):

    fence lower than the highest seen      refused as stale
    order lower than the last              refused as old
    order equal, finished                  the stored outcome, failures too
    order equal, begun, not running        settled by probing the hypervisor
    order higher                           commit STARTED, do it, commit the outcome, reply
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Any

import msgspec

from mgmtnode.agents.backend import ABSENT, Backend, Settled
from mgmtnode.agents.port import (
    NEVER,
    OLD,
    REUSED,
    STALE,
    UNREACHABLE,
    Answer,
    Command,
    CommandState,
    Order,
    Sealed,
)
from mgmtnode.agents.repository import Outcome, Record, RegisterRepository
from mgmtnode.errors import OVERLOADED, ApiError, from_exception

log = logging.getLogger(__name__)
LIMIT = 16_384
REFUSALS = {STALE.id: "stale", OLD.id: "old", REUSED.id: "reused"}
Watch = Callable[[str, str, int, Order, str], None]


def unwatched(outcome: str, resource: str, fence: int, order: Order, action: str) -> None:
    """Nobody looks."""


@dataclass(frozen=True, slots=True)
class Running:
    """The task that works on a resource. That there is at most one of them is the resource's lock."""

    order: Order
    task: asyncio.Task[None]


class CommandRegister:
    """The register of one host. ``identity`` is used only if the file holds none yet.

    Commands go on when whoever sent them is gone. ``limit`` bounds how many run at once; more are refused
    with core.overloaded, before anything is written. ``watch(outcome, resource, fence, order, action)`` hears of
    what is ``started`` (once that is committed, before the effect), ``done`` or ``failed`` (once that is committed),
    ``sealed``, or refused as ``stale``, ``old`` or ``reused``.
    """

    def __init__(
        self,
        repository: RegisterRepository,
        backend: Backend,
        *,
        identity: str,
        limit: int = LIMIT,
        watch: Watch = unwatched,
    ) -> None:
        self._repository, self._backend, self._limit = repository, backend, limit
        self._watch = watch
        self._running: dict[str, Running] = {}
        self._stopped = self._replacing = False
        self.identity, self._floor, self._records = repository.load(identity)

    @property
    def in_flight(self) -> int:
        return len(self._running)

    async def command(self, command: Command, wait: float) -> Answer:
        """The outcome, or *running* after ``wait`` seconds; sending the same command again waits on."""
        deadline = asyncio.get_running_loop().time() + wait
        started: Running | None = None
        while True:
            record = self._let_in(command)
            running = self._running.get(command.resource)
            if running is None:
                if record.order == command.order and record.finished:
                    return await self._outcome(record, replayed=started is None)
                started = running = self._start(command.resource, command.order, self._work(record, command))
            if not await _ended(running, deadline):
                return Answer(running=True)
            if running is started:
                self._raise_failure(running)

    async def seal(self, resource: str, fence: int, wait: float) -> Sealed:
        """Raises the fence; returns the register once nothing runs, or *running* after ``wait`` seconds."""
        deadline = asyncio.get_running_loop().time() + wait
        probed = False
        while True:
            record = self._fence(resource, fence)
            running = self._running.get(resource)
            if running is None:
                if probed or record.state is not CommandState.STARTED:
                    break
                running, probed = self._start(resource, record.order, self._probe(record)), True
            if not await _ended(running, deadline):
                return Sealed(resource=resource, fence=fence, identity=self.identity, running=True)
        await self._keep_fence(record)
        self._watch("sealed", resource, fence, record.order, record.action)
        return self._sealed(record)

    def ended(self, floor: int, *, after: str, limit: int) -> dict[str, int]:
        """What could be forgotten below ``floor``, with its fence: the first ``limit`` resources behind ``after``."""
        behind = (r for r in self._records if r > after and self._forgettable(r, floor))
        return {resource: self._records[resource].fence for resource in nsmallest(limit, behind)}

    async def forget(self, floor: int, registers: Mapping[str, int]) -> int:
        """Drops those of the records (resource → fence) that have ended below ``floor`` and whose fence was not raised
        since, and refuses what is older than ``floor`` from now on."""
        self._floor = max(self._floor, floor)
        gone = [
            r for r, f in registers.items() if self._forgettable(r, floor) and self._records[r].fence == f
        ]
        for resource in gone:
            del self._records[resource]
        await self._repository.forget(floor, gone)
        return len(gone)

    async def replace(self, identity: str) -> None:
        """Another disk: no memory, and another identity. Commands that run are cut off, and none begins meanwhile."""
        self._replacing = True
        try:
            await self._cut_off()
            self._records, self._floor, self.identity = {}, 0, identity
            await self._repository.replace(identity)
        finally:
            self._replacing = False

    async def stop(self) -> None:
        """Ends like a crash: what runs is cut off, stays STARTED, and is settled by the next register on the
        file."""
        self._stopped = True
        await self._cut_off()

    async def _cut_off(self) -> None:
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _let_in(self, command: Command) -> Record:
        try:
            return self._admit(command)
        except ApiError as exc:
            self._refused(exc, command.resource, command.fence, command.order, command.action)
            raise

    def _fence(self, resource: str, fence: int) -> Record:
        try:
            return self._raise_fence(self._unfenced(resource, fence), fence)
        except ApiError as exc:
            self._refused(exc, resource, fence, NEVER, "seal")
            raise

    def _refused(self, exc: ApiError, *about: *tuple[str, int, Order, str]) -> None:
        if word := REFUSALS.get(exc.code):
            self._watch(word, *about)

    def _admit(self, command: Command) -> Record:
        """Refuses what the rules refuse. What is let in raises the fence at once: whoever waits here under a
        lower one will be refused."""
        resource, order = command.resource, command.order
        record = self._unfenced(resource, command.fence)
        if record.order == NEVER and order[0] < self._floor:
            raise OLD.error(
                f"order {order} is of a job that ended; {self._floor} may still run", resource=resource
            )
        if order < record.order:
            what = f"order {order} is behind {record.order}"
            raise OLD.error(what, resource=resource, behind=list(record.order))
        if order == record.order and command.action != record.action:
            what = f"{command.action} carries the order {order} of {record.action}"
            raise REUSED.error(what, resource=resource)
        return self._raise_fence(record, command.fence)

    def _unfenced(self, resource: str, fence: int) -> Record:
        """The record of ``resource``, a new one if there is none. Raises agent.stale."""
        if self._stopped or self._replacing:
            raise UNREACHABLE.error("the agent has stopped", resource=resource)
        record = self._records.get(resource) or Record(resource)
        if fence < record.fence:
            raise STALE.error(f"fence {fence} is behind {record.fence}", resource=resource)
        return record

    def _raise_fence(self, record: Record, fence: int) -> Record:
        record.fence = fence
        self._records[record.resource] = record
        return record

    def _start(self, resource: str, order: Order, work: Coroutine[Any, Any, None]) -> Running:
        if len(self._running) >= self._limit:
            work.close()
            raise OVERLOADED.error(f"the host runs {self._limit} commands already", retry_after=1.0)
        running = Running(order, asyncio.create_task(work))
        self._running[resource] = running
        running.task.add_done_callback(lambda task: self._done(resource, task))
        return running

    def _raise_failure(self, running: Running) -> None:
        """What kept a command from being recorded, if anything did."""
        if running.task.cancelled():
            raise UNREACHABLE.error("the agent went away while the command ran")
        running.task.result()

    def _done(self, resource: str, task: asyncio.Task[None]) -> None:
        del self._running[resource]
        if task.cancelled() or (error := task.exception()) is None:
            return
        unforeseen = None if isinstance(error, ApiError) else error
        log.warning("the register of %s was not written: %s", resource, error, exc_info=unforeseen)

    async def _work(self, record: Record, command: Command) -> None:
        settled = ABSENT
        if record.order == command.order:  # begun by a process that died, or its outcome could not be written
            settled = await self._backend.probe(command.action, command.resource, command.args)
        else:
            args = msgspec.json.encode(command.args)
            await self._save(
                record,
                order=command.order,
                state=CommandState.STARTED,
                action=command.action,
                args=args,
                outcome=None,
            )
        if not settled.happened:
            self._watch("started", command.resource, command.fence, command.order, command.action)
            settled = await self._perform(command)
        await self._finish(record, settled, command.fence)

    async def _perform(self, command: Command) -> Settled:
        try:
            result = await self._backend.perform(command.action, command.resource, command.args)
        except Exception as exc:  # this is the dispatcher of host commands: a bug below is an outcome as well
            return Settled(happened=True, problem=from_exception(exc).problem)
        return Settled(happened=True, result=result)

    async def _probe(self, record: Record) -> None:
        last = record.command()
        settled = await self._backend.probe(last.action, last.resource, last.args)
        if settled.happened:
            await self._finish(record, settled, record.fence)

    async def _finish(self, record: Record, settled: Settled, fence: int) -> None:
        outcome = msgspec.json.encode(Outcome(result=settled.result, problem=settled.problem))
        state = CommandState.FAILED if settled.problem else CommandState.DONE
        await self._save(record, state=state, outcome=outcome)
        self._watch(state.lower(), record.resource, fence, record.order, record.action)

    async def _save(self, record: Record, **changes: Any) -> None:
        """Memory follows the file: a write that fails leaves the record as it was."""
        changed = replace(record, **changes)
        await self._repository.save(changed)
        record.saved_fence = changed.fence
        for name, value in changes.items():
            setattr(record, name, value)

    async def _outcome(self, record: Record, *, replayed: bool) -> Answer:
        ended = record.ended()
        await self._keep_fence(record)
        return Answer(result=ended.result, problem=ended.problem, replayed=replayed)

    async def _keep_fence(self, record: Record) -> None:
        if record.saved_fence < record.fence:
            await self._repository.save_fence(record)

    def _sealed(self, record: Record) -> Sealed:
        ended = record.ended()
        return Sealed(
            resource=record.resource,
            fence=record.fence,
            identity=self.identity,
            order=record.order,
            state=record.state,
            action=record.action,
            result=ended.result,
            problem=ended.problem,
        )

    def _forgettable(self, resource: str, floor: int) -> bool:
        record = self._records.get(resource)
        if record is None or resource in self._running:
            return False
        return record.state is not CommandState.STARTED and record.order[0] < floor


async def _ended(running: Running, deadline: float) -> bool:
    left = max(0.0, deadline - asyncio.get_running_loop().time())
    done, _ = await asyncio.wait({running.task}, timeout=left)
    return bool(done)
