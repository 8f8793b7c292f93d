"""The flow that every deletion is: first what is below, then the row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mgmtnode.bus.message import NOTHING, ApiJob, Nothing
from mgmtnode.db.session import Tx
from mgmtnode.errors import IN_USE, ApiError, Category, Problem
from mgmtnode.jobs.job import Job, JobState
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
        ended = await _ended(job, [(f"{round_}:{key}", msg) for key, msg in work])
        failed = [
            child for child in ended if child.state is not JobState.SUCCEEDED and not _is_gone(child.error)
        ]
        if failed and not context.force:
            raise IN_USE.error(
                f"{len(failed)} of {len(ended)} resources below could not be deleted",
                resource=context.uuid,
                jobs=[child.uuid for child in failed[:20]],
                first=failed[0].error.message if failed[0].error else "",
            )


async def _ended(job: JobHandle, work: Sequence[tuple[str, ApiJob[Any]]]) -> list[Job]:
    """Runs the children. Several roads lead to one resource (a VM is below its host and below its zone): what was
    gone before its turn came needs no job."""
    gate = asyncio.Semaphore(PARALLEL)

    async def one(key: str, msg: ApiJob[Any]) -> Job | None:
        async with gate:
            try:
                return await job.child(msg, key=key)
            except ApiError as refused:
                if _is_gone(refused.problem):
                    return None
                raise

    ended = await asyncio.gather(*(one(key, msg) for key, msg in work), return_exceptions=True)
    for refused in ended:
        if isinstance(refused, BaseException):
            raise refused
    return [child for child in ended if isinstance(child, Job)]


def _is_gone(problem: Problem | None) -> bool:
    return problem is not None and problem.category is Category.NOT_FOUND
