"""A whole gateway over scripted neighbours: jobs, query, database and identity."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import httpx
import msgspec
import pytest

from mgmtnode.api.app import HttpApi
from mgmtnode.api.auth import Authenticator
from mgmtnode.api.gateway import Gateway, Limits
from mgmtnode.api.operations import Operations
from mgmtnode.api.server import Listen
from mgmtnode.bus.message import Api, ApiCall, ApiJob, ApiMessage, CreateJob
from mgmtnode.contracts import zone
from mgmtnode.errors import CONFLICT, KEY_REUSED, NOT_FOUND, UNAUTHENTICATED, ApiError
from mgmtnode.jobs.job import Caller, Job, JobState, Plan, Statement
from mgmtnode.query.engine import Page
from mgmtnode.schema import Data, Inventory, Name, Ref, Resource, Uuid
from mgmtnode.telemetry.telemetry import Telemetry

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ADMIN, TENANT = "0190aaaa-0000-7000-8000-000000000001", "0190aaaa-0000-7000-8000-000000000002"


def uuid(n: int) -> str:
    return f"0190bbbb-0000-7000-8000-{n:012x}"


class Vm(Inventory):
    state: str = "Running"


class Session(Data):
    token: str


VM = Resource("vm", "vms", Vm, owned=True)
ZONE = Resource("zone", "zones", zone.Zone, unique_name=True)


class Disk(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    size: int
    kind: str = "thin"


class CreateVm(CreateJob[Vm], frozen=True, kw_only=True):
    """Makes a VM and starts it."""

    api: ClassVar[Api] = Api("vm.create", "POST", "/vms", "Create a VM")
    creates: ClassVar[str] = "vm"

    name: Name
    zone_uuid: Annotated[Uuid, Ref("zone")] | None = None
    disks: list[Disk] = msgspec.field(default_factory=list)


class StopVm(ApiJob[Vm], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("vm.stop", "POST", "/vms/{uuid}/actions/stop", "Stop a VM")
    resource_type: ClassVar[str] = "vm"

    uuid: Uuid
    grace_seconds: int = 30


class OpenSession(ApiCall[Session], frozen=True, kw_only=True):
    """Logs in."""

    api: ClassVar[Api] = Api("session.create", "POST", "/sessions", "Log in", public=True, status=201)

    account: str
    password: str


class ListCandidates(ApiCall[list[str]], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("vm.candidates", "GET", "/vms/{uuid}/candidates", "Hosts that could take it")

    uuid: Uuid
    limit: int = 10
    hosts: list[str] = msgspec.field(default_factory=list)
    strict: bool = False


MESSAGES: list[type[ApiMessage[Any]]] = [
    zone.CreateZone, zone.UpdateZone, zone.DeleteZone, zone.EnableZone,
    CreateVm, StopVm, OpenSession, ListCandidates,
]  # fmt: skip


class ScriptedIdentity(Authenticator):
    def __init__(self) -> None:
        self.callers = {
            "admin": Caller(account_uuid=ADMIN, account_name="admin", admin=True, via="token"),
            "tenant": Caller(account_uuid=TENANT, account_name="acme", via="token"),
        }

    def user(self, token: str, *statements: Statement) -> None:
        self.callers[token] = Caller(account_uuid=TENANT, user_uuid=uuid(99), statements=list(statements))

    async def authenticate(self, token: str) -> Caller:
        caller = self.callers.get(token)
        if caller is None:
            raise UNAUTHENTICATED.error("no such token")
        return caller


class ScriptedJobs:
    """Accepts everything; ``end`` says how a job that is waited for ends (None: it does not)."""

    def __init__(self) -> None:
        self.accepted: list[tuple[ApiJob[Any], Caller, str | None]] = []
        self.jobs: dict[str, Job] = {}
        self.keys: dict[str, tuple[ApiJob[Any], str]] = {}
        self.end: Callable[[Job], Job] | None = None
        self.refuse: Exception | None = None
        self.waits: list[float] = []

    async def dry_run(self, msg: ApiJob[Any], caller: Caller) -> Plan:
        return Plan(api=msg.api.name, resource_type=msg.creates, resource_uuid=uuid(7), steps=["save"])

    async def accept(
        self,
        msg: ApiJob[Any],
        caller: Caller,
        *,
        key: str | None = None,
        precondition: Any = None,
        beside: Any = None,
    ) -> Job:
        if precondition is not None:
            precondition(None)
        if self.refuse:
            raise self.refuse
        self.accepted.append((msg, caller, key))
        if key in self.keys:
            known, job_uuid = self.keys[key]
            if known != msg:
                raise KEY_REUSED.error()
            return msgspec.structs.replace(self.jobs[job_uuid], replayed=True)
        job = self._job(msg, caller)
        self.jobs[job.uuid] = job
        if key:
            self.keys[key] = (msg, job.uuid)
        return job

    def _job(self, msg: ApiJob[Any], caller: Caller) -> Job:
        n = len(self.jobs) + 1
        return Job(
            uuid=uuid(n),
            api=msg.api.name,
            resource_type=msg.creates or msg.resource_type,
            resource_uuid=uuid(1000 + n) if msg.creates else getattr(msg, msg.target),
            state=JobState.PENDING,
            account_uuid=caller.account_uuid,
            accepted_at=NOW,
        )

    async def get(self, uuid: str, caller: Caller) -> Job:
        job = self.jobs.get(uuid)
        if job is None or (job.account_uuid != caller.account_uuid and not caller.admin):
            raise NOT_FOUND.error(f"there is no job {uuid}", resource=uuid)
        return job

    async def wait(self, uuid: str, seconds: float, caller: Caller | None = None) -> Job:
        self.waits.append(seconds)
        if self.end is None:
            await asyncio.Event().wait()
        else:
            self.jobs[uuid] = self.end(self.jobs[uuid])
        return self.jobs[uuid]

    async def cancel(self, uuid: str, caller: Caller) -> Job:
        job = await self.get(uuid, caller)
        if job.ended:
            raise CONFLICT.error("it ended", resource=uuid)
        self.jobs[uuid] = msgspec.structs.replace(job, cancel_requested=True)
        return self.jobs[uuid]


class ScriptedQuery:
    """Holds inventories by type; remembers what was asked."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {"zone": {}, "vm": {}, "job": {}}
        self.asked: list[tuple[str, list[str], dict[str, Any]]] = []

    def page(self, tx: Any, resource: Resource, conditions: Any, **options: Any) -> Any:
        self.asked.append((resource.type, conditions, options))
        items = list(self.rows[resource.type].values())
        for condition in conditions:
            name, _, value = condition.partition("=")
            items = [i for i in items if str(getattr(i, name)) == value]
        return Page(items, None, len(items) if options["count"] else None)

    def get(self, tx: Any, resource: Resource, key: str, *, caller: Caller | None = None) -> Any:
        rows = self.rows[resource.type]
        named = (row for row in rows.values() if resource.unique_name and row.name == key)
        found = rows.get(key) or next(named, None)
        if found is None:
            raise NOT_FOUND.error(f"there is no {resource.type} {key}", resource=key)
        return found


