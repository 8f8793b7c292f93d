"""The flow that every deletion is: first what is below, then the row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mgmtnode.bus.message import NOTHING, ApiJob, Nothing
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
    graph, root = service.node.cascade, job.origin or context.kind
    for round_ in range(ROUNDS):
        work = await service.node.db.read(
            lambda tx: graph.work(tx, context.kind, context.uuid, root=root, force=context.force)
        )
        if not work:
            return
        failed = await _run(job, [(f"{round_}:{key}", msg) for key, msg in work])
        if failed and not context.force:
            raise IN_USE.error(
                f"{len(failed)} of {len(work)} resources below could not be deleted",
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
