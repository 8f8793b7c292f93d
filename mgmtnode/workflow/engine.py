"""The flow engine: runs the steps of a claimed job, journals what must be, and has them undone when one fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import msgspec

from mgmtnode.bus.context import CallContext, current
from mgmtnode.bus.message import ApiJob
from mgmtnode.db.patience import outlast
from mgmtnode.db.session import Database, Tx
from mgmtnode.errors import CANCELLED, INTERNAL, TIMEOUT, ApiError, Problem, from_exception
from mgmtnode.jobs.claim import Claimed, bind
from mgmtnode.jobs.ending import ended_as
from mgmtnode.jobs.job import Caller, Job, JobState, WorkToken
from mgmtnode.jobs.repository import Fenced, JobRepository
from mgmtnode.ports import Clock
from mgmtnode.workflow.flow import Step, TxStep
from mgmtnode.workflow.journal import JobJournal, Live
from mgmtnode.workflow.rollback import Rollback

log = logging.getLogger(__name__)
UNDO_KEY = "undo:"
STUBBORN = 10.0  # seconds after which a step that was told to stop and does not is complained of


class Stopped(Exception):
    """The job must not go forward: it was cancelled, or its deadline passed."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(str(error))
        self.error = error


class Children(Protocol):
    """Child jobs; given by the jobs part."""

    async def submit(self, parent: Claimed, msg: ApiJob[Any], key: str, deadline: float) -> Job:
        """Runs one to its end. ``deadline``: seconds it may take."""
        ...

    async def stop_children(self, parent_uuid: str) -> None:
        """Cancels those that are open and returns when they have ended."""
        ...


@dataclass(kw_only=True)
class EngineParts:
    """What running flows needs. ``created(tx, claimed)`` is told once the resource of a create has its row."""

    db: Database
    jobs: JobRepository
    clock: Clock
    children: Children
    created: Callable[[Tx, Claimed], None]
    undo_seconds: Callable[[], float]


