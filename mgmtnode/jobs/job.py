"""What a job is: its states, who asked for it, the token that goes with its work, and what the API shows."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from mgmtnode.errors import Problem
from mgmtnode.schema import Data, Resource


class JobState(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    ROLLING_BACK = "RollingBack"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Statement(Data):
    """One policy statement: ``effect`` Allow or Deny, ``actions`` as globs over API names (``vm.*``)."""

    effect: str
    actions: list[str]
    resources: list[str] = msgspec.field(default_factory=lambda: ["*"])


class Caller(Data):
    """Who asks. ``admin``: an account of the operator. ``statements``: the policies of a user, None for the account
    itself, which may do all its account may."""

    account_uuid: str
    account_name: str = ""
    user_uuid: str | None = None
    admin: bool = False
    statements: list[Statement] | None = None
    via: str = ""


SYSTEM_ACCOUNT = "00000000-0000-7000-8000-000000000001"
SYSTEM = Caller(account_uuid=SYSTEM_ACCOUNT, account_name="admin", admin=True, via="system")


class WorkToken(Data):
    """Goes with everything that is done on behalf of a job, so that who receives it can be idempotent by it.

    ``order`` (run_no, step, attempt) grows over the life of a resource; ``fence`` is the epoch of the slot whose
    owner does the work: a host agent refuses lower ones.
    """

    job_uuid: str
    resource_uuid: str
    account_uuid: str
    run_no: int
    step: int
    attempt: int
    fence: int

    @property
    def order(self) -> tuple[int, int, int]:
        return (self.run_no, self.step, self.attempt)


class StepRecord(Data):
    """``state``: Waiting, Running, Done, Skipped (it had nothing to do), Failed, Undone or UndoFailed."""

    name: str
    state: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str | None = None


class JobBrief(Data, kw_only=True):
    """A job as lists show it. ``trace``: the id in the logs of all nodes, and in traces, of the request it is for."""

    uuid: str
    api: str
    resource_type: str
    resource_uuid: str
    state: JobState
    account_uuid: str
    parent_uuid: str | None = None
    progress: int = 0
    step: str | None = None
    steps: list[StepRecord] | None = None
    owner_node: str | None = None
    handovers: int = 0
    accepted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    deadline_at: datetime | None = None
    cancel_requested: bool = False
    result: Any = None
    error: Problem | None = None
    trace: str = ""

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL


class Job(JobBrief, kw_only=True):
    """A job as the API shows it: with its place in the queue of its resource while it waits (0 = next)."""

    queue_position: int | None = None
    replayed: bool = False


class Below(Data):
    """What a deletion would do to a resource below it: ``api`` is the job that it would get."""

    api: str
    resource_type: str
    resource_uuid: str
    name: str


class Plan(Data):
    """The answer to a dry run: what would be done, and what the first steps would decide (host, addresses). A
    deletion lists the first thousand resources ``below``, those nearest first, of ``below_total``."""

    api: str
    resource_type: str
    resource_uuid: str
    steps: list[str]
    context: Any = None
    below: list[Below] = []
    below_total: int = 0


JOB = Resource("job", "jobs", JobBrief, owned=True, backed=False)


class Journal(msgspec.Struct, kw_only=True):
    """What a flow has to remember to be resumed or rolled back: the row's ``journal`` column."""

    flow: str
    version: int = 1
    context: msgspec.Raw = msgspec.Raw(b"null")
    failed_step: int | None = None
    outcome: JobState = JobState.FAILED
    problem: Problem | None = None
