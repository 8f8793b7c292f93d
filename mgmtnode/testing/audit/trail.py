"""What happened to jobs and ring slots, commit by commit: triggers in PostgreSQL write it down beside the change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from mgmtnode.testing.audit.records import Records

SETTINGS: Mapping[str, str] = {"track_commit_timestamp": "on"}
"""What the server must be started with: the order of commits is not that of the statements in them."""

INSTALL = (
    "CREATE SCHEMA IF NOT EXISTS audit",
    "CREATE TABLE IF NOT EXISTS audit.slot (n bigserial PRIMARY KEY, xid xid DEFAULT pg_current_xact_id()::xid,"
    " slot integer, owner text, incarnation bigint, epoch bigint)",
    "CREATE TABLE IF NOT EXISTS audit.job (n bigserial PRIMARY KEY, xid xid DEFAULT pg_current_xact_id()::xid,"
    " uuid text, seq bigint, resource text, api text, before text, state text, owner text, fence bigint, epoch bigint)",
    "CREATE OR REPLACE FUNCTION audit.note_slot() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " INSERT INTO audit.slot (slot, owner, incarnation, epoch)"
    " VALUES (NEW.slot, NEW.owner, NEW.incarnation, NEW.epoch); RETURN NULL; END $$",
    "CREATE OR REPLACE FUNCTION audit.note_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " INSERT INTO audit.job (uuid, seq, resource, api, before, state, owner, fence, epoch)"
    " VALUES (NEW.uuid, NEW.seq, NEW.resource_uuid, NEW.api,"
    " CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state, NEW.owner_node, NEW.fence,"
    " (SELECT epoch FROM ring_slot WHERE slot = NEW.slot)); RETURN NULL; END $$",
    "CREATE OR REPLACE TRIGGER audit_slot AFTER INSERT OR UPDATE ON ring_slot FOR EACH ROW"
    " EXECUTE FUNCTION audit.note_slot()",
    "CREATE OR REPLACE TRIGGER audit_job_new AFTER INSERT ON job FOR EACH ROW EXECUTE FUNCTION audit.note_job()",
    "CREATE OR REPLACE TRIGGER audit_job AFTER UPDATE ON job FOR EACH ROW"
    " WHEN ((OLD.state, OLD.fence, OLD.owner_node, OLD.step_no)"
    " IS DISTINCT FROM (NEW.state, NEW.fence, NEW.owner_node, NEW.step_no)) EXECUTE FUNCTION audit.note_job()",
    "INSERT INTO audit.slot (slot, owner, incarnation, epoch) SELECT slot, owner, incarnation, epoch FROM ring_slot",
)
ENDED = ("Succeeded", "Failed", "Cancelled")


class SlotChange(NamedTuple):
    committed: datetime
    slot: int
    owner: str | None
    incarnation: int
    epoch: int


class JobChange(NamedTuple):
    """``epoch``: of the job's slot when it was written. ``before``: the state until then, None of a new job."""

    committed: datetime
    uuid: str
    seq: int
    resource: str
    api: str
    before: str | None
    state: str
    owner: str | None
    fence: int
    epoch: int

    @property
    def claims(self) -> bool:
        return self.before == "Pending" and self.state == "Running"

    @property
    def ends(self) -> bool:
        return self.before not in ENDED and self.state in ENDED


class Trail:
    """Read once; to be installed while the schema is there, and before what is to be watched."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def install(self) -> None:
        self._records.run(INSTALL)

    def slots(self) -> list[SlotChange]:
        """In the order in which they were committed."""
        return [SlotChange(*row) for row in self._records.rows(_read("slot", SlotChange))]

    def jobs(self) -> list[JobChange]:
        return [JobChange(*row) for row in self._records.rows(_read("job", JobChange))]

    def findings(self) -> list[str]:
        slots, jobs = self.slots(), self.jobs()
        checks = (owners(slots), fences(jobs), ends(jobs), intervals(jobs), order(jobs))
        return [finding for check in checks for finding in check]


def _read(table: str, record: type[SlotChange] | type[JobChange]) -> str:
    columns = ", ".join(record._fields[1:])
    return f"SELECT pg_xact_commit_timestamp(xid) AS committed, {columns} FROM audit.{table} ORDER BY committed, n"


def owners(slots: Sequence[SlotChange]) -> Iterator[str]:
    """One owner per epoch of a slot, and epochs grow."""
    last: dict[int, SlotChange] = {}
    for change in slots:
        before = last.get(change.slot)
        if before is not None:
            same = (before.owner, before.incarnation) == (change.owner, change.incarnation)
            if change.epoch < before.epoch or (change.epoch == before.epoch and not same):
                yield (
                    f"I1: slot {change.slot} went from {before.owner} at epoch {before.epoch}"
                    f" to {change.owner} at epoch {change.epoch}"
                )
        last[change.slot] = change


def fences(jobs: Sequence[JobChange]) -> Iterator[str]:
    """No write of a job by somebody whose fence is below the epoch of its slot."""
    for change in jobs:
        if change.before is not None and 0 < change.fence < change.epoch:
            yield (
                f"I2: the job {change.uuid} became {change.state} under fence {change.fence} by {change.owner},"
                f" when its slot was at epoch {change.epoch}"
            )


def ends(jobs: Sequence[JobChange]) -> Iterator[str]:
    """A job ends once."""
    ended: dict[str, str] = {}
    for change in jobs:
        if change.uuid in ended:
            yield f"I4: the job {change.uuid} was {ended[change.uuid]}, and then became {change.state}"
        if change.ends:
            ended[change.uuid] = change.state


def intervals(jobs: Sequence[JobChange]) -> Iterator[str]:
    """One job at a time on a resource."""
    running: dict[str, str] = {}
    for change in jobs:
        other = running.get(change.resource)
        if change.claims:
            if other is not None and other != change.uuid:
                yield f"I7: the job {change.uuid} began on {change.resource}, where {other} was running"
            running[change.resource] = change.uuid
        elif change.ends and other == change.uuid:
            del running[change.resource]


def order(jobs: Sequence[JobChange]) -> Iterator[str]:
    """Jobs on one resource begin in the order in which they were acknowledged."""
    accepted: dict[str, JobChange] = {change.uuid: change for change in jobs if change.before is None}
    begun: dict[str, list[JobChange]] = defaultdict(list)
    for change in jobs:
        if change.claims and change.uuid in accepted:
            begun[change.resource].append(accepted[change.uuid])
    for resource, order in begun.items():
        for earlier, later in pairwise(order):
            if later.seq < earlier.seq and later.committed < earlier.committed:
                yield f"I7: on {resource} the job {earlier.uuid} began before {later.uuid}, acknowledged earlier"
