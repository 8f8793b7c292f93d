"""Claiming a job: one transaction that proves ownership of the slot, takes the job, and does its leading SQL steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from mgmtnode.db.session import Tx
from mgmtnode.errors import CANCELLED, POISON, TIMEOUT, Problem
from mgmtnode.jobs.acceptance import JobSpec
from mgmtnode.jobs.job import TERMINAL, Caller, JobState, Journal, WorkToken
from mgmtnode.jobs.repository import Fenced, JobRepository, JobRow
from mgmtnode.workflow.flow import FlowContext

if TYPE_CHECKING:
    from mgmtnode.workflow.engine import FlowRun

MAX_CRASHES_RESUMED = 3
MAX_CRASHES = 5


class Verdict(Enum):
    """What a claim came to."""

    GONE = "gone"  # ended, or another node's
    WAIT = "wait"  # an earlier job on the resource has not ended
    DONE = "done"  # ended in the claiming transaction
    RUN = "run"  # a flow has to go on outside the database
    RECOVER = "recover"  # somebody ran it before us


@dataclass(kw_only=True)
class Claimed:
    """A job this node holds: its row, its fence, and the decoded message and context."""

    row: JobRow
    spec: JobSpec
    msg: Any
    caller: Caller
    fence: int
    context: FlowContext | None = None
    journal: Journal | None = None
    state: JobState = JobState.RUNNING
    run: FlowRun | None = None

    def token(self, step: int, attempt: int = 1) -> WorkToken:
        row = self.row
        return WorkToken(
            job_uuid=row.uuid,
            resource_uuid=row.resource_uuid,
            account_uuid=row.account_uuid,
            run_no=row.seq,
            step=step,
            attempt=attempt,
            fence=self.fence,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    claimed: Claimed | None = None


Begin = Callable[[Tx, Claimed], bool]


class Claims:
    """Claims on behalf of one incarnation of this node."""

    def __init__(
        self, repository: JobRepository, specs: dict[str, JobSpec], name: str, incarnation: int
    ) -> None:
        self._jobs, self._specs = repository, specs
        self._name, self._incarnation = name, incarnation

    def claim(self, tx: Tx, uuid: str, begin: Begin) -> Outcome:
        """Takes the job if it is this node's turn, see Verdict, and begins it if nobody has; ``begin`` returns
        whether that was all of it. What ``begin`` raises undoes the claim."""
        row = self._jobs.get(tx, uuid)
        if row is None or row.state in TERMINAL:
            return Outcome(Verdict.GONE)
        epoch = self._jobs.epoch(tx, row.slot, self._name, self._incarnation)
        if epoch is None or row.api not in self._specs:
            return Outcome(Verdict.GONE)
        if self._jobs.ahead(tx, row.resource_uuid, row.seq):
            return Outcome(Verdict.WAIT)
        claimed = self._take(tx, row, epoch)
        if row.state != JobState.PENDING:
            return Outcome(Verdict.RECOVER, claimed)
        bind(tx, claimed)
        return Outcome(Verdict.DONE if begin(tx, claimed) else Verdict.RUN, claimed)

    def _take(self, tx: Tx, row: JobRow, epoch: int) -> Claimed:
        fresh = row.state == JobState.PENDING
        state = JobState.RUNNING if fresh else JobState(row.state)
        values: dict[str, Any] = {"owner_node": self._name, "fence": epoch, "state": state}
        values |= {"started_at": tx.now} if fresh else {"crashes": row.crashes + 1}
        self._jobs.take(tx, row, values)
        if not self._jobs.hold(tx, row.resource_uuid, row.uuid, epoch):
            raise Fenced
        return self._decode(row, epoch, state)

    def _decode(self, row: JobRow, epoch: int, state: JobState) -> Claimed:
        spec = self._specs[row.api]
        claimed = Claimed(
            row=row,
            spec=spec,
            msg=msgspec.json.decode(row.payload, type=spec.message),
            caller=msgspec.json.decode(row.caller, type=Caller),
            fence=epoch,
            state=state,
        )
        if row.journal:
            claimed.journal = msgspec.json.decode(row.journal, type=Journal)
            claimed.context = msgspec.json.decode(claimed.journal.context, type=spec.context)
        return claimed


def bind(tx: Tx, claimed: Claimed, step: int = 0) -> None:
    """Makes ``tx`` work for the job: what handlers and steps see as ``tx.job`` and ``tx.caller``."""
    tx.work = claimed.token(step)
    tx.caller = claimed.caller
    tx.origin = claimed.row.origin


def refuse_overdue(tx: Tx, row: JobRow) -> None:
    """Raises core.cancelled or core.timeout when the job must not begin any more."""
    if row.cancel_requested:
        raise CANCELLED.error("cancelled before it began", resource=row.resource_uuid)
    if tx.now >= row.deadline_at:
        raise TIMEOUT.error("its deadline passed before it began", resource=row.resource_uuid)


def poisoned(row: JobRow) -> Problem | None:
    """The problem of a job that ended its node too often."""
    if row.crashes + 1 >= MAX_CRASHES:
        return POISON.error(f"given up after {row.crashes + 1} crashes of the node that ran it").problem
    return None
