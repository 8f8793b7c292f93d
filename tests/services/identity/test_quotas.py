from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mgmtnode.contracts.ownership import ChangeOwner, GetOwnership, ShareResource, UnshareResource
from mgmtnode.contracts.quota import GetQuotaUsage, QuotaDefinition, ReleaseQuota, ReserveQuota, UpdateQuota
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import SYSTEM_ACCOUNT, Caller
from services.identity.repository.quotas import quota_uuid

ADMIN = Caller(account_uuid=SYSTEM_ACCOUNT, account_name="admin", admin=True)


def refused(code: str) -> Any:
    return pytest.raises(ApiError, match=rf"^{code}:")


def reserve(bench: Any, account: str, holder: str, **amounts: int) -> None:
    named = {f"gadget.{k}": v for k, v in amounts.items()}
    msg = ReserveQuota(account_uuid=account, resource_uuid=holder, amounts=named)
    bench.write(lambda tx: bench.service.reserve_quota(tx, msg))


def release(bench: Any, holder: str, *names: str) -> None:
    bench.write(
        lambda tx: bench.service.release_quota(tx, ReleaseQuota(resource_uuid=holder, names=list(names)))
    )


def used(bench: Any, caller: Caller) -> dict[str, int]:
    usage = bench.call(bench.service.quota_usage, GetQuotaUsage(uuid=caller.account_uuid), caller)
    return {item.name: item.used for item in usage.items}


def set_limit(bench: Any, caller: Caller, name: str, value: int | None) -> Any:
    msg = UpdateQuota(uuid=quota_uuid(caller.account_uuid, name), value=value)
    return bench.job(bench.service.update_quota, msg)


def test_an_account_starts_with_the_defaults(bench: Any, tenant: Caller) -> None:
    usage = bench.call(bench.service.quota_usage, GetQuotaUsage(uuid=tenant.account_uuid), tenant)
    assert [(i.name, i.used, i.value, i.unit) for i in usage.items] == [
        ("gadget.num", 0, 3, ""),
        ("gadget.size", 0, 100, "bytes"),
    ]


def test_what_does_not_fit_is_refused_naming_the_quota_and_takes_nothing(bench: Any, tenant: Caller) -> None:
    reserve(bench, tenant.account_uuid, bench.uuids.draw(), num=1, size=60)
    with pytest.raises(ApiError) as caught:
        reserve(bench, tenant.account_uuid, bench.uuids.draw(), num=1, size=60)
    assert caught.value.code == "quota.exceeded"
    details = {"quota": "gadget.size", "limit": 100, "used": 60, "asked": 60}
    assert caught.value.problem.details == details
    assert used(bench, tenant) == {"gadget.num": 1, "gadget.size": 60}


def test_what_is_released_can_be_used_again_also_in_part(bench: Any, tenant: Caller) -> None:
    holder = bench.uuids.draw()
    reserve(bench, tenant.account_uuid, holder, num=3, size=100)
    release(bench, holder, "gadget.size")
    assert used(bench, tenant) == {"gadget.num": 3, "gadget.size": 0}
    release(bench, holder)
    release(bench, holder)
    assert used(bench, tenant) == {"gadget.num": 0, "gadget.size": 0}


def test_accounts_do_not_count_for_each_other(bench: Any, tenant: Caller, stranger: Caller) -> None:
    reserve(bench, tenant.account_uuid, bench.uuids.draw(), num=3)
    reserve(bench, stranger.account_uuid, bench.uuids.draw(), num=3)
    with refused("core.not-found"):
        bench.call(bench.service.quota_usage, GetQuotaUsage(uuid=tenant.account_uuid), stranger)


def test_accounts_of_the_operator_are_exempt(bench: Any) -> None:
    reserve(bench, SYSTEM_ACCOUNT, bench.uuids.draw(), num=1000)
    assert used(bench, ADMIN)["gadget.num"] == 0


def test_many_at_once_never_exceed_the_limit(bench: Any, tenant: Caller) -> None:
    async def one() -> bool:
        msg = ReserveQuota(
            account_uuid=tenant.account_uuid, resource_uuid=bench.uuids.draw(), amounts={"gadget.num": 1}
        )
        try:
            await bench.db.write(lambda tx: bench.service.reserve_quota(tx, msg))
        except ApiError:
            return False
        return True

    async def many() -> list[bool]:
        return await asyncio.gather(*(one() for _ in range(20)))

    assert sum(bench.run(many())) == 3
    assert used(bench, tenant)["gadget.num"] == 3


def test_a_limit_of_its_own_holds_until_it_is_taken_back(bench: Any, tenant: Caller) -> None:
    quota = set_limit(bench, tenant, "gadget.num", 5)
    assert (quota.value, quota.overridden, quota.account_uuid) == (5, True, tenant.account_uuid)
    reserve(bench, tenant.account_uuid, bench.uuids.draw(), num=5)
    assert not set_limit(bench, tenant, "gadget.num", None).overridden
    with refused("quota.exceeded"):
        reserve(bench, tenant.account_uuid, bench.uuids.draw(), num=1)
    assert used(bench, tenant)["gadget.num"] == 5, "a lower limit takes nothing away"
    set_limit(bench, tenant, "gadget.num", -1)
    reserve(bench, tenant.account_uuid, bench.uuids.draw(), num=1_000_000)


