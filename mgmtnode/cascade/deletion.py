"""The flow that every deletion is: first what is below, then the row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from mgmtnode.bus.message import NOTHING, ApiJob, Nothing
from mgmtnode.cascade.graph import Doomed
from mgmtnode.db.session import Tx
from mgmtnode.errors import IN_USE, INTERNAL, NOT_FOUND, ApiError
from mgmtnode.jobs.job import JobState
from mgmtnode.workflow.flow import Flow, FlowContext, Step, TxStep

if TYPE_CHECKING:
    from mgmtnode.service import Service
    from mgmtnode.workflow.handle import JobHandle

S = TypeVar("S", bound="Service")
ROUNDS = 3  # children made while the first ones were deleted
PARALLEL = 10


class DeletionContext(FlowContext):
    """``kind`` is the type of what is deleted."""

    uuid: str
    kind: str
    force: bool = False


AnyStep = Step[Any, Any] | TxStep[Any, Any]


def deletion_flow(
    name: str, remove: Callable[[S, Tx, DeletionContext], None], *, before: tuple[AnyStep, ...] = ()
) -> Flow[S, DeletionContext, Nothing]:
    """``before`` are the service's own steps between the children's end and ``remove``, which deletes the row."""

    def last(service: S, tx: Tx, context: DeletionContext) -> None:
        service.node.cascade.detach(tx, context.kind, context.uuid)
        remove(service, tx, context)

    steps: tuple[AnyStep, ...] = (
        Step("delete what is inside", run=_children),
        *before,
        TxStep("remove", run=last),
    )
    return Flow(name, steps, result=lambda service, tx, context: NOTHING)


async def _children(service: Any, job: JobHandle, context: DeletionContext) -> None:
    """Wave by wave: what uses something goes before it."""
    graph = service.node.cascade
    doomed = Doomed(context.uuid, "", job.origin or context.kind, context.force)
    for wave in graph.waves(context.kind):
        for round_ in range(ROUNDS):
            work = await service.node.db.read(
                partial(graph.work, doomed=doomed, kind=context.kind, wave=wave)
            )
            if not work:
                break
            failed = await _run(job, [(f"{wave}.{round_}:{key}", msg) for key, msg in work])
            if failed and context.force:
                break  # the next wave may still be had
            if failed:
                raise _left_over(context, failed, len(work))


def _left_over(context: DeletionContext, failed: list[tuple[str, str]], of: int) -> ApiError:
    return IN_USE.error(
        f"{len(failed)} of {of} resources below could not be deleted",
        resource=context.uuid,
        jobs=[uuid for uuid, _ in failed if uuid][:20],
        first=failed[0][1],
    )


async def _run(job: JobHandle, work: list[tuple[str, ApiJob[Any]]]) -> list[tuple[str, str]]:
    """Runs the children; those that failed, as (job, message), or were refused (no job). One that is not there any
    more is what was wanted: two ways down may lead to it."""
    gate = asyncio.Semaphore(PARALLEL)

    async def one(key: str, msg: ApiJob[Any]) -> tuple[str, str] | None:
        async with gate:
            try:
                ended = await job.child(msg, key=key)
            except ApiError as refused:
                uuid, problem = "", refused.problem
            else:
                if ended.state is JobState.SUCCEEDED:
                    return None
                uuid, problem = ended.uuid, ended.error or INTERNAL.error(f"it ended {ended.state}").problem
        return None if problem.code == NOT_FOUND.id else (uuid, problem.message)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(key, msg)) for key, msg in work]
    return [failed for task in tasks if (failed := task.result())]
