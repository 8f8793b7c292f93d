"""Putting the parts that run jobs together, once the node has an incarnation to claim with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mgmtnode.bus.message import CreateJob
from mgmtnode.config.configs import GlobalConfigs
from mgmtnode.db.session import Database, Tx
from mgmtnode.jobs.acceptance import JobSpec
from mgmtnode.jobs.claim import Claimed, Claims
from mgmtnode.jobs.jobs import UNDO_SECONDS, Jobs
from mgmtnode.jobs.pace import Pace
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.jobs.runner import Runner
from mgmtnode.ports import Clock
from mgmtnode.tags.tags import Tags
from mgmtnode.workflow.engine import EngineParts


def start_runner(
    jobs: Jobs,
    db: Database,
    *,
    clock: Clock,
    config: GlobalConfigs,
    tags: Tags,
    specs: dict[str, JobSpec],
    repository: JobRepository,
    node: str,
    incarnation: int,
    gate: Callable[[], Awaitable[None]],
) -> Runner:
    """The runner of this incarnation, known to ``jobs``. It runs what it is offered, nothing yet. ``gate`` returns
    when this node may claim."""
    parts = EngineParts(
        db=db,
        jobs=repository,
        clock=clock,
        children=jobs,
        created=tagging(tags),
        undo_seconds=lambda: float(config.get(UNDO_SECONDS)),
    )
    claims = Claims(repository, specs, node, incarnation)
    jobs.runner = Runner(parts, repository, claims, gate, Pace(lambda: jobs.reception.busy))
    return jobs.runner


def tagging(tags: Tags) -> Callable[[Tx, Claimed], None]:
    """Applies the tags of a create message in the transaction that makes the resource."""

    def apply(tx: Tx, claimed: Claimed) -> None:
        msg, row = claimed.msg, claimed.row
        if isinstance(msg, CreateJob) and (msg.system_tags or msg.user_tags):
            tags.apply(
                tx,
                row.resource_type,
                row.resource_uuid,
                system_tags=msg.system_tags,
                user_tags=msg.user_tags,
                admin=claimed.caller.admin,
            )

    return apply
