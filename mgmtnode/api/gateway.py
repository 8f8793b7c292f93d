"""What every road from outside leads to: authenticate, authorise, build the message, do it as job or call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from mgmtnode.api.auth import ANONYMOUS, Authenticator, authorise
from mgmtnode.api.operations import Operation, Operations, build
from mgmtnode.api.problems import NO_DRY_RUN, PRECONDITION
from mgmtnode.bus.context import Asked, current
from mgmtnode.bus.message import ApiJob, ApiMessage
from mgmtnode.errors import NOT_FOUND, UNAUTHENTICATED
from mgmtnode.jobs.job import JOB, Caller, Job, Plan
from mgmtnode.jobs.once import Rehearsed
from mgmtnode.schema import UUID_PATTERN, Resource

T = TypeVar("T")
Handler = Callable[[Any, Caller], Awaitable[Any]]
UUID = re.compile(UUID_PATTERN)
NOT_IN_TAG = re.compile(r"[^0-9A-Za-z.]")
NAME_LENGTH = 255


class Jobs(Protocol):
    """The part of ``mgmtnode.jobs.jobs`` the gateway needs."""

    async def accept(
        self,
        msg: ApiJob[Any],
        caller: Caller,
        *,
        key: str | None = None,
        precondition: Callable[[Any], None] | None = None,
        beside: Callable[[Any, Job], None] | None = None,
    ) -> Job: ...

    async def dry_run(self, msg: ApiJob[Any], caller: Caller) -> Plan: ...

    async def get(self, uuid: str, caller: Caller) -> Job: ...

    async def wait(self, uuid: str, seconds: float, caller: Caller | None = None) -> Job: ...

    async def cancel(self, uuid: str, caller: Caller) -> Job: ...


class Query(Protocol):
    """The part of ``mgmtnode.query.engine`` the gateway needs."""

    def page(
        self,
        tx: Any,
        resource: Resource,
        conditions: Sequence[str],
        /,
        *,
        caller: Caller | None,
        sort: str,
        limit: int,
        cursor: str,
        fields: Sequence[str],
        count: bool,
    ) -> Any: ...

    def get(self, tx: Any, resource: Resource, key: str, /, *, caller: Caller | None = None) -> Any:
        """By uuid, and by name where names are unique."""
        ...


class Reads(Protocol):
    """The part of the Database port the gateway needs."""

    async def read(self, work: Callable[[Any], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How a request is to be handled. ``wait``: seconds to hold the answer back for the job to end. ``beside``
    writes in the transaction that accepts the job; for a known key, beside the job accepted before."""

    key: str | None = None
    wait: float = 0.0
    dry_run: bool = False
    if_match: str | None = None
    text: bool = False
    beside: Callable[[Any, Job], None] | None = None


PLAIN = Options()


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job, ended if it was waited for and ended in time. ``replayed``: its key had been used before."""

    operation: Operation
    job: Job
    replayed: bool


@dataclass(frozen=True, slots=True)
class Planned:
    """What a dry run found."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Done:
    """The answer of an ApiCall. ``replayed``: its key had been used before."""

    operation: Operation
    reply: Any
    replayed: bool = False