def test_a_patch_without_a_value_changes_nothing(bench: Any, tenant: Caller) -> None:
    msg = UpdateQuota(uuid=quota_uuid(tenant.account_uuid, "gadget.num"))
    assert bench.job(bench.service.update_quota, msg).value == 3
    assert bench.hooks.named("quota.changed") == []


def test_a_new_default_reaches_accounts_without_a_limit_of_their_own(bench: Any, tenant: Caller) -> None:
    set_limit(bench, tenant, "gadget.size", 7)
    bench.sources.counted.definitions = tuple(
        QuotaDefinition(name=n, default=50, description="")
        for n in ("gadget.num", "gadget.size", "gadget.new")
    )
    bench.run(bench.service.start())
    usage = bench.call(bench.service.quota_usage, GetQuotaUsage(uuid=tenant.account_uuid), tenant)
    assert {i.name: i.value for i in usage.items} == {"gadget.new": 50, "gadget.num": 50, "gadget.size": 7}


def test_a_quota_that_came_after_the_account_is_made_when_first_needed(bench: Any, tenant: Caller) -> None:
    late = QuotaDefinition(name="gadget.late", default=1, description="")
    bench.sources.counted.definitions = (*bench.sources.counted.definitions, late)
    reserve(bench, tenant.account_uuid, bench.uuids.draw(), late=1)
    with refused("quota.exceeded"):
        reserve(bench, tenant.account_uuid, bench.uuids.draw(), late=1)


def test_what_nobody_counts_and_whom_nobody_knows_is_refused(bench: Any, tenant: Caller) -> None:
    with refused("quota.unknown"):
        reserve(bench, tenant.account_uuid, bench.uuids.draw(), nonsense=1)
    with refused("core.not-found"):
        reserve(bench, bench.uuids.draw(), bench.uuids.draw(), num=1)


def test_a_resource_is_shared_with_one_account_or_with_all(
    bench: Any, tenant: Caller, stranger: Caller
) -> None:
    uuid = bench.gadget(tenant.account_uuid)
    service = bench.service
    one = bench.job(service.share, ShareResource(uuid=uuid, account_uuid=stranger.account_uuid), tenant)
    assert (one.shared_with, one.public) == ([stranger.account_uuid], False)
    everybody = bench.job(service.share, ShareResource(uuid=uuid), tenant)
    assert (everybody.shared_with, everybody.public) == ([stranger.account_uuid], True)
    bench.job(service.unshare, UnshareResource(uuid=uuid), tenant)
    last = bench.job(service.unshare, UnshareResource(uuid=uuid, account_uuid=stranger.account_uuid), tenant)
    assert (last.shared_with, last.public) == ([], False)


def test_only_the_owner_sees_the_shares_and_changes_them(
    bench: Any, tenant: Caller, stranger: Caller
) -> None:
    uuid = bench.gadget(tenant.account_uuid)
    bench.job(bench.service.share, ShareResource(uuid=uuid), tenant)
    for msg in (ShareResource(uuid=uuid), UnshareResource(uuid=uuid)):
        with refused("core.not-found"):
            bench.accept(msg, stranger)
    with refused("core.not-found"):
        bench.call(bench.service.get_ownership, GetOwnership(uuid=uuid), stranger)
    assert bench.call(bench.service.get_ownership, GetOwnership(uuid=uuid), ADMIN).public


def test_identities_cannot_be_shared_nor_given_away(bench: Any, tenant: Caller, stranger: Caller) -> None:
    for uuid in (tenant.account_uuid, quota_uuid(tenant.account_uuid, "gadget.num")):
        with refused("resource.not-shareable"):
            bench.accept(ShareResource(uuid=uuid), tenant)
        with refused("resource.not-shareable"):
            bench.accept(ChangeOwner(uuid=uuid, account_uuid=stranger.account_uuid), ADMIN)


def test_sharing_with_an_account_that_is_not_there_is_refused(bench: Any, tenant: Caller) -> None:
    uuid = bench.gadget(tenant.account_uuid)
    with refused("core.not-found"):
        bench.accept(ShareResource(uuid=uuid, account_uuid=bench.uuids.draw()), tenant)


def test_a_new_owner_pays_from_its_own_quota(bench: Any, tenant: Caller, stranger: Caller) -> None:
    uuid = bench.gadget(tenant.account_uuid)
    reserve(bench, tenant.account_uuid, uuid, num=1, size=40)
    msg = ChangeOwner(uuid=uuid, account_uuid=stranger.account_uuid)
    assert bench.job(bench.service.change_owner, msg).account_uuid == stranger.account_uuid
    assert used(bench, tenant) == {"gadget.num": 0, "gadget.size": 0}
    assert used(bench, stranger) == {"gadget.num": 1, "gadget.size": 40}


def test_a_new_owner_without_room_leaves_all_as_it_was(bench: Any, tenant: Caller, stranger: Caller) -> None:
    uuid = bench.gadget(tenant.account_uuid)
    reserve(bench, tenant.account_uuid, uuid, size=40)
    set_limit(bench, stranger, "gadget.size", 10)
    with refused("quota.exceeded"):
        bench.job(bench.service.change_owner, ChangeOwner(uuid=uuid, account_uuid=stranger.account_uuid))
    assert used(bench, tenant)["gadget.size"] == 40
    assert bench.call(bench.service.get_ownership, GetOwnership(uuid=uuid), tenant).type == "gadget"
