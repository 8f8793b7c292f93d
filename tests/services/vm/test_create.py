"""Making VMs: every way to say how large and where, and every way to get it wrong."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from mgmtnode.testing.cloud import Refused
from tests.services.vm.site import GIB, Row, Site

NOBODY = "00000000-0000-7000-8000-00000000dead"


def failed(site: Site, **fields: object) -> Row:
    """The error of a create that is accepted and fails; it leaves nothing behind."""
    before = site.books()
    job = site.run("POST", "/vms", {"name": "vm", "cpu": 1, "memory": GIB} | fields)
    assert job["state"] == "Failed"
    assert site.books() == before
    return dict(job["error"])


def refused(site: Site, **fields: object) -> Refused:
    """The refusal of a create; nothing is accepted."""
    with pytest.raises(Refused) as caught:
        site.cloud.create("vms", **{"name": "vm", **fields})
    assert site.cloud.list("jobs", "api=vm.create") == []
    return caught.value


def test_a_vm_runs_with_the_size_and_the_networks_that_were_asked_for(site: Site) -> None:
    other = site.add_network("10.1.0.0/24")
    vm = site.vm(cpu=2, memory=3 * GIB, l3_network_uuids=[site.network, other], description="a VM")
    assert (vm["state"], vm["cpu"], vm["memory"], vm["description"]) == ("Running", 2, 3 * GIB, "a VM")
    assert [nic["l3_network_uuid"] for nic in vm["nics"]] == [site.network, other]
    assert all(nic["ip"].startswith(net) for nic, net in zip(vm["nics"], ("10.0.", "10.1."), strict=True))
    assert (vm["zone_uuid"], vm["cluster_uuid"], vm["hypervisor"]) == (site.zone, site.cluster, "simulator")
    site.books().check()
    assert site.books().drift() == []
    assert site.events(vm["uuid"]) == ["vm.created", "vm.state-changed"]


def test_an_offering_says_how_large_a_vm_is(site: Site) -> None:
    offering = site.cloud.create("instance-offerings", name="small", cpu=2, memory=2 * GIB)
    vm = site.vm(instance_offering_uuid=offering["uuid"])
    assert (vm["cpu"], vm["memory"], vm["instance_offering_uuid"]) == (2, 2 * GIB, offering["uuid"])


def test_a_size_is_an_offering_or_cpu_and_memory(site: Site) -> None:
    offering = site.cloud.create("instance-offerings", name="small", cpu=2, memory=2 * GIB)["uuid"]
    for fields in (
        {},
        {"cpu": 1},
        {"memory": GIB},
        {"cpu": 1, "memory": GIB, "instance_offering_uuid": offering},
        {"cpu": 1, "instance_offering_uuid": offering},
    ):
        assert refused(site, **fields).code == "vm.no-size"
    site.cloud.act("instance-offerings", offering, "disable")
    assert refused(site, instance_offering_uuid=offering).code == "vm.offering-disabled"


def test_what_is_named_must_exist(site: Site) -> None:
    size: Row = {"cpu": 1, "memory": GIB}
    for field in ("zone_uuid", "cluster_uuid", "host_uuid"):
        assert refused(site, **size, **{field: NOBODY}).status == 404
    assert refused(site, **size, l3_network_uuids=[NOBODY]).status == 404
    assert refused(site, instance_offering_uuid=NOBODY).status == 404
    assert refused(site, **size, l3_network_uuids=[site.network] * 9).status == 400


def test_a_vm_that_is_not_started_holds_addresses_and_no_host(site: Site) -> None:
    vm = site.vm(start=False)
    assert (vm["state"], vm["host_uuid"]) == ("Stopped", None)
    assert vm["nics"][0]["ip"]
    site.books().check()
    assert site.books().on_hosts == []
    assert site.act(vm, "start")["state"] == "Running"
    assert site.books().drift() == []


def test_a_zone_a_cluster_or_a_host_can_be_asked_for(site: Site) -> None:
    west = site.cloud.create("zones", name="west")["uuid"]
    far = site.cloud.create("clusters", name="far", zone_uuid=west, hypervisor="simulator")["uuid"]
    host = site.add_host(cluster=far)["uuid"]
    for field, value in (("zone_uuid", west), ("cluster_uuid", far), ("host_uuid", host)):
        assert site.vm(**{field: value}, l3_network_uuids=[])["host_uuid"] == host
    assert site.vm(zone_uuid=site.zone)["host_uuid"] in (site.host(0), site.host(1))
    error = failed(site, zone_uuid=west, host_uuid=site.host(0))
    assert error["code"] == "allocator.no-host"


def test_an_address_can_be_asked_for_once(site: Site) -> None:
    tag = f"staticIp::{site.network}::10.0.0.77"
    vm = site.vm(system_tags=[tag, "hostname::web-1"])
    assert vm["nics"][0]["ip"] == "10.0.0.77"
    assert site.cloud.list("vms", "system_tag=hostname::web-1")[0]["uuid"] == vm["uuid"]
    assert failed(site, l3_network_uuids=[site.network], system_tags=[tag])["code"] == "network.address-taken"
    foreign = [f"staticIp::{site.network}::192.0.2.1"]
    assert (
        failed(site, l3_network_uuids=[site.network], system_tags=foreign)["code"]
        == "network.address-foreign"
    )


def test_a_tag_that_cannot_be_followed_is_refused(site: Site) -> None:
    size: Row = {"cpu": 1, "memory": GIB}
    other = site.add_network("10.1.0.0/24")
    before = site.books()
    for tags, networks in (
        ([f"staticIp::{other}::10.1.0.5"], [site.network]),
        ([f"staticIp::{site.network}::10.0.0.5"], [site.network, site.network]),
        ([f"staticIp::{site.network}::10.0.0.5", f"staticIp::{site.network}::10.0.0.6"], [site.network]),
    ):
        assert refused(site, **size, system_tags=tags, l3_network_uuids=networks).code == "vm.bad-static-ip"
    for tag in (
        "hostname::-x",
        "staticIp::zone::10.0.0.5",
        f"staticIp::{site.network}::10.0.0.256",
        "color::red",
    ):
        assert refused(site, **size, system_tags=[tag], l3_network_uuids=[site.network]).status == 400
    assert site.books() == before


def test_user_tags_are_on_the_vm_once_it_is_there(site: Site) -> None:
    vm = site.vm(user_tags=["blue", "web"])
    site.vm()
    assert [v["uuid"] for v in site.cloud.list("vms", "user_tag=blue")] == [vm["uuid"]]


def test_a_dry_run_decides_and_changes_nothing(site: Site) -> None:
    before = site.books()
    body = {"name": "vm", "cpu": 1, "memory": GIB, "l3_network_uuids": [site.network]}
    plan = site.cloud.call("POST", "/vms", body, dry_run="true")
    assert plan["steps"] == ["reserve", "start on the host", "record"]
    assert plan["context"]["host_uuid"] in (site.host(0), site.host(1))
    assert plan["context"]["spec"]["nics"][0]["ip"].startswith("10.0.0.")
    assert site.books() == before
    with pytest.raises(Refused) as refusal:
        site.cloud.call("POST", "/vms", body | {"cpu": 4000}, dry_run="true")
    assert refusal.value.code == "allocator.no-host"


def test_a_renamed_vm_keeps_all_else(site: Site) -> None:
    vm = site.vm()
    changed = site.cloud.update("vms", vm["uuid"], name="new")
    same = {k: v for k, v in vm.items() if k not in ("name", "updated_at")}
    assert {k: v for k, v in changed.items() if k not in ("name", "updated_at")} == same
    assert changed["name"] == "new"
    assert site.events(vm["uuid"])[-1] == "vm.changed"


def test_a_create_takes_three_commits_and_few_statements(site: Site) -> None:
    site.vm()
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *more: object) -> None:
        statements.append(statement)

    engines = [thread.node.db.engine for thread in site.cloud.nodes]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        assert site.vm()["state"] == "Running"
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
    asked = [statement for statement in statements if not statement.startswith("BEGIN")]
    assert len(asked) <= 40, "\n".join(asked)
