"""The flow engine: runs the steps of a claimed job, journals what must be, and has them undone when one fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from mgmtnode.bus.context import CallContext, current
from mgmtnode.bus.message import ApiJob
from mgmtnode.db.session import Database, Tx
from mgmtnode.errors import CANCELLED, INTERRUPTED, TIMEOUT, ApiError, Problem, from_exception
from mgmtnode.jobs.claim import MAX_CRASHES_RESUMED, Claimed, bind, poisoned
from mgmtnode.jobs.job import Caller, Job, JobState, WorkToken
from mgmtnode.jobs.repository import Fenced, JobRepository
from mgmtnode.ports import Clock
from mgmtnode.workflow.flow import Sealed, Step, TxStep
from mgmtnode.workflow.journal import LONGEST_PAUSE, PAUSE, JobJournal, Live, ended_as
from mgmtnode.workflow.rollback import UNDO_ORDER, Rollback

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The job must not go forward: it was cancelled, or its deadline passed."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(str(error))
        self.error = error


class Submit(Protocol):
    """Runs a child job to its end; given by the jobs part."""

    async def __call__(self, parent: Claimed, msg: ApiJob[Any], key: str, deadline: float) -> Job: ...


@dataclass(kw_only=True)
class EngineParts:
    """What running flows needs. ``created(tx, claimed)`` is told once the resource of a create has its row."""

    db: Database
    jobs: JobRepository
    clock: Clock
    submit: Submit
    created: Callable[[Tx, Claimed], None]
    undo_seconds: Callable[[], float]


class FlowRun:
    """One run of a claimed job's flow on this node. Implements JobHandle for its steps.

    ``cancel()`` may be called at any time; the job then rolls back, unless it ends first.
    """

    def __init__(self, parts: EngineParts, claimed: Claimed) -> None:
        assert claimed.spec.flow is not None
        self._parts, self._claimed = parts, claimed
        self._flow, self._service = claimed.spec.flow, claimed.spec.service
        self._journal = JobJournal(parts.db, parts.jobs, parts.clock, claimed)
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
        left = max(1.0, self._deadline - asyncio.get_running_loop().time())
        return await self._parts.submit(self._claimed, msg, key, left)

    async def children(self, work: Sequence[tuple[str, ApiJob[Any]]], *, parallel: int) -> list[Job]:
        gate = asyncio.Semaphore(max(1, parallel))

        async def one(key: str, msg: ApiJob[Any]) -> Job:
            async with gate:
                return await self.child(msg, key=key)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(key, msg)) for key, msg in work]
        return [task.result() for task in tasks]

    def progress(self, percent: int, text: str = "") -> None:
        self.live.percent, self.live.text = max(0, min(100, percent)), text

    # what the runner sees

    @property
    def live(self) -> Live:
        return self._journal.live

    @property
    def first_step(self) -> int:
        """The first step after the leading SQL ones."""
        return self._index

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
        self._journal.done_up_to(tx, end)
        return False

    async def go(self, start: int) -> None:
        """Runs the steps from ``start`` on, to the end of the job. Raises Fenced when another owner took over."""
        try:
            await self._forward(start)
        except Fenced:
            raise
        except Stopped as stop:
            await self._back(self._index, stop.error.problem)
        except Exception as exc:
            if not isinstance(exc, ApiError):
                log.exception("job %s: step %s of %s failed", self.uuid, self.live.step, self._flow.name)
            await self._back(self._index, from_exception(exc).problem)

    async def recover(self) -> None:
        """Takes over what a dead owner left: seals the hosts, then resumes or rolls back."""
        row, journal = self._claimed.row, self._claimed.journal
        assert journal is not None
        if row.steps:
            self.live.records = list(row.steps)
        if problem := poisoned(row):
            await self._journal.write(lambda tx: self._give_up(tx, problem))
            return
        sealed = await self._seal()
        if self._claimed.state is JobState.ROLLING_BACK:
            failed = journal.failed_step if journal.failed_step is not None else len(self._flow.steps) - 1
            await self._rollback().go(failed, journal.problem, journal.outcome, sealed)
            return
        self._index, why_not = self._resume_at(sealed)
        if why_not:
            await self._back(self._index, why_not)
        else:
            await self.go(self._index)

    # going forward

    @cached_property
    def _deadline(self) -> float:
        """On the clock of the event loop; first asked for there, since the claim runs in a database thread."""
        left = (self._claimed.row.deadline_at - self._parts.clock.now()).total_seconds()
        return asyncio.get_running_loop().time() + left

    async def _forward(self, start: int) -> None:
        steps, self._index = self._flow.steps, start
        while self._sql_end(self._index) < len(steps):
            self._check_stop()
            await self._advance()
        self._check_stop()
        await self._journal.write(self._finish)

    async def _advance(self) -> None:
        """Runs the next step, or the next SQL steps together."""
        index, step = self._index, self._flow.steps[self._index]
        if isinstance(step, TxStep):
            end = self._sql_end(index)
            await self._journal.write(lambda tx: self._middle_sql(tx, index, end))
            self._index = end
            return
        if step.when is None or step.when(self._claimed.context):
            await self._run_step(index, step)
            if step.record:
                await self._journal.write(lambda tx: self._journal.done_up_to(tx, index + 1))
        self._index = index + 1

    async def _run_step(self, index: int, step: Step[Any, Any]) -> None:
        self._journal.enter(index)
        try:
            await self._interruptible(step.run(self._service, self, self._claimed.context), index + 1)
        except BaseException as exc:
            self._journal.leave(index, "Failed", str(exc))
            raise
        self._journal.leave(index, "Done")

    async def _interruptible(self, work: Awaitable[None], order: int) -> None:
        """Runs ``work`` as a task that a cancel or the deadline interrupts; raises Stopped then."""
        context = CallContext(deadline=self._deadline, trace=self.uuid, work=self._claimed.token(order))

        async def run() -> None:
            current.set(context)
            await work

        task = self._current = asyncio.get_running_loop().create_task(run())
        try:
            await asyncio.wait((task,), timeout=max(0.0, self._deadline - asyncio.get_running_loop().time()))
        finally:
            if not task.done():
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            task.result()
            return
        self._check_stop()
        raise Stopped(TIMEOUT.error("the job's deadline passed", resource=self.resource_uuid))

    def _check_stop(self) -> None:
        if self._cancelled:
            raise Stopped(CANCELLED.error("cancelled", resource=self.resource_uuid))
        if asyncio.get_running_loop().time() >= self._deadline:
            raise Stopped(TIMEOUT.error("the job's deadline passed", resource=self.resource_uuid))

    def _sql_end(self, start: int) -> int:
        """The end of the run of SQL steps that begins at ``start``."""
        end = start
        while end < len(self._flow.steps) and isinstance(self._flow.steps[end], TxStep):
            end += 1
        return end

    def _run_sql(self, tx: Tx, start: int, end: int) -> None:
        for index in range(start, end):
            bind(tx, self._claimed, index + 1)
            self._journal.enter(index, tx.now)
            step = self._flow.steps[index]
            assert isinstance(step, TxStep)
            step.run(self._service, tx, self._claimed.context)
            if index == 0:
                self._parts.created(tx, self._claimed)
            self._journal.leave(index, "Done", at=tx.now)

    def _middle_sql(self, tx: Tx, start: int, end: int) -> None:
        self._run_sql(tx, start, end)
        self._journal.done_up_to(tx, end)

    def _finish(self, tx: Tx) -> None:
        self._run_sql(tx, self._index, len(self._flow.steps))
        self._succeed(tx)

    def _succeed(self, tx: Tx) -> None:
        bind(tx, self._claimed, len(self._flow.steps))
        result = self._flow.result(self._service, tx, self._claimed.context)
        self._journal.end(tx, JobState.SUCCEEDED, result=result)

    # going back

    async def _back(self, failed: int, problem: Problem) -> None:
        failed = min(failed, len(self._flow.steps) - 1)
        outcome = ended_as(problem)
        await self._journal.write(lambda tx: self._journal.rolling_back(tx, failed, outcome, problem))
        self._claimed.state = JobState.ROLLING_BACK
        await self._rollback().go(failed, problem, outcome, None)

    def _rollback(self) -> Rollback:
        return Rollback(self._claimed, self._journal, self, self._parts.undo_seconds())

    def _resume_at(self, sealed: Sealed | None) -> tuple[int, Problem | None]:
        """The step to go on with, and why not to go on but to roll back from it."""
        row = self._claimed.row
        start = row.step_no
        if sealed and sealed.run_no == row.seq and sealed.step < UNDO_ORDER:
            start = max(start, sealed.step - (sealed.state != "DONE"))
            if sealed.state == "FAILED":
                return start, INTERRUPTED.error("the last host command before the crash had failed").problem
        if row.cancel_requested:
            return start, CANCELLED.error("cancelled", resource=row.resource_uuid).problem
        if row.crashes >= MAX_CRASHES_RESUMED:
            return start, INTERRUPTED.error(
                f"rolled back after {row.crashes} crashes of the node that ran it"
            ).problem
        return min(start, len(self._flow.steps)), None

    async def _seal(self) -> Sealed | None:
        """The registers of the hosts involved, sealed; waits for hosts that do not answer until the deadline."""
        if self._flow.seal is None:
            return None
        wait = PAUSE
        while True:
            try:
                return await self._flow.seal(self._service, self._claimed.context, self._claimed.fence)
            except ApiError as error:
                if asyncio.get_running_loop().time() >= self._deadline:
                    log.warning("job %s: a host could not be sealed: %s", self.uuid, error)
                    return None
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_PAUSE)

    def _give_up(self, tx: Tx, problem: Problem) -> None:
        """Ends a poisonous job without touching anything: what it holds is quarantined for the reconciler."""
        bind(tx, self._claimed)
        self._journal.quarantine(tx, problem.message)
        self._journal.end(tx, JobState.FAILED, problem=problem)
