"""Accepting a job: everything that can be refused is refused before the row is written; the commit is the promise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

import msgspec

from mgmtnode.bus.message import ApiJob
from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.errors import (
    CONFLICT,
    DENIED,
    KEY_REUSED,
    NOT_FOUND,
    QUEUE_FULL,
    REENTRY,
    ApiError,
)
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

T = TypeVar("T")
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

    @cached_property
    def payload(self) -> bytes:
        return msgspec.json.encode(self.msg)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.spec.name.encode() + b"\0" + self.payload).hexdigest()

    @property
    def target(self) -> str | None:
        """The resource it waits for: none if it makes one."""
        return None if self.spec.message.creates else self.resource_uuid


@dataclass(frozen=True, slots=True)
class Accepted:
    job: Job
    seq: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What judging some requests takes: (type, account) of the resources they name, and how many open jobs those have
    that they are about."""

    known: Mapping[str, tuple[str, str]]
    waiting: Mapping[str, int]


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

    def accept_together(self, tx: Tx, requests: Sequence[Request]) -> dict[str, Accepted | ApiError]:
        """What ``accept`` comes to for each, by its job; without those for which that would mean to wait for somebody
        else's transaction. A refusal is one request's own. Of each resource at most one request, and none with a
        precondition."""
        targets = [request.target for request in requests if request.target]
        free = self._jobs.try_enqueue(tx, targets) if targets else set()
        entered = [request for request in requests if request.target is None or request.target in free]
        answers, fresh = self._judge_all(tx, entered)
        # Who inserts a key waits for another node that has just inserted it: in one order, or they wait for each other.
        fresh.sort(key=lambda request: (request.caller.account_uuid, request.key or ""))
        seqs = self._jobs.insert_all(tx, [self._row(tx, request) for request in fresh])
        for request in fresh:
            answers[request.job_uuid] = _or_refusal(self._inserted, tx, request, seqs.get(request.job_uuid))
        for request in entered:
            answer = answers[request.job_uuid]
            if request.beside is not None and isinstance(answer, Accepted):
                request.beside(tx, answer.job)
        return answers

    def _judge_all(
        self, tx: Tx, requests: Sequence[Request]
    ) -> tuple[dict[str, Accepted | ApiError], list[Request]]:
        """The answers that are known, and the requests against which nothing is to be said."""
        answers: dict[str, Accepted | ApiError] = {}
        fresh: list[Request] = []
        earlier = self._jobs.by_keys(tx, [(r.caller.account_uuid, r.key) for r in requests if r.key])
        looked = self._look(tx, requests)
        for request in requests:
            found = earlier.get((request.caller.account_uuid, request.key or ""))
            if found:
                answers[request.job_uuid] = _or_refusal(_replayed, request, found)
            elif refusal := _or_refusal(self._judge, tx, request, looked):
                answers[request.job_uuid] = refusal
            else:
                fresh.append(request)
        return answers, fresh

    def _accept(self, tx: Tx, request: Request) -> Accepted:
        if request.key and (earlier := self._replay(tx, request)):
            return earlier
        if request.precondition:
            self._alone(tx, request)
            request.precondition(tx)
        self.check(tx, request)
        return self._inserted(tx, request, self._jobs.insert(tx, self._row(tx, request)))

    def _inserted(self, tx: Tx, request: Request, seq: int | None) -> Accepted:
        if seq is not None:
            return Accepted(_fresh(tx, request), seq)
        replay = self._replay(tx, request)  # the same key was accepted a moment ago by another node
        assert replay is not None
        return replay

    def _alone(self, tx: Tx, request: Request) -> None:
        """Refuses if an open job may still change what the caller saw; until the commit, no other gets in between."""
        self._jobs.enqueue(tx, request.resource_uuid)
        if self._jobs.waiting_for(tx, [request.resource_uuid]):
            raise CONFLICT.error("a job is about to change it; read it again", resource=request.resource_uuid)

    def hold_still(self, tx: Tx, request: Request) -> None:
        """Lets nobody change or delete the resource until the end of the transaction."""
        if not request.spec.message.creates:
            resource.hold_still(tx, request.resource_uuid)

    def below(self, tx: Tx, request: Request, limit: int) -> tuple[list[Below], int]:
        """What would be deleted, or otherwise changed, with the resource: the first ``limit``, and how many."""
        found = self.deletion_plan(tx, request.spec, request.msg)
        account = None if request.caller.admin else request.caller.account_uuid
        names = resource.names(tx, [uuid for _, _, uuid in found[:limit]], account)
        shown = [
            Below(api=api, resource_type=kind, resource_uuid=uuid, name=names[uuid])
            for api, kind, uuid in found[:limit]
            if uuid in names
        ]
        return shown, len(found) if request.caller.admin else len(shown)

    def check(self, tx: Tx, request: Request) -> None:
        """Everything that may refuse the request: references, ownership, queue bound, validators."""
        if request.target:
            self._jobs.enqueue(tx, request.target)
        self._judge(tx, request, self._look(tx, [request]))

    def _look(self, tx: Tx, requests: Sequence[Request]) -> Looked:
        named = {uuid: None for request in requests for uuid in _uuids(request)}
        targets = [request.target for request in requests if request.target]
        return Looked(
            resource.known(tx, list(named)) if named else {},
            self._jobs.waiting_for(tx, targets) if targets else {},
        )

    def _judge(self, tx: Tx, request: Request, looked: Looked) -> None:
        self._check_references(tx, request, looked.known)
        if request.target:
            self._check_queue(tx, request, looked.waiting.get(request.target, 0))
        for validator in request.spec.validators:
            validator(tx, request.msg, request.caller)
        self.deletion_check(tx, request.spec, request.msg, request.origin)

    def _check_queue(self, tx: Tx, request: Request, waiting: int) -> None:
        """Refuses what would wait for too long, or for ever."""
        uuid, limit = request.resource_uuid, self._queue_limit()
        if request.parent and uuid in self._jobs.ancestry(tx, request.parent):
            raise REENTRY.error("a job above this one works on the resource already", resource=uuid)
        if waiting >= limit:
            raise QUEUE_FULL.error(f"{limit} jobs wait for it already", resource=uuid, retry_after=1)

    def _replay(self, tx: Tx, request: Request) -> Accepted | None:
        found = self._jobs.by_key(tx, request.caller.account_uuid, str(request.key))
        return _replayed(request, found) if found else None

    def _check_references(self, tx: Tx, request: Request, known: Mapping[str, tuple[str, str]]) -> None:
        spec, msg, caller = request.spec, request.msg, request.caller
        uuids = _uuids(request)
        if not uuids:
            return
        wanted, target = _named(msg, spec.refs), _present(request)
        shared = set() if caller.admin else resource.shared(tx, uuids, caller.account_uuid)
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


def _or_refusal(do: Callable[..., T], *words: Any) -> T | ApiError:
    try:
        return do(*words)
    except ApiError as refusal:
        return refusal


def _replayed(request: Request, earlier: tuple[str, Job]) -> Accepted:
    digest, job = earlier
    if digest != request.digest:
        raise KEY_REUSED.error("the idempotency key was used for a different request", resource=job.uuid)
    return Accepted(msgspec.structs.replace(job, replayed=True), 0)


def _present(request: Request) -> str | None:
    """The resource that has to be there for the request's job to work on it."""
    return None if request.spec.may_be_gone else request.target


def _uuids(request: Request) -> list[str]:
    """The resources the request names, each once."""
    target = _present(request)
    named = [uuid for _, uuid, _ in _named(request.msg, request.spec.refs)]
    return list(dict.fromkeys([*named, target] if target else named))


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