class FlowRun:
    """One run of a claimed job's flow on this node. Implements JobHandle for its steps.

    ``cancel()`` may be called at any time; the job then rolls back, unless it ends first. ``unsealed``: a host could
    not be asked what an earlier owner has begun there.
    """

    unsealed = False

    def __init__(self, parts: EngineParts, claimed: Claimed) -> None:
        assert claimed.flow is not None
        self._parts, self._claimed = parts, claimed
        self._now = parts.clock.monotonic
        self._flow, self._service = claimed.flow, claimed.spec.service
        self.journal = JobJournal(parts.db, parts.jobs, parts.clock, claimed)
        self._current: asyncio.Task[None] | None = None
        self._cancelled = False
        self._index = 0

    # what steps see

    @property
    def uuid(self) -> str:
        return self._claimed.row.uuid

    @property
    def resource_uuid(self) -> str:
        return self._claimed.row.resource_uuid

    @property
    def caller(self) -> Caller:
        return self._claimed.caller

    @property
    def origin(self) -> str:
        return self._claimed.row.origin

    @property
    def token(self) -> WorkToken:
        work = current.get().work
        assert work is not None, "outside a step"
        return work

    async def child(self, msg: ApiJob[Any], *, key: str) -> Job:
        context = current.get()
        if self._claimed.state is JobState.ROLLING_BACK:
            key = f"{UNDO_KEY}{self.token.attempt}:{key}"  # each attempt is a job of its own
        left = max(1.0, (context.deadline or self._deadline) - self._now())
        return await self._parts.children.submit(self._claimed, msg, key, left)

    async def children(self, work: Sequence[tuple[str, ApiJob[Any]]], *, parallel: int) -> list[Job]:
        gate = asyncio.Semaphore(max(1, parallel))

        async def one(key: str, msg: ApiJob[Any]) -> Job:
            async with gate:
                return await self.child(msg, key=key)

        tasks = [asyncio.ensure_future(one(key, msg)) for key, msg in work]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def progress(self, percent: int, text: str = "") -> None:
        self.live.percent, self.live.text = max(0, min(100, percent)), text

    # what the runner and a recovery see

    @property
    def held(self) -> tuple[str, int]:
        """The job and the fence it is held with."""
        return self.uuid, self._claimed.fence

    @property
    def live(self) -> Live:
        return self.journal.live

    @property
    def first_step(self) -> int:
        """The first step after the leading SQL ones."""
        return self._index

    @property
    def stopping(self) -> bool:
        """Whether it was cancelled, or its deadline has passed."""
        return self._cancelled or self.journal.cancelled or self._now() >= self._deadline

    def why_stopping(self) -> ApiError:
        if self._cancelled or self.journal.cancelled:
            return CANCELLED.error("cancelled", resource=self.resource_uuid)
        return TIMEOUT.error("the job's deadline passed", resource=self.resource_uuid)

    def cancel(self) -> None:
        self._cancelled = True
        if self._current and not self._current.done():
            self._current.cancel()

    def begin(self, tx: Tx) -> bool:
        """The leading SQL steps, inside the claim; True if the whole job fits into it."""
        end = self._sql_end(0)
        self._run_sql(tx, 0, end)
        self._index = end
        if end == len(self._flow.steps):
            self._succeed(tx)
            return True
        self.journal.done_up_to(tx, end)
        return False

    async def go(self, start: int) -> None:
        """Runs the steps from ``start`` on, to the end of the job. Raises Fenced when another owner took over."""
        try:
            await self._forward(start)
        except Fenced:
            raise
        except Stopped as stop:
            await self.back(self._index, stop.error.problem)
        except Exception as exc:
            if not isinstance(exc, ApiError):
                log.exception("job %s: step %s of %s failed", self.uuid, self.live.step, self._flow.name)
            await self.back(self._index, from_exception(exc).problem)

    async def back(self, failed: int, problem: Problem) -> None:
        """Undoes the steps from ``failed`` down; the job ends with ``problem``."""
        failed = min(failed, len(self._flow.steps) - 1)
        outcome = ended_as(problem)
        await self.journal.write(
            lambda tx: self.journal.rolling_back(tx, failed, outcome, problem),
            lambda row: row.state == JobState.ROLLING_BACK,
            back=True,
        )
        self._claimed.state = JobState.ROLLING_BACK
        await self.undo(failed, problem, outcome)

    async def undo(self, failed: int, problem: Problem | None, outcome: JobState, undone_to: int = 0) -> None:
        """Goes on with a rollback that is written down. ``undone_to``: the order of the last undo command."""
        await self._parts.children.stop_children(self.uuid)
        seconds = self._parts.undo_seconds()
        rollback = Rollback(self._claimed, self.journal, self, self._now, seconds, unsealed=self.unsealed)
        await rollback.go(failed, problem, outcome, undone_to)

    # going forward

    @cached_property
    def _deadline(self) -> float:
        """On the monotonic clock of this node."""
        left = (self._claimed.row.deadline_at - self._parts.clock.now()).total_seconds()
        return self._now() + left

    async def _forward(self, start: int) -> None:
        steps, self._index = self._flow.steps, start
        while self._sql_end(self._index) < len(steps):
            self._check_stop()
            await self._advance()
        self._check_stop()
        await self._end()

    async def _end(self) -> None:
        """The last SQL steps and the end of the job. None of that happens if somebody has asked it to stop, though this
        node has not heard of it yet."""
        before = list(self.live.records), msgspec.json.encode(self._claimed.context)
        try:
            await self.journal.write(self._finish)
        except Stopped:
            self.live.records = before[0]
            self._claimed.context = msgspec.json.decode(before[1], type=self._claimed.spec.context)
            raise

    async def _advance(self) -> None:
        """Runs the next step, or the next SQL steps together."""
        index, step = self._index, self._flow.steps[self._index]
        if isinstance(step, TxStep):
            end = self._sql_end(index)
            await self.journal.write(
                lambda tx: self._middle_sql(tx, index, end), lambda row: row.step_no >= end
            )
            self._index = end
            return
        if step.when is None or step.when(self._claimed.context):
            await self._run_step(index, step)
            if step.record:
                await self.journal.write(
                    lambda tx: self.journal.done_up_to(tx, index + 1), lambda row: row.step_no > index
                )
        else:
            self.journal.skip(index)
        self._index = index + 1

    async def _run_step(self, index: int, step: Step[Any, Any]) -> None:
        self.journal.enter(index)

        async def attempt() -> None:
            await step.run(self._service, self, self._claimed.context)

        try:
            # Repeating it is safe: the step is idempotent by its token, which stays the same.
            with self.journal.watch.step(step.name, self._claimed.row.api):
                await self._interruptible(lambda: outlast(attempt), index + 1)
        except BaseException as exc:
            self.journal.leave(index, "Failed", str(exc))
            raise
        self.journal.leave(index, "Done")

    async def _interruptible(self, work: Callable[[], Awaitable[None]], order: int) -> None:
        """Runs ``work`` as a task that a cancel or the deadline interrupts; raises Stopped then."""
        asked = current.get()
        context = CallContext(
            deadline=self._deadline, trace=asked.trace, span=asked.span, work=self._claimed.token(order)
        )

        async def run() -> None:
            current.set(context)
            await work()

        task = self._current = asyncio.get_running_loop().create_task(run())
        try:
            await asyncio.wait((task,), timeout=max(0.0, self._deadline - self._now()))
        finally:
            await self._ended(task)
        if task.cancelled() or task.exception() is not None:
            self._check_stop()
        if task.cancelled():
            raise INTERNAL.error("the step was cancelled from within", resource=self.resource_uuid)
        task.result()

    async def _ended(self, task: asyncio.Task[None]) -> None:
        """Stops the task if it still runs, and waits: nothing may be undone beside it."""
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=STUBBORN)
            if not task.done():
                log.warning("job %s: step %s was told to stop and does not", self.uuid, self.live.step)
        if not task.cancelled():
            task.exception()  # looked at, also where this run is stopped itself and goes no further

    def _check_stop(self) -> None:
        if self.stopping:
            raise Stopped(self.why_stopping())

    def _sql_end(self, start: int) -> int:
        """The end of the run of SQL steps that begins at ``start``."""
        end = start
        while end < len(self._flow.steps) and isinstance(self._flow.steps[end], TxStep):
            end += 1
        return end

    def _run_sql(self, tx: Tx, start: int, end: int) -> None:
        for index in range(start, end):
            bind(tx, self._claimed, index + 1)
            self.journal.enter(index, tx.now)
            step = self._flow.steps[index]
            assert isinstance(step, TxStep)
            step.run(self._service, tx, self._claimed.context)
            if index == 0:
                self._parts.created(tx, self._claimed)
            self.journal.leave(index, "Done", at=tx.now)

    def _middle_sql(self, tx: Tx, start: int, end: int) -> None:
        self._run_sql(tx, start, end)
        self.journal.done_up_to(tx, end)

    def _finish(self, tx: Tx) -> None:
        self._run_sql(tx, self._index, len(self._flow.steps))
        if self._succeed(tx):
            raise Stopped(CANCELLED.error("cancelled", resource=self.resource_uuid))

    def _succeed(self, tx: Tx) -> bool:
        """Whether somebody has asked the job to stop."""
        bind(tx, self._claimed, len(self._flow.steps))
        result = self._flow.result(self._service, tx, self._claimed.context)
        return self.journal.end(tx, JobState.SUCCEEDED, result=result)
