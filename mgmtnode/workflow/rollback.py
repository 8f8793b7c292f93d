"""Undoing a flow: newest step first, the failed one included, and what cannot be undone is owed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from mgmtnode.agents.port import OLD
from mgmtnode.bus.context import CallContext, current
from mgmtnode.db.patience import LONGEST_PAUSE, PAUSE, outlast
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError, Problem
from mgmtnode.jobs.claim import Claimed, bind
from mgmtnode.jobs.job import JobState
from mgmtnode.jobs.repository import Fenced
from mgmtnode.workflow.flow import Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from mgmtnode.workflow.journal import JobJournal

log = logging.getLogger(__name__)

UNDO_ORDER = 1000  # undo steps are ordered above every forward step, newest first
HOPELESS = 5  # attempts at an undo whose failure waiting cannot mend
SHORTEST_ATTEMPT = 5.0  # seconds an undo has even when the time for all of them is over


class Rollback:
    """Takes a job that is RollingBack to its end. ``seconds``: how long one run tries before it leaves debts.
    ``unsealed``: a host could not be asked, so that what an earlier owner sent may still come to it."""

    def __init__(
        self,
        claimed: Claimed,
        journal: JobJournal,
        handle: JobHandle,
        now: Callable[[], float],
        seconds: float,
        *,
        unsealed: bool = False,
    ) -> None:
        assert claimed.flow is not None
        self._claimed, self._journal, self._handle = claimed, journal, handle
        self._flow, self._service = claimed.flow, claimed.spec.service
        self._now, self._limit = now, now() + seconds
        self._unsealed = unsealed
        self._debts: list[str] = []

    async def go(self, failed: int, problem: Problem | None, outcome: JobState, undone_to: int) -> None:
        """Undoes from step ``failed`` down. ``undone_to``: the order of the last undo an earlier owner began; it is
        begun again, those before it are done."""
        steps = self._flow.steps
        tail = failed
        while tail >= 0 and not all(isinstance(step, TxStep) for step in steps[: tail + 1]):
            order = UNDO_ORDER + len(steps) - tail
            if order >= undone_to:
                await self._undo(tail, order)
            tail -= 1
        await self._journal.write(lambda tx: self._end(tx, tail, problem, outcome), back=True)

    async def _undo(self, index: int, order: int) -> None:
        step = self._flow.steps[index]
        if isinstance(step, TxStep):
            await self._journal.write(lambda tx: self._undo_sql(tx, step), back=True)
        elif step.when is not None and not step.when(self._claimed.context):
            return
        elif step.undo:
            await self._undo_outside(index, order, step)
        elif self._unsealed:
            self._debts.append(f"{step.name}: its host could not be asked")

    async def _undo_outside(self, index: int, order: int, step: Step[Any, Any]) -> None:
        self._journal.live.step = f"undo {step.name}"
        attempt = hopeless = 0
        while True:
            attempt += 1
            try:
                with self._journal.watch.step(f"undo {step.name}", self._claimed.row.api):
                    await self._attempt(step, order, attempt)
                self._journal.leave(index, "Undone")
                return
            except Fenced:
                raise
            except Exception as exc:
                self._complain(step, exc)
                why = str(exc) or "it did not end in time"
                if seen := self._seen(exc, order):
                    attempt = seen - 1
                else:
                    hopeless += not (isinstance(exc, ApiError) and exc.problem.retryable)
            if self._now() >= self._limit or hopeless >= HOPELESS:
                break
            await asyncio.sleep(min(PAUSE * attempt, LONGEST_PAUSE))
        self._journal.leave(index, "UndoFailed", why)
        if step.owes:
            self._debts.append(f"{step.name}: {why}")

    def _seen(self, exc: Exception, order: int) -> int:
        """The attempt that an earlier owner had come to with this undo: its hosts refuse those before as old. 0 if that
        is not what failed."""
        if not isinstance(exc, ApiError) or exc.code != OLD.id:
            return 0
        match exc.problem.details.get("behind"):
            case [int(run_no), int(step), int(attempt)] if (run_no, step) == (self._claimed.row.seq, order):
                return attempt
        return 0

    async def _attempt(self, step: Step[Any, Any], order: int, attempt: int) -> None:
        """One attempt; an outage of the database only lengthens it."""
        assert step.undo is not None
        undo, token = step.undo, self._claimed.token(order, attempt)

        async def once() -> None:
            deadline = max(self._limit, self._now() + SHORTEST_ATTEMPT)
            asked = current.get()
            reset = current.set(
                CallContext(deadline=deadline, trace=asked.trace, span=asked.span, work=token)
            )
            try:
                async with asyncio.timeout(deadline - self._now()):
                    await undo(self._service, self._handle, self._claimed.context)
            finally:
                current.reset(reset)

        await outlast(once)

    def _complain(self, step: Step[Any, Any], exc: Exception) -> None:
        unforeseen = not isinstance(exc, ApiError | TimeoutError)
        log.warning("job %s: undo of %s failed: %s", self._handle.uuid, step.name, exc, exc_info=unforeseen)

    def _undo_sql(self, tx: Tx, step: TxStep[Any, Any]) -> None:
        bind(tx, self._claimed, UNDO_ORDER)
        if step.undo is not None:
            step.undo(self._service, tx, self._claimed.context)
        self._journal.undone(tx)

    def _end(self, tx: Tx, tail: int, problem: Problem | None, outcome: JobState) -> None:
        bind(tx, self._claimed, UNDO_ORDER + len(self._flow.steps))
        if self._debts:
            self._journal.quarantine(tx, "; ".join(self._debts))
        for index in range(tail, -1, -1):
            step = self._flow.steps[index]
            if isinstance(step, TxStep) and step.undo is not None:
                step.undo(self._service, tx, self._claimed.context)
        self._journal.end(tx, outcome, problem=problem)
