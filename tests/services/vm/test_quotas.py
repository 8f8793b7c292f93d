"""Tenants: what they may have, and what they see."""

from __future__ import annotations

from typing import Any

import pytest

from mgmtnode.testing.cloud import Cloud, Refused
from tests.services.vm.site import GIB, Site


def limit(site: Site, account: str, name: str, value: int) -> None:
    quota = site.cloud.list("quotas", f"account_uuid={account}", f"name={name}")[0]
    site.cloud.update("quotas", quota["uuid"], value=value)


def usage(site: Site, account: str) -> dict[str, int]:
    items = site.cloud.call("GET", f"/accounts/{account}/quota-usage")["items"]
    return {item["name"]: item["used"] for item in items if item["name"].startswith("vm.")}


def tenant(site: Site) -> tuple[Cloud, str]:
    return site.cloud.tenant(), site.cloud.list("accounts", "name=tenant")[0]["uuid"]


def make(cloud: Cloud, **fields: Any) -> dict[str, Any]:
    return cloud.create("vms", **{"name": "vm", "cpu": 1, "memory": GIB} | fields)


def refused(call: Any) -> str:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.code


def test_what_exceeds_a_quota_is_refused_and_holds_nothing(site: Site) -> None:
    cloud, account = tenant(site)
    limit(site, account, "vm.num", 2)
    limit(site, account, "vm.cpu", 4)
    vm = make(cloud)
    before = site.books()
    for fields in ({"cpu": 4}, {"cpu": 4, "start": False}):
        assert refused(lambda f=fields: make(cloud, **f)) == "quota.exceeded"
    assert (
        refused(lambda: cloud.act("vms", vm["uuid"], "change-offering", cpu=5, memory=GIB))
        == "quota.exceeded"
    )
    assert site.books() == before
    make(cloud)
    assert refused(lambda: make(cloud)) == "quota.exceeded"
    assert usage(site, account) == {"vm.num": 2, "vm.cpu": 2, "vm.memory": 2 * GIB}
    site.books().check()


def test_a_quota_is_released_when_the_vm_is_expunged(site: Site) -> None:
    cloud, account = tenant(site)
    vm = make(cloud)
    cloud.act("vms", vm["uuid"], "stop")
    cloud.delete("vms", vm["uuid"])
    assert usage(site, account)["vm.num"] == 1
    cloud.act("vms", vm["uuid"], "expunge")
    assert usage(site, account) == {"vm.num": 0, "vm.cpu": 0, "vm.memory": 0}


def test_a_lowered_quota_takes_nothing_away_and_lets_vms_shrink(site: Site) -> None:
    cloud, account = tenant(site)
    vm = make(cloud, cpu=4)
    limit(site, account, "vm.cpu", 1)
    site.fault(0, "fail", "resize", times=1)
    site.fault(1, "fail", "resize", times=1)
    assert (
        refused(lambda: cloud.act("vms", vm["uuid"], "change-offering", cpu=3, memory=GIB))
        == "hypervisor.failed"
    )
    assert usage(site, account)["vm.cpu"] == 4
    cloud.act("vms", vm["uuid"], "change-offering", cpu=2, memory=GIB)
    assert usage(site, account)["vm.cpu"] == 2
    site.books().check()


def test_creates_at_once_never_exceed_a_quota(site: Site) -> None:
    cloud, account = tenant(site)
    limit(site, account, "vm.num", 5)
    other = Site.__new__(Site)
    other.cloud = cloud
    body = {"name": "vm", "cpu": 1, "memory": GIB, "start": False}
    jobs = [other.submit("POST", "/vms", body) for _ in range(30)]
    ended = [other.ended(job) for job in jobs]
    assert sorted(job["state"] for job in ended) == ["Failed"] * 25 + ["Succeeded"] * 5
    assert {job["error"]["code"] for job in ended if job["error"]} == {"quota.exceeded"}
    assert usage(site, account)["vm.num"] == 5
    site.books().check()


def test_a_tenant_sees_and_changes_only_its_own_vms(site: Site) -> None:
    cloud, _ = tenant(site)
    stranger = site.cloud.tenant("other")
    vm = make(cloud)
    assert stranger.list("vms") == []
    path = f"/vms/{vm['uuid']}"
    for action in ("start", "stop", "pause", "reboot", "migrate", "recover", "expunge"):
        assert stranger.request("POST", f"{path}/actions/{action}", {}).status_code == 404
    assert stranger.request("GET", path).status_code == 404
    assert stranger.request("PATCH", path, {"name": "mine"}).status_code == 404
    assert stranger.request("DELETE", path).status_code == 404
    assert refused(lambda: make(stranger, l3_network_uuids=[site.network])) == "core.not-found"
    assert refused(lambda: make(stranger, host_uuid=site.host(0))) == "core.not-found"
    assert [v["uuid"] for v in cloud.list("vms")] == [vm["uuid"]]
