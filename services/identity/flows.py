"""Deleting an account: keep it out, delete what it owns in rounds, then the account itself."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mgmtnode.bus.message import ApiJob, DeleteJob
from mgmtnode.cascade.deletion import DeletionContext, deletion_flow
from mgmtnode.contracts.identity import ACCOUNT_STILL_OWNS, AccountChanged, AccountDeleted, AccountState
from mgmtnode.db.session import Tx
from mgmtnode.jobs import ledger
from mgmtnode.jobs.job import Job, JobState
from mgmtnode.workflow.flow import Step, TxStep

if TYPE_CHECKING:
    from mgmtnode.workflow.handle import JobHandle
    from services.identity.service import IdentityService

AT_ONCE = 8
A_ROUND = 500
OWN = frozenset({"account", "user", "policy", "api_key", "quota"})


def deletions(modules: list[ModuleType]) -> dict[str, type[DeleteJob]]:
    """How each type of resource is deleted, as the contracts say; without the types of this service."""
    found: dict[str, type[DeleteJob]] = {}
    for module in modules:
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, DeleteJob)
                and value.resource_type not in ("", *OWN)
            ):
                found[value.resource_type] = value
    return found


def close(service: IdentityService, tx: Tx, context: DeletionContext) -> None:
    """From here on nobody makes new resources in it."""
    service.sessions.end_all(tx, context.uuid, users=True)
    _state(service, tx, context, AccountState.DELETING)


def reopen(service: IdentityService, tx: Tx, context: DeletionContext) -> None:
    _state(service, tx, context, AccountState.ENABLED)


async def delete_owned(service: IdentityService, job: JobHandle, context: DeletionContext) -> None:
    """Resources that need each other refuse to go until the other has gone: hence rounds, while they help.

    Raises account.still-owns with the first refusal in its text.
    """
    messages = deletions(service.modules())
    left, turn = await _owned(service, context, messages), 0
    while left:
        ended = await job.children(_round(messages, left, context, turn), parallel=AT_ONCE)
        before, left, turn = left, await _owned(service, context, messages), turn + 1
        if left and not set(before) - set(left):
            raise _stuck(ended, context.uuid, left)


def remove(service: IdentityService, tx: Tx, context: DeletionContext) -> None:
    if remains := service.accounts.owned_but(tx, context.uuid, OWN):
        text = ", ".join(f"{count} {kind}" for kind, count in sorted(remains.items()))
        raise ACCOUNT_STILL_OWNS.error(
            f"the account still owns {text}", resource=context.uuid, remains=remains
        )
    service.tell(tx, AccountDeleted(resource_uuid=context.uuid), context.uuid)
    ledger.drop_pools(tx, context.uuid)
    service.accounts.delete(tx, context.uuid)


INSIDE = deletion_flow("account.delete", remove, before=(Step("delete what it owns", run=delete_owned),))
DELETE_ACCOUNT = replace(INSIDE, steps=(TxStep("close", run=close, undo=reopen), *INSIDE.steps))


def _state(service: IdentityService, tx: Tx, context: DeletionContext, state: AccountState) -> None:
    account = service.accounts.set_state(tx, context.uuid, state)
    service.tell(tx, AccountChanged(resource_uuid=context.uuid, account=account), context.uuid)


async def _owned(
    service: IdentityService, context: DeletionContext, messages: dict[str, type[DeleteJob]]
) -> list[tuple[str, str]]:
    return await service.node.db.read(lambda tx: service.accounts.owned(tx, context.uuid, messages, A_ROUND))


def _round(
    messages: dict[str, type[DeleteJob]], left: list[tuple[str, str]], context: DeletionContext, turn: int
) -> list[tuple[str, ApiJob[Any]]]:
    return [(f"{turn}:{uuid}", messages[kind](uuid=uuid, force=context.force)) for kind, uuid in left]


def _stuck(ended: list[Job], uuid: str, left: list[tuple[str, str]]) -> Exception:
    failed = [job.error for job in ended if job.state is not JobState.SUCCEEDED and job.error]
    why = f": {failed[0].message}" if failed else ""
    return ACCOUNT_STILL_OWNS.error(
        f"{len(left)} resources of the account could not be deleted{why}",
        resource=uuid,
        resources=[resource for _, resource in left[:20]],
    )
