"""The service behind the gadgets. What its steps do is decided by the test: ``service.bench.at(place)``."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete

from mgmtnode.api.auth import Authenticator
from mgmtnode.bus.message import NOTHING, Nothing
from mgmtnode.db import resource, tables
from mgmtnode.db.session import Tx
from mgmtnode.errors import UNAUTHENTICATED
from mgmtnode.extension.point import Extension
from mgmtnode.jobs import ledger
from mgmtnode.jobs.job import Caller, JobState, WorkToken
from mgmtnode.service import NodeContext, Service, ServiceManifest, job, validate
from mgmtnode.workflow.flow import Flow, FlowContext, Sealed, Step, TxStep
from mgmtnode.workflow.handle import JobHandle
from tests.workshop import contract as words
from tests.workshop.bench import HOST, POOL, UNITS, Bench

Handle = JobHandle


class Work(FlowContext):
    """``drawn`` shows whether a transaction that was tried again began with the context as it was."""

    uuid: str
    name: str = ""
    parts: list[str] = []
    parallel: int = 2
    drawn: list[int] = []


def _at(place: str, undo: bool = False) -> Any:
    async def step(service: GadgetService, job: Handle, context: Work) -> None:
        await service.bench.at(place)
        await service.bench.command(job.token, place)

    return step


def _in_tx(place: str) -> Any:
    def step(service: GadgetService, tx: Tx, context: Work) -> None:
        service.bench.now(place)

    return step


def reserve(service: GadgetService, tx: Tx, context: Work) -> None:
    resource.create(tx, words.GADGET, context.uuid, context.name, account=tx.job.account_uuid)
    fits = ledger.reserve(tx, POOL, UNITS, 1, holder=context.uuid, uuid=tx.job.job_uuid)
    assert fits
    service.bench.now("reserve")


def release(service: GadgetService, tx: Tx, context: Work) -> None:
    service.bench.now("undo reserve")
    ledger.free(tx, context.uuid)
    resource.remove(tx, context.uuid)


def measure(service: GadgetService, tx: Tx, context: Work) -> None:
    context.drawn.append(len(context.drawn))
    tx.record(words.GadgetTouched(resource_uuid=context.uuid, note="measured"))
    service.bench.now("measure")


def unmeasure(service: GadgetService, tx: Tx, context: Work) -> None:
    service.bench.now("undo measure")


def ship(service: GadgetService, tx: Tx, context: Work) -> None:
    tx.record(words.GadgetTouched(resource_uuid=context.uuid, note="shipped"))
    service.bench.now("ship")


def built(service: GadgetService, tx: Tx, context: Work) -> words.Gadget:
    return words.Gadget(uuid=context.uuid, name=f"{context.name}{context.drawn}")


async def seal(service: GadgetService, context: Work, fence: int) -> Sealed | None:
    return await service.bench.seal(context.uuid, fence)


def hosts(context: Work) -> list[str]:
    return [HOST]


BUILD: Flow[Any, Any, Any] = Flow(
    "gadget.build",
    (
        TxStep("reserve", run=reserve, undo=release),
        Step("cut", run=_at("cut"), undo=_at("undo cut")),
        Step("drill", run=_at("drill"), undo=_at("undo drill"), record=True),
        TxStep("measure", run=measure, undo=unmeasure),
        Step("paint", run=_at("paint"), undo=_at("undo paint")),
        TxStep("ship", run=ship),
    ),
    result=built,
    hosts=hosts,
    seal=seal,
)


def _polish(name: str, record: bool) -> Flow[Any, Any, Any]:
    return Flow(
        name,
        (
            TxStep("look", run=_in_tx("look")),
            Step("polish", run=_at("polish"), undo=_at("undo polish"), record=record),
            TxStep("note", run=_in_tx("note")),
        ),
        result=lambda service, tx, context: NOTHING,
        hosts=hosts,
        seal=seal,
    )


async def assemble(service: GadgetService, job: Handle, context: Work) -> None:
    work = [(f"polish:{part}", words.PolishGadget(uuid=part)) for part in context.parts]
    ended = await job.children(work, parallel=context.parallel)
    if failed := [child for child in ended if child.state is not JobState.SUCCEEDED]:
        raise words.BROKEN.error(f"{len(failed)} of {len(ended)} parts could not be polished")


async def dismantle(service: GadgetService, job: Handle, context: Work) -> None:
    await service.bench.at("undo assemble")


ASSEMBLE: Flow[Any, Any, Any] = Flow(
    "gadget.assemble",
    (Step("assemble", run=assemble, undo=dismantle),),
    result=lambda service, tx, context: NOTHING,
)


class GadgetService(Service):
    bench: Bench  # given by the world before any job runs

    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)

    @job()
    def make(self, tx: Tx, msg: words.MakeGadget) -> words.Gadget:
        self.bench.now("make")
        uuid = tx.job.resource_uuid
        resource.create(tx, words.GADGET, uuid, msg.name, account=tx.job.account_uuid)
        self.bench.now("made")
        return words.Gadget(uuid=uuid, name=msg.name)

    @job()
    def touch(self, tx: Tx, msg: words.TouchGadget) -> Nothing:
        self.bench.now("touch")
        tx.record(words.GadgetTouched(resource_uuid=msg.uuid, note=msg.note))
        return NOTHING

    @validate
    def check_touch(self, tx: Tx, msg: words.TouchGadget, caller: Caller) -> None:
        if msg.note == "forbidden":
            raise words.BROKEN.error("not with that note", resource=msg.uuid)

    @job(BUILD)
    def build(self, msg: words.BuildGadget, work: WorkToken) -> Work:
        return Work(uuid=work.resource_uuid, name=msg.name)

    @job(_polish("gadget.polish", record=False))
    def polish(self, msg: words.PolishGadget, work: WorkToken) -> Work:
        return Work(uuid=msg.uuid)

    @job(_polish("gadget.shine", record=True))
    def shine(self, msg: words.ShineGadget, work: WorkToken) -> Work:
        return Work(uuid=msg.uuid)

    @job(ASSEMBLE)
    def assemble(self, msg: words.AssembleGadget, work: WorkToken) -> Work:
        return Work(uuid=msg.uuid, parts=msg.parts, parallel=msg.parallel)


class Doorkeeper(Authenticator):
    async def authenticate(self, token: str) -> Caller:
        raise UNAUTHENTICATED.error("nobody may in")


def forget_gadget(tx: Tx, uuid: str) -> None:
    tx.execute(delete(tables.resource).where(tables.resource.c.uuid == uuid))


manifest = ServiceManifest(
    id="gadget",
    summary="Gadgets",
    service=GadgetService,
    contract=(words,),
    extensions=(Extension(Authenticator, lambda service: Doorkeeper(), key="token"),),
)
