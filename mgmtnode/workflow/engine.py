"""The flow engine: runs the steps of a claimed job, journals what must be, and undoes them when one fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol, TypeVar

import msgspec

from mgmtnode.bus.context import CallContext, current
from mgmtnode.bus.message import ApiJob
from mgmtnode.db.session import Database, Tx
from mgmtnode.errors import CANCELLED, DATABASE_DOWN, INTERRUPTED, TIMEOUT, ApiError, Problem, from_exception
from mgmtnode.jobs import ledger
from mgmtnode.jobs.claim import MAX_CRASHES_RESUMED, Claimed, bind, poisoned
from mgmtnode.jobs.ending import finish
from mgmtnode.jobs.job import Caller, Job, JobState, Journal, StepRecord, WorkToken
from mgmtnode.jobs.repository import Fenced, JobRepository
from mgmtnode.ports import Clock
from mgmtnode.workflow.flow import AnyFlow, FlowContext, Sealed, Step, TxStep

log = logging.getLogger(__name__)
T = TypeVar("T")

UNDO_ORDER = 1000  # undo steps are ordered above every forward step, newest first
UNDO_ATTEMPTS = 5
PAUSE = 0.5  # seconds between attempts at a database or host that does not answer
LONGEST_PAUSE = 5.0


class Stopped(Exception):
    """The job must not go forward: it was cancelled, or its deadline passed."""

    def __init__(self, outcome: JobState, error: ApiError) -> None:
        super().__init__(str(error))
        self.outcome, self.error = outcome, error


class Submit(Protocol):
    """Runs a child job to its end; given by the jobs part."""

    async def __call__(self, parent: Claimed, msg: ApiJob[Any], key: str, deadline: float) -> Job: ...


@dataclass(kw_only=True)
class EngineParts:
    db: Database
    jobs: JobRepository
    clock: Clock
    submit: Submit
    created: Callable[[Tx, Claimed], None]  # applies tags once the resource's row exists
    undo_seconds: Callable[[], float]


@dataclass(kw_only=True)
class Live:
    """Where a running job is, for who watches it."""

    step: str = ""
    percent: int = 0
    text: str = ""
    records: list[StepRecord] = field(default_factory=list)


class FlowRun:
    """One run of a claimed job's flow on this node. Implements JobHandle for its steps.

    ``cancel()`` may be called at any time; the job then rolls back, unless it ends first.
    """

    def __init__(self, parts: EngineParts, claimed: Claimed) -> None:
        assert claimed.spec.flow is not None
        self._parts, self._claimed = parts, claimed
        self._flow: AnyFlow = claimed.spec.flow
        self._service = claimed.spec.service
        self._current: asyncio.Task[None] | None = None
        self._cancelled = False
        self._step_no = 0
        self.live = Live(records=[StepRecord(name=s.name, state="Waiting") for s in self._flow.steps])

    @cached_property
    def _deadline(self) -> float:
        """On the clock of the event loop; first asked for there, since the claim runs in a database thread."""
        left = (self._claimed.row.deadline_at - self._parts.clock.now()).total_seconds()
        return asyncio.get_running_loop().time() + left

    # what steps see ---------------------------------------------------------------------------------------------

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
        assert work is not None
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

    # running ----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        self._cancelled = True
        if self._current and not self._current.done():
            self._current.cancel()

    async def go(self, start: int) -> None:
        """Runs the steps from ``start`` on, to the end of the job. Raises Fenced when another owner took over."""
        try:
            await self._forward(start)
        except Fenced:
            raise
        except Stopped as stop:
            await self._back(self._step_no, stop.error.problem, stop.outcome)
        except Exception as exc:
            if not isinstance(exc, ApiError):
                log.exception("job %s: step %s of %s failed", self.uuid, self.live.step, self._flow.name)
            await self._back(self._step_no, from_exception(exc).problem, JobState.FAILED)

    async def recover(self) -> None:
        """Takes over what a dead owner left: seals the hosts, then resumes or rolls back."""
        row, journal = self._claimed.row, self._claimed.journal
        assert journal is not None and self._claimed.context is not None
        if row.steps:
            self.live.records = list(row.steps)
        if problem := poisoned(row):
            await self._give_up(problem)
            return
        sealed = await self._seal()
        if self._claimed.state is JobState.ROLLING_BACK:
            failed = journal.failed_step if journal.failed_step is not None else len(self._flow.steps) - 1
            await self._undo_all(failed, journal.problem, journal.outcome, sealed)
            return
        start, problem = self._resume_at(sealed)
        self._step_no = start
        if problem:
            await self._back(start, problem, ended_as(problem))
        else:
            await self.go(start)

    def _resume_at(self, sealed: Sealed | None) -> tuple[int, Problem | None]:
        """The step to go on with, or why not to."""
        row = self._claimed.row
        start = row.step_no
        if sealed and sealed.run_no == row.seq and sealed.step < UNDO_ORDER:
            start = max(start, sealed.step - (sealed.state != "DONE"))
            if sealed.state == "FAILED":
                return start, INTERRUPTED.error("the last host command before the crash had failed").problem
        if row.cancel_requested:
            return start, CANCELLED.error("cancelled", resource=row.resource_uuid).problem
        if row.crashes >= MAX_CRASHES_RESUMED:
            return start, INTERRUPTED.error(f"rolled back after {row.crashes} crashes of the node that ran it").problem
        return min(start, len(self._flow.steps)), None

    async def _forward(self, start: int) -> None:
        steps = self._flow.steps
        index = start
        while index < len(steps):
            self._step_no = index
            self._check_stop()
            if all(isinstance(step, TxStep) for step in steps[index:]):
                break
            index = await self._advance(index)
        self._step_no = index
        await self._finish(index)

    async def _advance(self, index: int) -> int:
        """Runs the step at ``index`` (and the SQL steps beside it); returns the next."""
        step = self._flow.steps[index]
        if isinstance(step, TxStep):
            end = index
            while isinstance(self._flow.steps[end], TxStep):
                end += 1
            await self._write(lambda tx: self._tx_steps(tx, index, end))
            return end
        if step.when is None or step.when(self._context):
            await self._run_step(index, step)
            if step.record:
                await self._write(lambda tx: self._journal(tx, index + 1))
        return index + 1

    async def _run_step(self, index: int, step: Step[Any, Any]) -> None:
        self._enter(index)
        try:
            await self._guarded(step.run(self._service, self, self._context), index + 1)
        except BaseException as exc:
            self._leave(index, "Failed", str(exc))
            raise
        self._leave(index, "Done")

    async def _guarded(self, work: Awaitable[None], order: int) -> None:
        """Runs ``work`` as a task that a cancel or the deadline interrupts; raises Stopped then."""
        context = CallContext(
            deadline=self._deadline, trace=self.uuid, work=self._claimed.token(order), chain=current.get().chain
        )

        async def run() -> None:
            current.set(context)
            await work

        self._current = asyncio.get_running_loop().create_task(run())
        try:
            async with asyncio.timeout_at(self._deadline):
                await asyncio.shield(self._current)
        except TimeoutError:
            if asyncio.get_running_loop().time() < self._deadline:
                raise
            raise Stopped(JobState.FAILED, TIMEOUT.error("the job's deadline passed", resource=self.resource_uuid)) from None
        except asyncio.CancelledError:
            if not self._cancelled:
                raise
            raise Stopped(JobState.CANCELLED, CANCELLED.error("cancelled", resource=self.resource_uuid)) from None
        finally:
            await _put_down(self._current)

    def _check_stop(self) -> None:
        if self._cancelled:
            raise Stopped(JobState.CANCELLED, CANCELLED.error("cancelled", resource=self.resource_uuid))
        if asyncio.get_running_loop().time() >= self._deadline:
            raise Stopped(JobState.FAILED, TIMEOUT.error("the job's deadline passed", resource=self.resource_uuid))

    async def _finish(self, index: int) -> None:
        def end(tx: Tx) -> None:
            bind(tx, self._claimed, len(self._flow.steps))
            for at in range(index, len(self._flow.steps)):
                self._flow.steps[at].run(self._service, tx, self._context)  # SQL steps only
            result = self._flow.result(self._service, tx, self._context)
            records = [msgspec.structs.replace(r, state="Done") if r.state == "Waiting" else r for r in self.live.records]
            finish(tx, self._parts.jobs, self._claimed, JobState.SUCCEEDED, steps=records, result=result)

        await self._write(end)

    # undoing ----------------------------------------------------------------------------------------------------

    async def _back(self, failed: int, problem: Problem, outcome: JobState) -> None:
        """Writes RollingBack ahead of the first undo, then undoes from the failed step down."""
        failed = min(failed, len(self._flow.steps) - 1)

        def ahead(tx: Tx) -> None:
            journal = self._state(failed_step=failed, outcome=outcome, problem=problem)
            values = {"state": JobState.ROLLING_BACK, "journal": msgspec.json.encode(journal).decode()}
            self._parts.jobs.write(
                tx, self.uuid, self._claimed.fence, JobState.RUNNING, values | {"steps": self.live.records}
            )

        await self._write(ahead)
        self._claimed.state = JobState.ROLLING_BACK
        await self._undo_all(failed, problem, outcome, None)

    async def _undo_all(self, failed: int, problem: Problem | None, outcome: JobState, sealed: Sealed | None) -> None:
        steps = self._flow.steps
        limit = asyncio.get_running_loop().time() + self._parts.undo_seconds()
        below = sealed.step if sealed and sealed.step >= UNDO_ORDER else 0
        debts: list[str] = []
        tail = failed
        while tail >= 0 and not all(isinstance(s, TxStep) for s in steps[: tail + 1]):
            step = steps[tail]
            order = UNDO_ORDER + len(steps) - tail
            skipped = isinstance(step, Step) and step.when is not None and not step.when(self._context)
            if order >= below and not skipped and (why := await self._undo(tail, order, limit)):
                debts.append(f"{step.name}: {why}")
            tail -= 1
        await self._end_undone(tail, problem, outcome, debts)

    async def _undo(self, index: int, order: int, limit: float) -> str | None:
        """Undoes one step, again until ``limit``; returns why it could not be undone."""
        step = self._flow.steps[index]
        if step.undo is None:
            return None
        if isinstance(step, TxStep):
            undo = step.undo
            await self._write(lambda tx: self._tx_undo(tx, undo))
            return None
        self.live.step = f"undo {step.name}"
        for attempt in range(1, UNDO_ATTEMPTS + 1):
            try:
                await self._undo_once(step, order, attempt, limit)
                self._leave(index, "Undone")
                return None
            except Fenced:
                raise
            except Exception as exc:
                log.warning("job %s: undo of %s failed: %s", self.uuid, step.name, exc, exc_info=not isinstance(exc, ApiError))
                last = str(exc)
            if asyncio.get_running_loop().time() >= limit or attempt == UNDO_ATTEMPTS:
                break
            await asyncio.sleep(min(PAUSE * attempt, LONGEST_PAUSE))
        self._leave(index, "UndoFailed", last)
        return last

    async def _undo_once(self, step: Step[Any, Any], order: int, attempt: int, limit: float) -> None:
        assert step.undo is not None
        token = self._claimed.token(order, attempt)
        deadline = max(limit, asyncio.get_running_loop().time() + 1.0)
        reset = current.set(CallContext(deadline=deadline, trace=self.uuid, work=token))
        try:
            async with asyncio.timeout_at(deadline):
                await step.undo(self._service, self, self._context)
        finally:
            current.reset(reset)

    async def _end_undone(self, tail: int, problem: Problem | None, outcome: JobState, debts: list[str]) -> None:
        def end(tx: Tx) -> None:
            bind(tx, self._claimed, UNDO_ORDER + len(self._flow.steps))
            if debts:
                self._quarantine(tx, "; ".join(debts))
            for at in range(tail, -1, -1):
                undo = self._flow.steps[at].undo
                if undo is not None:
                    undo(self._service, tx, self._context)  # SQL steps only
            finish(tx, self._parts.jobs, self._claimed, outcome, steps=self.live.records, problem=problem)

        await self._write(end)

    def _quarantine(self, tx: Tx, reason: str) -> None:
        ledger.quarantine(tx, self.resource_uuid)
        for host in self._flow.hosts(self._context) if self._flow.hosts else []:
            self._parts.jobs.owe(tx, host, self.resource_uuid, self.uuid, reason)

    async def _give_up(self, problem: Problem) -> None:
        """Ends a poisonous job without touching anything: what it holds is quarantined for the reconciler."""

        def end(tx: Tx) -> None:
            bind(tx, self._claimed)
            self._quarantine(tx, problem.message)
            finish(tx, self._parts.jobs, self._claimed, JobState.FAILED, steps=self.live.records, problem=problem)

        await self._write(end)

    # journalling ------------------------------------------------------------------------------------------------

    async def _seal(self) -> Sealed | None:
        if self._flow.seal is None:
            return None
        wait = PAUSE
        while True:
            try:
                return await self._flow.seal(self._service, self._context, self._claimed.fence)
            except ApiError as error:
                if asyncio.get_running_loop().time() >= self._deadline:
                    log.warning("job %s: a host could not be sealed: %s", self.uuid, error)
                    return None
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_PAUSE)

    def begin(self, tx: Tx) -> bool:
        """The leading SQL steps, inside the claim; True if the whole job fits into it."""
        end = 0
        while end < len(self._flow.steps) and isinstance(self._flow.steps[end], TxStep):
            end += 1
        self._tx_steps(tx, 0, end, first=True)
        self._step_no = end
        if end < len(self._flow.steps):
            return False
        result = self._flow.result(self._service, tx, self._context)
        finish(tx, self._parts.jobs, self._claimed, JobState.SUCCEEDED, steps=self.live.records, result=result)
        return True

    @property
    def first_step(self) -> int:
        """The first step after the leading SQL ones."""
        return self._step_no

    def _tx_steps(self, tx: Tx, start: int, end: int, first: bool = False) -> None:
        bind(tx, self._claimed, start)
        for index in range(start, end):
            self._enter(index, tx.now)
            self._flow.steps[index].run(self._service, tx, self._context)
            if index == 0 and first:
                self._parts.created(tx, self._claimed)
            self._leave(index, "Done", at=tx.now)
        self._journal(tx, end)

    def _tx_undo(self, tx: Tx, undo: Callable[[Any, Tx, Any], None]) -> None:
        bind(tx, self._claimed, UNDO_ORDER)
        undo(self._service, tx, self._context)
        self._parts.jobs.write(tx, self.uuid, self._claimed.fence, JobState.ROLLING_BACK, {"steps": self.live.records})

    def _journal(self, tx: Tx, step_no: int) -> None:
        values = {
            "step_no": step_no,
            "step": self._flow.steps[min(step_no, len(self._flow.steps) - 1)].name,
            "steps": self.live.records,
            "progress": 100 * step_no // max(1, len(self._flow.steps)),
            "journal": msgspec.json.encode(self._state()).decode(),
        }
        self._parts.jobs.write(tx, self.uuid, self._claimed.fence, JobState.RUNNING, values)

    def _state(self, **undo: Any) -> Journal:
        context = msgspec.Raw(msgspec.json.encode(self._context))
        return Journal(flow=self._flow.name, version=self._flow.version, context=context, **undo)

    @property
    def _context(self) -> FlowContext:
        assert self._claimed.context is not None
        return self._claimed.context

    async def _write(self, work: Callable[[Tx], T]) -> T:
        return await persist(self._parts.db, work)

    def _enter(self, index: int, at: datetime | None = None) -> None:
        step = self._flow.steps[index]
        self.live.step, self.live.percent, self.live.text = step.name, 0, ""
        self.live.records[index] = StepRecord(name=step.name, state="Running", started_at=at or self._parts.clock.now())

    def _leave(self, index: int, state: str, error: str | None = None, at: datetime | None = None) -> None:
        record = self.live.records[index]
        ended = at or self._parts.clock.now()
        self.live.records[index] = msgspec.structs.replace(record, state=state, ended_at=ended, error=error)


def ended_as(problem: Problem) -> JobState:
    """The terminal state of a job that ends with ``problem``."""
    return JobState.CANCELLED if problem.code == CANCELLED.id else JobState.FAILED


async def persist(db: Database, work: Callable[[Tx], T]) -> T:
    """A write that waits for the database as long as it is away: a flow pauses, it does not fail."""
    wait = PAUSE
    while True:
        try:
            return await db.write(work)
        except ApiError as error:
            if error.code != DATABASE_DOWN.id:
                raise
            log.warning("waiting for the database: %s", error)
        await asyncio.sleep(wait)
        wait = min(wait * 2, LONGEST_PAUSE)


async def _put_down(task: asyncio.Task[None]) -> None:
    """Ends a task that is not wanted any more; what it was told by hosts is in their registers."""
    if not task.done():
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
