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


def reserve(cloud: Any, account: str, holder: str, **amounts: int) -> None:
    named = {f"gadget.{k}": v for k, v in amounts.items()}
    msg = ReserveQuota(account_uuid=account, resource_uuid=holder, amounts=named)
    cloud.write(lambda tx: cloud.service.reserve_quota(tx, msg))


def release(cloud: Any, holder: str, *names: str) -> None:
    cloud.write(
        lambda tx: cloud.service.release_quota(tx, ReleaseQuota(resource_uuid=holder, names=list(names)))
    )


def used(cloud: Any, caller: Caller) -> dict[str, int]:
    usage = cloud.call(cloud.service.quota_usage, GetQuotaUsage(uuid=caller.account_uuid), caller)
    return {item.name: item.used for item in usage.items}


def set_limit(cloud: Any, caller: Caller, name: str, value: int | None) -> Any:
    msg = UpdateQuota(uuid=quota_uuid(caller.account_uuid, name), value=value)
    return cloud.job(cloud.service.update_quota, msg)


def test_an_account_starts_with_the_defaults(cloud: Any, tenant: Caller) -> None:
    usage = cloud.call(cloud.service.quota_usage, GetQuotaUsage(uuid=tenant.account_uuid), tenant)
    assert [(i.name, i.used, i.value, i.unit) for i in usage.items] == [
        ("gadget.num", 0, 3, ""),
        ("gadget.size", 0, 100, "bytes"),
    ]


def test_what_does_not_fit_is_refused_naming_the_quota_and_takes_nothing(cloud: Any, tenant: Caller) -> None:
    reserve(cloud, tenant.account_uuid, cloud.uuids.draw(), num=1, size=60)
    with pytest.raises(ApiError) as caught:
        reserve(cloud, tenant.account_uuid, cloud.uuids.draw(), num=1, size=60)
    assert caught.value.code == "quota.exceeded"
    details = {"quota": "gadget.size", "limit": 100, "used": 60, "asked": 60}
    assert caught.value.problem.details == details
    assert used(cloud, tenant) == {"gadget.num": 1, "gadget.size": 60}


def test_what_is_released_can_be_used_again_also_in_part(cloud: Any, tenant: Caller) -> None:
    holder = cloud.uuids.draw()
    reserve(cloud, tenant.account_uuid, holder, num=3, size=100)
    release(cloud, holder, "gadget.size")
    assert used(cloud, tenant) == {"gadget.num": 3, "gadget.size": 0}
    release(cloud, holder)
    release(cloud, holder)
    assert used(cloud, tenant) == {"gadget.num": 0, "gadget.size": 0}


def test_accounts_do_not_count_for_each_other(cloud: Any, tenant: Caller, stranger: Caller) -> None:
    reserve(cloud, tenant.account_uuid, cloud.uuids.draw(), num=3)
    reserve(cloud, stranger.account_uuid, cloud.uuids.draw(), num=3)
    with refused("core.not-found"):
        cloud.call(cloud.service.quota_usage, GetQuotaUsage(uuid=tenant.account_uuid), stranger)


def test_accounts_of_the_operator_are_exempt(cloud: Any) -> None:
    reserve(cloud, SYSTEM_ACCOUNT, cloud.uuids.draw(), num=1000)
    assert used(cloud, ADMIN)["gadget.num"] == 0


def test_many_at_once_never_exceed_the_limit(cloud: Any, tenant: Caller) -> None:
    async def one() -> bool:
        msg = ReserveQuota(
            account_uuid=tenant.account_uuid, resource_uuid=cloud.uuids.draw(), amounts={"gadget.num": 1}
        )
        try:
            await cloud.db.write(lambda tx: cloud.service.reserve_quota(tx, msg))
        except ApiError:
            return False
        return True

    async def many() -> list[bool]:
        return await asyncio.gather(*(one() for _ in range(20)))

    assert sum(cloud.run(many())) == 3
    assert used(cloud, tenant)["gadget.num"] == 3


def test_a_limit_of_its_own_holds_until_it_is_taken_back(cloud: Any, tenant: Caller) -> None:
    quota = set_limit(cloud, tenant, "gadget.num", 5)
    assert (quota.value, quota.overridden, quota.account_uuid) == (5, True, tenant.account_uuid)
    reserve(cloud, tenant.account_uuid, cloud.uuids.draw(), num=5)
    assert not set_limit(cloud, tenant, "gadget.num", None).overridden
    with refused("quota.exceeded"):
        reserve(cloud, tenant.account_uuid, cloud.uuids.draw(), num=1)
    assert used(cloud, tenant)["gadget.num"] == 5, "a lower limit takes nothing away"
    set_limit(cloud, tenant, "gadget.num", -1)
    reserve(cloud, tenant.account_uuid, cloud.uuids.draw(), num=1_000_000)


def test_a_patch_without_a_value_changes_nothing(cloud: Any, tenant: Caller) -> None:
    msg = UpdateQuota(uuid=quota_uuid(tenant.account_uuid, "gadget.num"))
    assert cloud.job(cloud.service.update_quota, msg).value == 3
    assert cloud.hooks.named("quota.changed") == []


