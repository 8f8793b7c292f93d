"""The identity service on a real SQLite database, with scripted neighbours."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from sqlalchemy import Column, Integer, select

from mgmtnode.bus.message import ApiJob, DeleteJob, Event, InTx
from mgmtnode.cascade.graph import CascadeGraph
from mgmtnode.contracts import identity, ownership, quota, session
from mgmtnode.contracts.identity import CreateAccount, DeleteAccount
from mgmtnode.contracts.quota import QuotaDefinition, QuotaSource
from mgmtnode.contracts.session import CreateApiKey, OpenedSession, OpenSession
from mgmtnode.db import resource
from mgmtnode.db.base import metadata, resource_table
from mgmtnode.db.engine import open_database
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import SYSTEM_ACCOUNT, Caller, Job, JobState, WorkToken
from mgmtnode.ports import UuidSource
from mgmtnode.query.engine import Query
from mgmtnode.schema import Inventory, Resource
from mgmtnode.shared.port import Alone
from services.identity.config import CONFIG, PASSWORD_COST
from services.identity.handlers.accounts import AccountHandlers
from services.identity.models import TABLES
from services.identity.properties import ADMIN_PASSWORD
from services.identity.service import IdentityService

T = TypeVar("T")
ADMIN = Caller(account_uuid=SYSTEM_ACCOUNT, account_name="admin", admin=True)
PASSWORD = "correct horse"

gadget = resource_table("gadget", Column("size", Integer, nullable=False))


class Gadget(Inventory):
    size: int


class DeleteGadget(DeleteJob, frozen=True, kw_only=True):
    resource_type = "gadget"


GADGET = Resource("gadget", "gadgets", Gadget, owned=True)
RESOURCES = [identity.ACCOUNT, identity.USER, identity.POLICY, session.API_KEY, session.SESSION, quota.QUOTA]
CONTRACT = SimpleNamespace(GADGET=GADGET, DeleteGadget=DeleteGadget)


class ManualClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1000.0 + self.seconds


class SeededRng:
    def __init__(self) -> None:
        self._random = random.Random(7)

    def bits(self, n: int) -> int:
        return self._random.getrandbits(n)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


@dataclass
class Hooks:
    """What the node gives every transaction."""

    events: list[Event] = field(default_factory=list)

    def call_in_tx(self, tx: Tx, msg: InTx[Any]) -> Any:
        raise AssertionError("identity asks nobody")

    def record(self, tx: Tx, event: Event) -> None:
        self.events.append(event)

    def named(self, name: str) -> list[Event]:
        return [e for e in self.events if e.name == name]


class Configs:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {c.name: c.default for c in CONFIG} | {PASSWORD_COST.name: 4}

    def get(self, config: Any) -> Any:
        return self.values[config.name]


class Counted:
    """A service that counts gadgets."""

    definitions = (
        QuotaDefinition(name="gadget.num", default=3, description="Gadgets"),
        QuotaDefinition(name="gadget.size", default=100, description="Their size", unit="bytes"),
    )

    def quota_definitions(self) -> list[QuotaDefinition]:
        return list(self.definitions)


class Sources:
    def __init__(self) -> None:
        self.counted: Any = Counted()

    def all(self, point: type) -> tuple[Any, ...]:
        return (self.counted,) if point is QuotaSource else ()


class Bench:
    """One node with the identity service, driven the way the core drives it: validators, then the handler."""

    def __init__(self, path: Path, admin_password: str = PASSWORD, url: str = "") -> None:
        self.clock, self.rng, self.hooks, self.configs = ManualClock(), SeededRng(), Hooks(), Configs()
        self.db: SqlDatabase = open_database(url or f"sqlite:///{path}", self.clock)
        self.db.hooks = self.hooks
        metadata.create_all(self.db.engine, checkfirst=True)
        self.sources = Sources()
        self.uuids = UuidSource(self.clock, self.rng)
        properties = SimpleNamespace(
            get=lambda prop: admin_password if prop is ADMIN_PASSWORD else prop.default
        )
        node: Any = SimpleNamespace(
            shared=Alone(),
            name="n1", clock=self.clock, rng=self.rng, uuids=self.uuids, db=self.db,
            query=Query(RESOURCES, TABLES),
            config=self.configs, properties=properties, extensions=self.sources, cascade=CascadeGraph(()),
            manifests={
                "all": SimpleNamespace(
                    contract=(identity, ownership, quota, session, CONTRACT), tables=(*TABLES, gadget)
                )
            },
        )  # fmt: skip
        self.service = IdentityService(node)
        self.loop = asyncio.new_event_loop()
        self.run(self.service.start())

    def run(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(30):
                return await work

        return self.loop.run_until_complete(bounded())

    def close(self) -> None:
        self.run(self.db.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()

    def write(self, work: Callable[[Tx], T]) -> T:
        return self.run(self.db.write(work))

    def call(self, handler: Callable[..., Awaitable[T]], msg: Any, caller: Caller = ADMIN) -> T:
        return self.run(handler(msg, caller))

    def job(self, handler: Callable[..., T], msg: ApiJob[T], caller: Caller = ADMIN) -> T:
        """Accepts and runs a job of one transaction."""
        self.accept(msg, caller)
        uuid = self.uuids.draw() if msg.creates else getattr(msg, msg.target)

        def run(tx: Tx) -> T:
            tx.work = WorkToken(
                job_uuid=self.uuids.draw(), resource_uuid=uuid, account_uuid=caller.account_uuid,
                run_no=1, step=0, attempt=0, fence=1,
            )  # fmt: skip
            return handler(tx, msg)

        return self.write(run)

    def accept(self, msg: ApiJob[Any], caller: Caller = ADMIN) -> None:
        for name in dir(type(self.service)):
            method = getattr(type(self.service), name)
            mark = getattr(method, "__mark__", None)
            if mark and mark.kind == "validate" and method.__annotations__["msg"] == type(msg).__name__:
                self.write(partial(_validate, getattr(self.service, name), msg, caller))

    def delete_account(self, uuid: str, children: Any, caller: Caller = ADMIN) -> None:
        """Runs the flow, undoing it when a step fails."""
        msg = DeleteAccount(uuid=uuid)
        self.accept(msg, caller)
        flow = AccountHandlers.delete_account.__mark__.flow  # type: ignore[attr-defined]
        context = self.service.delete_account(msg, None)  # type: ignore[arg-type]
        handle = SimpleNamespace(children=children, origin="")
        done = []
        try:
            for step in flow.steps:
                done.append(step)
                if type(step).__name__ == "TxStep":
                    self.write(lambda tx, step=step: step.run(self.service, tx, context))
                else:
                    self.run(step.run(self.service, handle, context))
        except ApiError:
            for step in reversed(done):
                if step.undo:
                    self.write(lambda tx, step=step: step.undo(self.service, tx, context))
            raise

    def login(self, account: str, password: str = PASSWORD, user: str | None = None) -> OpenedSession:
        return self.call(
            self.service.open_session, OpenSession(account=account, password=password, user=user)
        )

    def who(self, token: str) -> Caller:
        return self.run(self.service.authenticator.authenticate(token))

    def key(self, caller: Caller, **fields: Any) -> str:
        return self.call(self.service.create_api_key, CreateApiKey(name="ci", **fields), caller).token

    def gadget(self, owner: str, size: int = 1) -> str:
        uuid = self.uuids.draw()

        def insert(tx: Tx) -> None:
            resource.create(tx, GADGET, uuid, "g", account=owner)
            tx.execute(gadget.insert().values(uuid=uuid, size=size))

        self.write(insert)
        return uuid

    def drop(self, tx: Tx, uuid: str) -> None:
        tx.execute(gadget.delete().where(gadget.c.uuid == uuid))
        resource.remove(tx, uuid)

    def count(self, table: str) -> int:
        return len(self.write(lambda tx: tx.execute(select(metadata.tables[table])).all()))


def _validate(validator: Callable[..., None], msg: ApiJob[Any], caller: Caller, tx: Tx) -> None:
    validator(tx, msg, caller)


def ended_job(msg: DeleteJob, state: JobState, error: ApiError | None = None) -> Job:
    return Job(
        uuid="j", api="gadget.delete", resource_type="gadget", resource_uuid=msg.uuid, state=state,
        account_uuid=SYSTEM_ACCOUNT, accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
        error=error.problem if error else None,
    )  # fmt: skip


@pytest.fixture
def ended() -> Callable[..., Job]:
    return ended_job


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "db.sqlite")
    yield made
    made.close()


@pytest.fixture
def tenant(bench: Bench) -> Caller:
    return make_account(bench, "acme")


@pytest.fixture
def stranger(bench: Bench) -> Caller:
    return make_account(bench, "other")


def make_account(bench: Bench, name: str, **fields: Any) -> Caller:
    msg = CreateAccount(name=name, password=PASSWORD, **fields)
    account = bench.call(bench.service.create_account, msg)
    return Caller(account_uuid=account.uuid, account_name=name, admin="type" in fields)
