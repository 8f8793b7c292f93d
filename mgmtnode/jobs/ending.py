"""Ending a job: one transaction with the terminal state, the claim's release and the event."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from mgmtnode.bus.message import Event
from mgmtnode.db.session import Tx
from mgmtnode.errors import CANCELLED, Problem
from mgmtnode.jobs.claim import Claimed
from mgmtnode.jobs.job import Job, JobState, StepRecord
from mgmtnode.jobs.repository import JobRepository, JobRow


class JobEnded(Event, frozen=True, kw_only=True):
    """Every node hears it, so that whoever waits for the job can look."""

    name: ClassVar[str] = "job.ended"
    prompt: ClassVar[bool] = True
    state: JobState
    api: str
    target_uuid: str
    problem: Problem | None = None


def finish(
    tx: Tx,
    jobs: JobRepository,
    claimed: Claimed,
    state: JobState,
    *,
    steps: list[StepRecord],
    result: Any = None,
    problem: Problem | None = None,
) -> bool:
    """Writes the end; whether somebody has asked the job to stop. Raises Fenced if it is not this node's to write."""
    row = claimed.row
    values: dict[str, Any] = {
        "state": state,
        "ended_at": tx.now,
        "result": None if result is None else msgspec.to_builtins(result),
        "error": problem,
        "steps": steps,
        "journal": None,
    }
    if state is JobState.SUCCEEDED:
        values["progress"] = 100
    job = jobs.end(tx, row, claimed.fence, claimed.state, values)
    _record(tx, jobs, job)
    return job.cancel_requested


def end_waiting(tx: Tx, jobs: JobRepository, row: JobRow, problem: Problem) -> bool:
    """Ends a job that nobody has claimed: cancelled, or overdue. False if somebody was faster."""
    values = {"state": ended_as(problem), "ended_at": tx.now, "error": problem, "steps": []}
    job = jobs.end_waiting(tx, row.uuid, values)
    if job is None:
        return False
    _record(tx, jobs, job)
    return True


def ended_as(problem: Problem) -> JobState:
    """The terminal state of a job that ends with ``problem``."""
    return JobState.CANCELLED if problem.code == CANCELLED.id else JobState.FAILED


def _record(tx: Tx, jobs: JobRepository, job: Job) -> None:
    tx.after_commit(lambda: jobs.watch.ended(job))
    tx.record(
        JobEnded(
            resource_uuid=job.uuid,
            state=job.state,
            api=job.api,
            target_uuid=job.resource_uuid,
            problem=job.error,
        )
    )
