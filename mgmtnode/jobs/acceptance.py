"""Accepting a job: everything that can be refused is refused before the row is written; the commit is the promise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from mgmtnode.bus.message import ApiJob
from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.db.session import Tx
from mgmtnode.errors import CONFLICT, DENIED, KEY_REUSED, NOT_FOUND, QUEUE_FULL, REENTRY
from mgmtnode.jobs.job import Below, Caller, Job, JobState
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.ring.slots import slot_of
from mgmtnode.schema import Ref, references
from mgmtnode.service import Service
from mgmtnode.workflow.flow import AnyFlow

JOB_DEADLINE = GlobalConfig(
    "job.deadline",
    1800,
    "A job that has not ended by then is rolled back",
    unit="seconds",
    low=1,
    high=604800,
)
JOB_QUEUE = GlobalConfig("job.queue_per_resource", 32, "Open jobs one resource may have", low=1, high=10000)

Validator = Callable[[Tx, Any, Caller], None]
Named = tuple[str, str, str]  # API of the job, type and uuid of its resource
DeletionPlan = Callable[[Tx, "JobSpec", ApiJob[Any]], list[Named]]
DeletionCheck = Callable[[Tx, "JobSpec", ApiJob[Any], str], None]


@dataclass(kw_only=True)
class JobSpec:
    """One kind of job: its message, who runs it and how. Built by the loader."""

    message: type[ApiJob[Any]]
    service: Service
    run: Callable[..., Any]
    flow: AnyFlow | None = None
    context: Any = None
    validators: list[Validator] = field(default_factory=list)
    refs: list[tuple[str, Ref]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.refs = [(name, ref) for name, ref in references(self.message) if name != self.message.target]

    @property
    def name(self) -> str:
        return self.message.api.name

    @property
    def resource_type(self) -> str:
        return self.message.creates or self.message.resource_type

    @property
    def may_be_gone(self) -> bool:
        """Whether it works on what may be left of a resource that is no more."""
        return self.message.internal and not self.resource_type

    def step_names(self) -> list[str]:
        return [step.name for step in self.flow.steps] if self.flow else [self.name.rpartition(".")[2]]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request for a job, before it is accepted."""

    spec: JobSpec
    msg: ApiJob[Any]
    caller: Caller
    job_uuid: str
    resource_uuid: str
    key: str | None
    parent: str | None
    origin: str
    deadline: float
    trace: str = ""
    span: str = ""
    precondition: Callable[[Tx], None] | None = None
    beside: Callable[[Tx, Job], None] | None = None

    @property
    def payload(self) -> bytes:
        return msgspec.json.encode(self.msg)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.spec.name.encode() + b"\0" + self.payload).hexdigest()


@dataclass(frozen=True, slots=True)
class Accepted:
    job: Job
    seq: int


