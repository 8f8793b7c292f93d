"""Claiming a job: one transaction that proves ownership of the slot, takes the job, and does its leading SQL steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from mgmtnode.bus.message import ApiJob
from mgmtnode.db.session import Tx
from mgmtnode.errors import CANCELLED, INTERNAL, POISON, TIMEOUT, ApiError, Problem
from mgmtnode.jobs.acceptance import JobSpec
from mgmtnode.jobs.job import TERMINAL, Caller, JobState, Journal, WorkToken
from mgmtnode.jobs.repository import JobRepository, JobRow
from mgmtnode.ring.slots import slot_of
from mgmtnode.workflow.flow import AnyFlow, FlowContext

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
    """A job this node holds: its row, its fence, and the decoded message and context. ``flow``: in the version it was
    begun with. ``crashes`` counts this take-over, too. ``broken``: why it cannot be run here, or anywhere."""

    row: JobRow
    spec: JobSpec
    msg: Any
    caller: Caller
    fence: int
    crashes: int = 0
    broken: Problem | None = None
    flow: AnyFlow | None = None
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

    def claim(self, tx: Tx, uuid: str, resource_uuid: str, begin: Begin) -> Outcome:
        """Takes the job if it is this node's turn, see Verdict, and begins it if nobody has; ``begin`` returns
        whether that was all of it. What ``begin`` raises undoes the claim.

        The slot is locked before the job is read: what an earlier owner wrote up to the take-over is in the row.
        """
        epoch = self._jobs.epoch(tx, slot_of(resource_uuid), self._name, self._incarnation)
        if epoch is None:
            return Outcome(Verdict.GONE)
        row, ahead = self._jobs.look(tx, uuid)
        if row is None or row.state in TERMINAL:
            return Outcome(Verdict.GONE)
        journal = msgspec.json.decode(row.journal, type=Journal) if row.journal else None
        if self._is_of_a_later_release(row, journal):
            return Outcome(Verdict.GONE)
        if ahead:
            return Outcome(Verdict.WAIT)
        claimed = self._take(tx, row, epoch, journal)
        if row.state != JobState.PENDING:
            return Outcome(Verdict.RECOVER, claimed)
        bind(tx, claimed)
        return Outcome(Verdict.DONE if begin(tx, claimed) else Verdict.RUN, claimed)

    def _is_of_a_later_release(self, row: JobRow, journal: Journal | None) -> bool:
        """Whether it takes what other nodes know and this one does not: the API, a field of the request, the flow's
        version. It is left to them; a job that nobody has begun ends at its deadline in any case."""
        spec = self._specs.get(row.api)
        if spec is None:
            return True
        if journal is None:
            return asks_for_more(row.payload, spec.message)
        flow = spec.flow
        return flow is not None and journal.flow == flow.name and journal.version > flow.version

    def _take(self, tx: Tx, row: JobRow, epoch: int, journal: Journal | None) -> Claimed:
        fresh = row.state == JobState.PENDING
        state = JobState.RUNNING if fresh else JobState(row.state)
        crashes = row.crashes + (not fresh and row.owner_node is not None)
        values: dict[str, Any] = {"owner_node": self._name, "fence": epoch, "state": state}
        values |= {"started_at": tx.now} if fresh else {"crashes": crashes, "handovers": row.handovers + 1}
        self._jobs.take(tx, row, values)
        row.started_at = tx.now if fresh else row.started_at
        caller = msgspec.json.decode(row.caller, type=Caller)
        spec = self._specs[row.api]
        claimed = Claimed(
            row=row, spec=spec, msg=None, caller=caller, fence=epoch, crashes=crashes, state=state
        )
        claimed.journal, claimed.flow = journal, spec.flow
        claimed.broken = _decode(claimed)
        row.caller = row.payload = ""  # decoded: thousands of jobs may wait for their hosts at once
        row.journal = None
        return claimed


def _decode(claimed: Claimed) -> Problem | None:
    """Fills in message and context; or why that cannot be done: they were written by another release."""
    row, spec, journal = claimed.row, claimed.spec, claimed.journal
    try:
        claimed.msg = msgspec.json.decode(row.payload, type=spec.message)
        if journal is None:
            return None
        claimed.flow = spec.flow and spec.flow.of(journal.flow, journal.version)
        if claimed.flow is None:
            claimed.flow, flow = spec.flow, spec.flow
            known = f"{flow.name} {flow.version}" if flow else "no flow"
            return _unknown(
                row, f"it was begun as {journal.flow} {journal.version}, this release has {known}"
            )
        claimed.context = msgspec.json.decode(journal.context, type=spec.context)
    except msgspec.MsgspecError as exc:
        return _unknown(row, str(exc))
    return None


def asks_for_more(payload: str, message: type[ApiJob[Any]]) -> bool:
    """Whether the request has fields that this release does not know."""
    try:
        fields = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    return not fields.keys() <= _known_fields(message)


@cache
def _known_fields(message: type[ApiJob[Any]]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(message))


def _unknown(row: JobRow, why: str) -> Problem:
    return INTERNAL.error(
        f"{row.api}: accepted by another release: {why}", resource=row.resource_uuid
    ).problem


def bind(tx: Tx, claimed: Claimed, step: int = 0) -> None:
    """Makes ``tx`` work for the job: what handlers and steps see as ``tx.job`` and ``tx.caller``."""
    tx.work = claimed.token(step)
    tx.caller = claimed.caller
    tx.origin = claimed.row.origin


def refuse_unfit(tx: Tx, claimed: Claimed) -> None:
    """Raises why the job must not begin any more: it is cancelled, overdue or cannot be read."""
    row = claimed.row
    if claimed.broken:
        raise ApiError(claimed.broken)
    if row.cancel_requested:
        raise CANCELLED.error("cancelled before it began", resource=row.resource_uuid)
    if tx.now >= row.deadline_at:
        raise TIMEOUT.error("its deadline passed before it began", resource=row.resource_uuid)


def poisoned(claimed: Claimed) -> Problem | None:
    """Why nothing can be done with the job but give it up, if so."""
    if claimed.crashes >= MAX_CRASHES:
        return POISON.error(f"given up after {claimed.crashes} crashes of the node that ran it").problem
    return claimed.broken