class InlineDatabase:
    async def read(self, work: Callable[[Any], Any]) -> Any:
        return work(None)


class Happening(Data):
    id: str
    name: str
    resource_uuid: str
    account_uuid: str


class ScriptedLog:
    """The event log in memory. ``first`` is the oldest event kept."""

    def __init__(self) -> None:
        self.events: list[Happening] = []
        self.first = 0
        self._changed = asyncio.Event()
        self.reads = 0

    def add(self, name: str, resource: str, account: str = TENANT) -> Happening:
        event = Happening(
            id=f"0-{len(self.events) + 1}", name=name, resource_uuid=resource, account_uuid=account
        )
        self.events.append(event)
        self._changed.set()
        self._changed = asyncio.Event()
        return event

    async def read(self, after: str | None, limit: int, caller: Caller) -> list[Happening]:
        self.reads += 1
        start = max(self.first, int(after.partition("-")[2]) if after else 0)
        visible = [e for e in self.events[start:] if caller.admin or e.account_uuid == caller.account_uuid]
        return visible[:limit]

    async def changed(self, timeout: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()

    async def head(self) -> str:
        return self.events[-1].id if self.events else "0-0"

    async def oldest(self) -> str | None:
        return self.events[self.first].id if self.events[self.first :] else None


class CountingRng:
    """Numbers in order instead of random ones."""

    def __init__(self) -> None:
        self.n = 0

    def bits(self, n: int) -> int:
        self.n += 1
        return self.n

    def uniform(self, low: float, high: float) -> float:
        return low


class World:
    def __init__(self) -> None:
        self.identity, self.jobs, self.query = ScriptedIdentity(), ScriptedJobs(), ScriptedQuery()
        self.calls: dict[type, Any] = {OpenSession: self.open_session, ListCandidates: self.list_candidates}
        self.called: list[Any] = []
        self.refused: ApiError | None = None
        self.gateway = Gateway(
            operations=Operations(MESSAGES, [ZONE, VM]),
            jobs=self.jobs,
            query=self.query,
            db=InlineDatabase(),
            authenticator=self.identity,
            calls=self.calls,
            admit=self.admit,
            limits=Limits(call_seconds=20.0),
        )
        self.log = ScriptedLog()
        self.checks: dict[str, Any] = {}
        self.telemetry = Telemetry()
        self.api = HttpApi(
            self.gateway,
            events=self.log,
            checks=self.checks,
            telemetry=self.telemetry,
            rng=CountingRng(),
            listen=Listen(port=0),
        )
        self.app = self.api.app

    async def admit(self, caller: Caller) -> None:
        if self.refused:
            raise self.refused

    async def open_session(self, msg: OpenSession, caller: Caller) -> Session:
        self.called.append((msg, caller))
        if msg.password != "secret":
            raise UNAUTHENTICATED.error("wrong account or password")
        return Session(token="tenant")

    async def list_candidates(self, msg: ListCandidates, caller: Caller) -> list[str]:
        self.called.append((msg, caller))
        return ["host-1"]

    def add_zone(self, n: int = 1, name: str = "west") -> zone.Zone:
        found = zone.Zone(
            uuid=uuid(n),
            name=name,
            description="",
            created_at=NOW,
            updated_at=NOW,
            state=zone.ZoneState.ENABLED,
        )
        self.query.rows["zone"][found.uuid] = found
        return found

    def add_vm(self, n: int = 1) -> Vm:
        found = Vm(uuid=uuid(n), name=f"vm-{n}", description="", created_at=NOW, updated_at=NOW)
        self.query.rows["vm"][found.uuid] = found
        return found

    def client(self, token: str | None = "admin") -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(app=self.app)  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url="http://node", headers=headers)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def run() -> Callable[[Any], Any]:
    """Runs a coroutine to its end, within a minute."""

    async def bounded(work: Any) -> Any:
        async with asyncio.timeout(60):
            return await work

    return lambda work: asyncio.run(bounded(work))


Streams = AsyncIterator[bytes]