class Acceptance:
    """The transaction that accepts a job. ``checks`` are the core's own validators for every job of a kind."""

    def __init__(self, jobs: JobRepository, queue_limit: Callable[[], int]) -> None:
        self._jobs = jobs
        self._queue_limit = queue_limit
        self.deletion_check: DeletionCheck = lambda tx, spec, msg, origin: None
        self.deletion_plan: DeletionPlan = lambda tx, spec, msg: []

    def accept(self, tx: Tx, request: Request) -> Accepted:
        """The job's row, new or the one accepted before under the same key (``replayed``, seq 0)."""
        accepted = self._accept(tx, request)
        if request.beside is not None:
            request.beside(tx, accepted.job)
        return accepted

    def _accept(self, tx: Tx, request: Request) -> Accepted:
        if request.key and (earlier := self._replay(tx, request)):
            return earlier
        if request.precondition:
            self._alone(tx, request)
            request.precondition(tx)
        self.check(tx, request)
        seq = self._jobs.insert(tx, self._row(tx, request))
        if seq is None:  # the same key was accepted a moment ago by another node
            replay = self._replay(tx, request)
            assert replay is not None
            return replay
        return Accepted(_fresh(tx, request), seq)

    def _alone(self, tx: Tx, request: Request) -> None:
        """Refuses if an open job may still change what the caller saw; until the commit, no other gets in between."""
        self._jobs.enqueue(tx, request.resource_uuid)
        if self._jobs.waiting(tx, request.resource_uuid):
            raise CONFLICT.error("a job is about to change it; read it again", resource=request.resource_uuid)

    def hold_still(self, tx: Tx, request: Request) -> None:
        """Lets nobody change or delete the resource until the end of the transaction."""
        if not request.spec.message.creates:
            self._jobs.hold_still(tx, request.resource_uuid)

    def below(self, tx: Tx, request: Request, limit: int) -> tuple[list[Below], int]:
        """What would be deleted, or otherwise changed, with the resource: the first ``limit``, and how many."""
        found = self.deletion_plan(tx, request.spec, request.msg)
        names = self._jobs.names(tx, [uuid for _, _, uuid in found[:limit]], request.caller)
        shown = [
            Below(api=api, resource_type=kind, resource_uuid=uuid, name=names[uuid])
            for api, kind, uuid in found[:limit]
            if uuid in names
        ]
        return shown, len(found) if request.caller.admin else len(shown)

    def check(self, tx: Tx, request: Request) -> None:
        """Everything that may refuse the request: references, ownership, queue bound, validators."""
        if not request.spec.message.creates:
            self._jobs.enqueue(tx, request.resource_uuid)
        self._check_references(tx, request)
        self._check_queue(tx, request)
        for validator in request.spec.validators:
            validator(tx, request.msg, request.caller)
        self.deletion_check(tx, request.spec, request.msg, request.origin)

    def _check_queue(self, tx: Tx, request: Request) -> None:
        """Refuses what would wait for too long, or for ever."""
        if request.spec.message.creates:
            return
        uuid, limit = request.resource_uuid, self._queue_limit()
        if request.parent and uuid in self._jobs.ancestry(tx, request.parent):
            raise REENTRY.error("a job above this one works on the resource already", resource=uuid)
        if self._jobs.waiting(tx, uuid) >= limit:
            raise QUEUE_FULL.error(f"{limit} jobs wait for it already", resource=uuid, retry_after=1)

    def _replay(self, tx: Tx, request: Request) -> Accepted | None:
        found = self._jobs.by_key(tx, request.caller.account_uuid, str(request.key))
        if not found:
            return None
        digest, job = found
        if digest != request.digest:
            raise KEY_REUSED.error("the idempotency key was used for a different request", resource=job.uuid)
        return Accepted(msgspec.structs.replace(job, replayed=True), 0)

    def _check_references(self, tx: Tx, request: Request) -> None:
        spec, msg, caller = request.spec, request.msg, request.caller
        wanted = _named(msg, spec.refs)
        target = None if spec.message.creates or spec.may_be_gone else request.resource_uuid
        uuids = list({uuid for _, uuid, _ in wanted} | ({target} if target else set()))
        if not uuids:
            return
        known = self._jobs.known(tx, uuids)
        shared = set() if caller.admin else self._jobs.shared(tx, uuids, caller.account_uuid)
        if target:
            _check_target(spec, target, known, caller, target in shared)
        for name, uuid, kind in wanted:
            found = known.get(uuid)
            visible = found and (caller.admin or found[1] == caller.account_uuid or uuid in shared)
            if not found or found[0] != kind or not visible:
                raise NOT_FOUND.error(f"{name}: there is no {kind} {uuid}", resource=uuid, field=name)

    def _row(self, tx: Tx, request: Request) -> dict[str, Any]:
        return {
            "uuid": request.job_uuid,
            "account_uuid": request.caller.account_uuid,
            "caller": msgspec.json.encode(request.caller).decode(),
            "idempotency_key": request.key,
            "request_hash": request.digest if request.key else None,
            "parent_uuid": request.parent,
            "origin": request.origin,
            "api": request.spec.name,
            "payload": request.payload.decode(),
            "resource_type": request.spec.resource_type,
            "resource_uuid": request.resource_uuid,
            "slot": slot_of(request.resource_uuid),
            "state": JobState.PENDING,
            "cancel_requested": False,
            "deadline_at": tx.now + timedelta(seconds=request.deadline),
            "accepted_at": tx.now,
            "trace": request.trace,
            "span": request.span,
        }


def _named(msg: ApiJob[Any], refs: Sequence[tuple[str, Ref]]) -> list[tuple[str, str, str]]:
    named: list[tuple[str, str, str]] = []
    for name, ref in refs:
        value = getattr(msg, name)
        if isinstance(value, str):
            named.append((name, value, ref.type))
        elif isinstance(value, list):
            named += [(name, uuid, ref.type) for uuid in value]
    return named


def _check_target(
    spec: JobSpec, uuid: str, known: Mapping[str, tuple[str, str]], caller: Caller, shared: bool
) -> None:
    kind = spec.resource_type
    found = known.get(uuid)
    mine = found and (caller.admin or found[1] == caller.account_uuid)
    if not found or (kind and found[0] != kind) or not (mine or shared):
        raise NOT_FOUND.error(f"there is no {kind or 'resource'} {uuid}", resource=uuid)
    if not mine:
        raise DENIED.error(f"the {kind} {uuid} is shared with you, it is not yours to change", resource=uuid)


def _fresh(tx: Tx, request: Request) -> Job:
    return Job(
        uuid=request.job_uuid,
        api=request.spec.name,
        resource_type=request.spec.resource_type,
        resource_uuid=request.resource_uuid,
        state=JobState.PENDING,
        account_uuid=request.caller.account_uuid,
        parent_uuid=request.parent,
        accepted_at=tx.now,
        deadline_at=tx.now + timedelta(seconds=request.deadline),
        trace=request.trace,
    )
