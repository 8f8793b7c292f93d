"""The faults of simulated hosts, as an experimenter sets them over HTTP."""

from __future__ import annotations

import pytest

from mgmtnode.testing.cloud import Cloud, Refused
from tests.services.vm.site import Site

NOBODY = "00000000-0000-7000-8000-00000000dead"


def test_faults_are_listed_in_the_order_they_were_set_until_they_are_cleared(cloud: Cloud) -> None:
    site = Site(cloud)
    path = f"/hosts/{site.host(0)}"
    assert cloud.call("GET", f"{path}/simulated-faults") == {"faults": []}
    site.fault(0, "fail", "start", times=2)
    site.fault(0, "slow", "stop", delay_ms=5, probability=0.5)
    found = cloud.call("GET", f"{path}/simulated-faults")["faults"]
    assert [(f["kind"], f["action"], f["times"]) for f in found] == [
        ("fail", "start", 2),
        ("slow", "stop", None),
    ]
    assert site.run("POST", "/vms", {"name": "a", "cpu": 1, "memory": 1 << 30, "host_uuid": site.host(0)})[
        "error"
    ]
    assert cloud.call("GET", f"{path}/simulated-faults")["faults"][0]["times"] == 1
    assert cloud.call("GET", f"/hosts/{site.host(1)}/simulated-faults") == {"faults": []}
    site.heal()
    assert cloud.call("GET", f"{path}/simulated-faults") == {"faults": []}


def test_a_disconnected_host_still_hears_its_experimenter(cloud: Cloud) -> None:
    site = Site(cloud)
    site.fault(0, "disconnect")
    site.cloud.until(lambda: site.ping(0) or cloud.get("hosts", site.host(0))["status"] == "Disconnected")
    site.heal()
    site.cloud.until(lambda: site.ping(0) or cloud.get("hosts", site.host(0))["status"] == "Connected")


def test_a_replaced_disk_is_noticed_and_the_host_connected_anew(cloud: Cloud) -> None:
    site = Site(cloud)
    vm = site.vm(host=0)
    site.fault(0, "replace-disk")
    site.ping(0)
    site.cloud.until(lambda: bool(cloud.list("jobs", "api=host.reconnect", "state=Succeeded")))
    assert site.act(vm, "reboot")["state"] == "Running"
    assert site.books().drift() == []


def test_what_makes_no_fault_is_refused(cloud: Cloud) -> None:
    site = Site(cloud)
    path = f"/hosts/{site.host(0)}/actions/simulate-fault"
    for fault in ({}, {"kind": "explode"}, {"kind": "fail", "times": 0}, {"kind": "fail", "probability": 2}):
        assert cloud.request("POST", path, {"fault": fault}).status_code == 400
    assert cloud.request("POST", path, {"fault": {"kind": "crash-vm"}}).status_code in (400, 404)
    assert cloud.request("POST", path, {"fault": {"kind": "crash-vm", "vm_uuid": NOBODY}}).status_code == 404
    assert cloud.request("GET", f"/hosts/{NOBODY}/simulated-faults").status_code == 404
    with pytest.raises(Refused) as refused:
        cloud.tenant().call("GET", f"/hosts/{site.host(0)}/simulated-faults")
    assert refused.value.status == 403
