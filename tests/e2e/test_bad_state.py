"""Requests that are well formed and still cannot be: wrong moments, overlaps, and pools with nothing left."""

from __future__ import annotations

from typing import Any

import pytest

from mgmtnode.testing.cloud import Refused
from tests.e2e.scene import GIB, WORK, Scene, book_faults, differences


def refusal(scene: Scene, method: str, path: str, body: Any = None) -> Refused:
    """The clear answer to what cannot be; nothing but the failed job may be left."""
    before = scene.snapshot(*WORK)
    with pytest.raises(Refused) as caught:
        scene.cloud.call(method, path, body)
    assert 400 <= caught.value.status < 500, caught.value
    assert len(caught.value.problem["detail"]) > 15
    assert not differences(before, scene.snapshot(*WORK))
    return caught.value


def vm_fields(scene: Scene, **more: Any) -> dict[str, Any]:
    networks = [scene.uuids["l3_network"]]
    offering = scene.uuids["instance_offering"]
    return {"name": "more", "instance_offering_uuid": offering, "l3_network_uuids": networks} | more


def test_what_a_vm_cannot_do_now_is_refused_in_every_state(scene: Scene) -> None:
    vm = scene.uuids["vm"]
    path = f"/vms/{vm}/actions"
    for state, refused in (
        ("Running", ("recover", "expunge")),
        ("Stopped", ("reboot", "pause", "resume", "migrate", "recover", "expunge")),
        (
            "Destroyed",
            ("start", "stop", "reboot", "pause", "resume", "migrate", "change-offering", "attach-nic"),
        ),
    ):
        if state == "Stopped":
            scene.cloud.act("vms", vm, "stop")
        elif state == "Destroyed":
            scene.cloud.delete("vms", vm)
        assert scene.cloud.get("vms", vm)["state"] == state
        for action in refused:
            body = {
                "attach-nic": {"l3_network_uuid": scene.uuids["l3_network"]},
                "change-offering": {"cpu": 2, "memory": GIB},
            }
            found = refusal(scene, "POST", f"{path}/{action}", body.get(action, {}))
            assert found.status == 409 and vm in str(found.problem), (state, action, found)


def test_ranges_that_overlap_or_are_no_ranges_are_refused(scene: Scene) -> None:
    network = scene.uuids["l3_network"]
    for cidr in ("10.0.0.0/24", "10.0.0.128/25", "10.0.0.0/16", "10.0.0.7/32", "0.0.0.0/0", "224.0.0.0/8"):
        refusal(scene, "POST", "/ip-ranges", {"name": "r", "l3_network_uuid": network, "cidr": cidr})
    for start, end in (("10.0.0.9", "10.0.0.20"), ("10.2.0.9", "10.2.0.1"), ("0.0.0.0", "255.255.255.255")):
        fields = {"start_ip": start, "end_ip": end, "netmask": "255.255.255.0", "gateway": "10.2.0.254"}
        refusal(scene, "POST", "/ip-ranges", {"name": "r", "l3_network_uuid": network} | fields)


def test_a_pool_with_nothing_left_refuses_and_loses_nothing(scene: Scene) -> None:
    zone = scene.uuids["zone"]
    small = scene.cloud.create("l3-networks", name="small", zone_uuid=zone)["uuid"]
    scene.cloud.create("ip-ranges", name="tiny", l3_network_uuid=small, cidr="10.7.0.0/30")
    scene.cloud.create("vms", **vm_fields(scene, l3_network_uuids=[small]))
    full = refusal(scene, "POST", "/vms", vm_fields(scene, l3_network_uuids=[small]))
    assert full.status == 409 and full.code == "network.no-address", full
    large = scene.cloud.create("instance-offerings", name="large", cpu=1, memory=1024 * GIB)["uuid"]
    full = refusal(scene, "POST", "/vms", vm_fields(scene, instance_offering_uuid=large))
    assert full.status == 409 and full.code == "allocator.no-host", full
    assert scene.cloud.read(book_faults) == []


def test_what_others_still_need_cannot_be_deleted(scene: Scene) -> None:
    for kind, plural in (("l3_network", "l3-networks"),):
        found = refusal(scene, "DELETE", f"/{plural}/{scene.uuids[kind]}")
        assert found.status == 409, found
