"""Taking over a job that another owner, or an earlier life of this node, left unfinished."""

from __future__ import annotations

import asyncio
import logging

from mgmtnode.db.patience import LONGEST_PAUSE, PAUSE
from mgmtnode.db.session import Tx
from mgmtnode.errors import CANCELLED, INTERRUPTED, ApiError, Problem
from mgmtnode.jobs.claim import MAX_CRASHES_RESUMED, Claimed, bind, poisoned
from mgmtnode.jobs.job import JobState
from mgmtnode.workflow.engine import FlowRun
from mgmtnode.workflow.flow import Sealed, TxStep
from mgmtnode.workflow.rollback import UNDO_ORDER

log = logging.getLogger(__name__)
RESUMED, ROLLED_BACK, GIVEN_UP = "resumed", "rolled-back", "given-up"


class Recovery:
    """Seals the hosts the job touched, then resumes it or rolls it back. ``run`` is the job's new run."""

    def __init__(self, claimed: Claimed, run: FlowRun) -> None:
        assert claimed.flow is not None
        self._claimed, self._run, self._flow = claimed, run, claimed.flow

    async def go(self) -> None:
        """Takes the job to its end. Raises Fenced when yet another owner took over."""
        claimed, run = self._claimed, self._run
        if problem := poisoned(claimed):
            run.journal.watch.recovered(claimed.row, GIVEN_UP)
            log.error("%s", problem.message)
            await run.journal.write(lambda tx: self._give_up(tx, problem), back=True)
            return
        assert claimed.journal is not None
        if claimed.row.steps and len(claimed.row.steps) == len(self._flow.steps):
            run.live.records = list(claimed.row.steps)
        sealed = await self._seal()
        if claimed.state is JobState.ROLLING_BACK:
            run.journal.watch.recovered(claimed.row, ROLLED_BACK)
            journal = claimed.journal
            last = len(self._flow.steps) - 1
            failed = last if journal.failed_step is None else journal.failed_step
            done = (
                sealed.step
                if sealed and sealed.run_no == claimed.row.seq and sealed.step >= UNDO_ORDER
                else 0
            )
            await run.undo(failed, journal.problem, journal.outcome, done)
            return
        start = self._resume_at(sealed)
        why_not = self._why_not(sealed) or (run.why_stopping().problem if run.unsealed else None)
        run.journal.watch.recovered(claimed.row, ROLLED_BACK if why_not else RESUMED)
        if why_not:
            await run.back(self._furthest(start) if run.unsealed else start, why_not)
        else:
            await run.go(start)

    def _resume_at(self, sealed: Sealed | None) -> int:
        """The first step that is not known to be done."""
        start = self._claimed.row.step_no
        if self._is_ours(sealed):
            assert sealed is not None
            start = max(start, sealed.step - (sealed.state != "DONE"))
        return min(start, len(self._flow.steps))

    def _furthest(self, start: int) -> int:
        """The last step that the earlier owner may have begun, as far as its journal tells: what a host that could not
        be asked knows better."""
        steps, last = self._flow.steps, start
        for index in range(start, len(steps)):
            step = steps[index]
            if isinstance(step, TxStep):
                break
            last = index
            if step.record:
                break
        return last

    def _why_not(self, sealed: Sealed | None) -> Problem | None:
        """Why not to go on but to roll back. A passed deadline is found by the run itself."""
        row, crashes = self._claimed.row, self._claimed.crashes
        if self._is_ours(sealed) and sealed is not None and sealed.state == "FAILED":
            return INTERRUPTED.error("the last host command before the crash had failed").problem
        if row.cancel_requested:
            return CANCELLED.error("cancelled", resource=row.resource_uuid).problem
        if crashes >= MAX_CRASHES_RESUMED:
            return INTERRUPTED.error(f"rolled back after {crashes} crashes of the node that ran it").problem
        return None

    def _is_ours(self, sealed: Sealed | None) -> bool:
        """Whether the register speaks of a step of this job, and not of an earlier job or of an undo."""
        return sealed is not None and sealed.run_no == self._claimed.row.seq and sealed.step < UNDO_ORDER

    async def _seal(self) -> Sealed | None:
        """The registers of the hosts involved, sealed. Waits for hosts that do not answer until the job is cancelled
        or overdue; then it is rolled back, by commands whose higher fence keeps out what the earlier owner sent."""
        if self._flow.seal is None:
            return None
        wait = PAUSE
        while True:
            try:
                return await self._flow.seal(
                    self._claimed.spec.service, self._claimed.context, self._claimed.fence
                )
            except ApiError as error:
                if self._run.stopping or self._claimed.row.cancel_requested:
                    log.warning("job %s: a host could not be sealed: %s", self._run.uuid, error)
                    self._run.unsealed = True
                    return None
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_PAUSE)

    def _give_up(self, tx: Tx, problem: Problem) -> None:
        """Ends the job without touching anything: what it holds is quarantined for the reconciler."""
        bind(tx, self._claimed)
        self._run.journal.quarantine(tx, problem.message)
        self._run.journal.end(tx, JobState.FAILED, problem=problem)
