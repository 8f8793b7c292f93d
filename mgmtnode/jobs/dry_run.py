"""Dry runs: the checks and the leading SQL steps for real, in a transaction that is always undone."""

from __future__ import annotations

from typing import Any

import msgspec

from mgmtnode.db.session import Database, Tx
from mgmtnode.jobs.acceptance import Acceptance, JobSpec, Request
from mgmtnode.jobs.job import Plan, WorkToken
from mgmtnode.workflow.flow import TxStep

BELOW_SHOWN = 1000


class _Undone(Exception):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


async def plan(db: Database, acceptance: Acceptance, request: Request) -> Plan:
    """What the request would come to. Raises what would refuse it."""

    def rehearse(tx: Tx) -> None:
        acceptance.hold_still(tx, request)  # a job has its resource to itself, which a rehearsal has not
        acceptance.check(tx, request)
        raise _Undone(_rehearse(tx, acceptance, request))

    try:
        await db.write(rehearse)
    except _Undone as undone:
        return undone.plan
    raise AssertionError("unreachable")


def _rehearse(tx: Tx, acceptance: Acceptance, request: Request) -> Plan:
    spec = request.spec
    tx.caller = request.caller
    tx.work = WorkToken(
        job_uuid=request.job_uuid,
        resource_uuid=request.resource_uuid,
        account_uuid=request.caller.account_uuid,
        run_no=0,
        step=0,
        attempt=0,
        fence=0,
    )
    below, total = acceptance.below(tx, request, BELOW_SHOWN)
    return Plan(
        api=spec.name,
        resource_type=spec.resource_type,
        resource_uuid=request.resource_uuid,
        steps=spec.step_names(),
        context=_decide(tx, request, spec),
        below=below,
        below_total=total,
    )


def _decide(tx: Tx, request: Request, spec: JobSpec) -> Any:
    if spec.flow is None:
        return msgspec.to_builtins(spec.run(tx, request.msg))
    context = spec.run(request.msg, tx.work)
    for step in spec.flow.steps:
        if not isinstance(step, TxStep):
            break
        step.run(spec.service, tx, context)
    return msgspec.to_builtins(context)