Answer = Accepted | Planned | Done


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list is asked for, in the words of the query engine."""

    conditions: tuple[str, ...] = ()
    sort: str = ""
    limit: int = 100
    cursor: str = ""
    fields: tuple[str, ...] = ()
    count: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """``call_seconds`` bounds everything but waiting for jobs; ``waiting`` how many requests wait at once."""

    call_seconds: float = 30.0
    wait_seconds: float = 60.0
    waiting: int = 3000


@dataclass(kw_only=True)
class Gateway:
    """Transport-neutral: REST and AMQP both end here. Raises ApiError, or TimeoutError in the end."""

    operations: Operations
    jobs: Jobs
    query: Query
    db: Reads
    authenticator: Authenticator
    calls: Mapping[type, Handler]
    admit: Callable[[Caller], Awaitable[None]]
    limits: Limits = field(default_factory=Limits)
    waiting: int = 0
    closing: bool = False
    _waits: set[asyncio.Task[Any]] = field(default_factory=set)

    async def authenticate(self, token: str | None) -> Caller:
        """Who asks, if the account may ask now. Raises core.unauthenticated, and what ``admit`` raises."""
        if not token:
            raise UNAUTHENTICATED.error("the request carries no token")
        async with self._deadline():
            caller = await self.authenticator.authenticate(token)
            await self.admit(caller)
            return caller

    async def caller_of(self, operation: Operation, token: str | None) -> Caller:
        """Who asks; anybody if the API is public. Raises core.unauthenticated."""
        return ANONYMOUS if operation.api.public else await self.authenticate(token)

    async def invoke(
        self, operation: Operation, fields: dict[str, Any], caller: Caller, options: Options = PLAIN
    ) -> Answer:
        """Does what ``operation`` says, for a caller from ``caller_of``. ``fields`` are changed in place."""
        async with self._deadline():
            await self._resolve(operation, fields, caller)
            self._authorise(operation, fields, caller)
            msg = build(operation, fields, text=options.text)
            precondition = self._precondition(operation, fields, caller, options.if_match)
            if precondition and (options.dry_run or not isinstance(msg, ApiJob)):
                await self.db.read(precondition)
            if not isinstance(msg, ApiJob):
                return await self._call(operation, msg, caller, options)
            if options.dry_run:
                return Planned(await self.jobs.dry_run(msg, caller))
            job = await self.jobs.accept(
                msg, caller, key=options.key, precondition=precondition, beside=options.beside
            )
        return Accepted(operation, await self._until_ended(job, caller, options.wait), job.replayed)

    async def page(self, resource: Resource, listing: Listing, caller: Caller) -> Any:
        authorise(caller, f"{resource.type}.read")
        async with self._deadline():
            return await self.db.read(lambda tx: self._page(tx, resource, listing, caller))

    async def get(self, resource: Resource, key: str, caller: Caller) -> Any:
        """The inventory with the uuid or, where names are unique, the name ``key``. Raises core.not-found."""
        async with self._deadline():
            found = await self._find(resource, key, caller)
            authorise(caller, f"{resource.type}.read", resource=str(found.uuid))
            return found

    async def job(self, uuid: str, caller: Caller, wait: float = 0.0) -> Job:
        """The job, once it ended or after ``wait`` seconds."""
        job: Job = await self.get(JOB, uuid, caller)
        return await self._until_ended(job, caller, wait)

    async def cancel(self, uuid: str, caller: Caller) -> Job:
        async with self._deadline():
            found = await self._uuid(JOB, uuid, caller)
            authorise(caller, "job.cancel", resource=found)
            return await self.jobs.cancel(found, caller)

    def close(self) -> None:
        """Answers everybody who waits for a job, now: the node is stopping."""
        self.closing = True
        for task in self._waits:
            task.cancel()

    def _authorise(self, operation: Operation, fields: dict[str, Any], caller: Caller) -> None:
        api = operation.api
        if not api.public:
            target = fields.get(operation.target) if operation.target else None
            authorise(caller, api.name, admin=api.admin, resource=target if isinstance(target, str) else None)

    async def _call(
        self, operation: Operation, msg: ApiMessage[Any], caller: Caller, options: Options
    ) -> Answer:
        if options.dry_run and not operation.once:
            raise NO_DRY_RUN.error(f"{operation.api.name} changes nothing that could be tried dry")
        asked = Asked(options.key, options.dry_run)
        before = current.set(msgspec.structs.replace(current.get(), asked=asked))
        try:
            reply = await self.calls[operation.message](msg, caller)
        except Rehearsed as rehearsed:
            return Planned(rehearsed.plan)
        finally:
            current.reset(before)
        return Done(operation, reply, asked.replayed)

    async def _until_ended(self, job: Job, caller: Caller, wait: float) -> Job:
        """A wait is a wish: the job is answered as it is when the node stops or too many wait already."""
        if job.ended or wait <= 0 or self.closing or self.waiting >= self.limits.waiting:
            return job
        seconds = min(wait, self.limits.wait_seconds)
        task = asyncio.ensure_future(self.jobs.wait(job.uuid, seconds, caller))
        self._waits.add(task)
        self.waiting += 1
        try:
            await asyncio.wait({task}, timeout=seconds + 5.0)
            return task.result() if task.done() and not task.cancelled() else job
        finally:
            self.waiting -= 1
            self._waits.discard(task)
            task.cancel()

    async def _resolve(self, operation: Operation, fields: dict[str, Any], caller: Caller) -> None:
        """Names in the path become uuids. What is not there, or no text, is left to the parser to refuse."""
        for name, resource in operation.addressed.items():
            if isinstance(key := fields.get(name), str):
                fields[name] = await self._uuid(resource, key, caller)

    async def _uuid(self, resource: Resource, key: str, caller: Caller) -> str:
        lower = key.lower()
        return lower if UUID.fullmatch(lower) else str((await self._find(resource, key, caller)).uuid)

    async def _find(self, resource: Resource, key: str, caller: Caller) -> Any:
        lower = key.lower()
        key = lower if UUID.fullmatch(lower) else key
        is_uuid = UUID.fullmatch(key) is not None
        if resource.type == JOB.type and is_uuid:
            return await self.jobs.get(key, caller)
        if len(key) > NAME_LENGTH or not (is_uuid or resource.unique_name):
            raise NOT_FOUND.error(f"there is no {resource.type} {key[:80]!r}", resource=key[:80])
        return await self.db.read(lambda tx: self.query.get(tx, resource, key, caller=caller))

    def _page(self, tx: Any, resource: Resource, listing: Listing, caller: Caller) -> Any:
        return self.query.page(
            tx,
            resource,
            list(listing.conditions),
            caller=caller,
            sort=listing.sort or "",
            limit=listing.limit,
            cursor=listing.cursor or "",
            fields=listing.fields or (),
            count=listing.count,
        )

    def _precondition(
        self, operation: Operation, fields: dict[str, Any], caller: Caller, wanted: str | None
    ) -> Callable[[Any], None] | None:
        """What raises api.precondition-failed if the resource is not in the version the caller saw."""
        target = operation.target
        if not wanted or target is None or target not in operation.addressed or wanted.strip() == "*":
            return None
        uuid, resource = fields[target], operation.addressed[target]

        def check(tx: Any) -> None:
            found = self.query.get(tx, resource, uuid, caller=caller)
            if not matches(etag(found), wanted):
                raise PRECONDITION.error(
                    f"the {resource.type} changed since it was read; read it again", resource=uuid
                )

        return check

    def _deadline(self) -> asyncio.Timeout:
        return asyncio.timeout(self.limits.call_seconds)


def etag(inventory: Any) -> str | None:
    """A weak tag of the version of an inventory (perhaps as JSON): its revision or the time of its change."""
    names = ("revision", "updated_at")
    if isinstance(inventory, dict):
        found = [inventory.get(name) for name in names]
    else:
        found = [getattr(inventory, name, None) for name in names]
    version = str(msgspec.to_builtins(found[0] or found[1] or ""))
    return f'W/"{NOT_IN_TAG.sub("", version)}"' if version else None


def matches(tag: str | None, wanted: str) -> bool:
    """Whether ``wanted`` (If-Match, If-None-Match: tags with commas, or ``*``) names ``tag``, weakly."""
    if tag is None:
        return wanted.strip() == "*"
    tags = [t.strip().removeprefix("W/") for t in wanted.split(",")]
    return "*" in tags or tag.removeprefix("W/") in tags