def test_a_new_default_reaches_accounts_without_a_limit_of_their_own(cloud: Any, tenant: Caller) -> None:
    set_limit(cloud, tenant, "gadget.size", 7)
    cloud.sources.counted.definitions = tuple(
        QuotaDefinition(name=n, default=50, description="")
        for n in ("gadget.num", "gadget.size", "gadget.new")
    )
    cloud.run(cloud.service.start())
    usage = cloud.call(cloud.service.quota_usage, GetQuotaUsage(uuid=tenant.account_uuid), tenant)
    assert {i.name: i.value for i in usage.items} == {"gadget.new": 50, "gadget.num": 50, "gadget.size": 7}


def test_a_quota_that_came_after_the_account_is_made_when_first_needed(cloud: Any, tenant: Caller) -> None:
    late = QuotaDefinition(name="gadget.late", default=1, description="")
    cloud.sources.counted.definitions = (*cloud.sources.counted.definitions, late)
    reserve(cloud, tenant.account_uuid, cloud.uuids.draw(), late=1)
    with refused("quota.exceeded"):
        reserve(cloud, tenant.account_uuid, cloud.uuids.draw(), late=1)


def test_what_nobody_counts_and_whom_nobody_knows_is_refused(cloud: Any, tenant: Caller) -> None:
    with refused("quota.unknown"):
        reserve(cloud, tenant.account_uuid, cloud.uuids.draw(), nonsense=1)
    with refused("core.not-found"):
        reserve(cloud, cloud.uuids.draw(), cloud.uuids.draw(), num=1)


def test_a_resource_is_shared_with_one_account_or_with_all(
    cloud: Any, tenant: Caller, stranger: Caller
) -> None:
    uuid = cloud.gadget(tenant.account_uuid)
    service = cloud.service
    one = cloud.job(service.share, ShareResource(uuid=uuid, account_uuid=stranger.account_uuid), tenant)
    assert (one.shared_with, one.public) == ([stranger.account_uuid], False)
    everybody = cloud.job(service.share, ShareResource(uuid=uuid), tenant)
    assert (everybody.shared_with, everybody.public) == ([stranger.account_uuid], True)
    cloud.job(service.unshare, UnshareResource(uuid=uuid), tenant)
    last = cloud.job(service.unshare, UnshareResource(uuid=uuid, account_uuid=stranger.account_uuid), tenant)
    assert (last.shared_with, last.public) == ([], False)


def test_only_the_owner_sees_the_shares_and_changes_them(
    cloud: Any, tenant: Caller, stranger: Caller
) -> None:
    uuid = cloud.gadget(tenant.account_uuid)
    cloud.job(cloud.service.share, ShareResource(uuid=uuid), tenant)
    for msg in (ShareResource(uuid=uuid), UnshareResource(uuid=uuid)):
        with refused("core.not-found"):
            cloud.accept(msg, stranger)
    with refused("core.not-found"):
        cloud.call(cloud.service.get_ownership, GetOwnership(uuid=uuid), stranger)
    assert cloud.call(cloud.service.get_ownership, GetOwnership(uuid=uuid), ADMIN).public


def test_identities_cannot_be_shared_nor_given_away(cloud: Any, tenant: Caller, stranger: Caller) -> None:
    for uuid in (tenant.account_uuid, quota_uuid(tenant.account_uuid, "gadget.num")):
        with refused("resource.not-shareable"):
            cloud.accept(ShareResource(uuid=uuid), tenant)
        with refused("resource.not-shareable"):
            cloud.accept(ChangeOwner(uuid=uuid, account_uuid=stranger.account_uuid), ADMIN)


def test_sharing_with_an_account_that_is_not_there_is_refused(cloud: Any, tenant: Caller) -> None:
    uuid = cloud.gadget(tenant.account_uuid)
    with refused("core.not-found"):
        cloud.accept(ShareResource(uuid=uuid, account_uuid=cloud.uuids.draw()), tenant)


def test_a_new_owner_pays_from_its_own_quota(cloud: Any, tenant: Caller, stranger: Caller) -> None:
    uuid = cloud.gadget(tenant.account_uuid)
    reserve(cloud, tenant.account_uuid, uuid, num=1, size=40)
    msg = ChangeOwner(uuid=uuid, account_uuid=stranger.account_uuid)
    assert cloud.job(cloud.service.change_owner, msg).account_uuid == stranger.account_uuid
    assert used(cloud, tenant) == {"gadget.num": 0, "gadget.size": 0}
    assert used(cloud, stranger) == {"gadget.num": 1, "gadget.size": 40}


def test_a_new_owner_without_room_leaves_all_as_it_was(cloud: Any, tenant: Caller, stranger: Caller) -> None:
    uuid = cloud.gadget(tenant.account_uuid)
    reserve(cloud, tenant.account_uuid, uuid, size=40)
    set_limit(cloud, stranger, "gadget.size", 10)
    with refused("quota.exceeded"):
        cloud.job(cloud.service.change_owner, ChangeOwner(uuid=uuid, account_uuid=stranger.account_uuid))
    assert used(cloud, tenant)["gadget.size"] == 40
    assert cloud.call(cloud.service.get_ownership, GetOwnership(uuid=uuid), tenant).type == "gadget"
