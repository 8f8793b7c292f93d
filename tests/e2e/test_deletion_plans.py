"""The dry run of a deletion names all that goes with it."""

from __future__ import annotations

from typing import Any

import pytest

from mgmtnode.client.mnctl import main
from tests.e2e.scene import Scene, differences


def plan(scene: Scene, plural: str, kind: str, **params: str) -> dict[str, Any]:
    found: dict[str, Any] = scene.cloud.call(
        "DELETE", f"/{plural}/{scene.uuids[kind]}", None, dry_run="true", **params
    )
    return found


@pytest.mark.parametrize("force", [False, True])
def test_a_deletion_does_what_its_dry_run_said(scene: Scene, force: bool) -> None:
    before = scene.snapshot()
    said = plan(scene, "zones", "zone", force=str(force).lower())
    assert not differences(before, scene.snapshot())
    planned = {(b["api"], b["resource_type"], b["resource_uuid"], b["name"]) for b in said["below"]}
    assert said["below_total"] == len(said["below"]) == len(planned)
    mentioned = {(api, name) for api, _, _, name in planned}
    assert {("vm.delete", "vm-1"), ("host.delete", "host-1"), ("l3_network.delete", "net-1")} <= mentioned

    scene.cloud.delete("zones", scene.uuids["zone"], force=force)
    done = {
        (job["api"], job["resource_type"], job["resource_uuid"])
        for job in scene.cloud.list("jobs", "parent_uuid!=null")
    }
    assert done == {(api, kind, uuid) for api, kind, uuid, _ in planned}


def test_what_a_deletion_stops_is_told_from_what_it_deletes(scene: Scene) -> None:
    below = plan(scene, "hosts", "host")["below"]
    assert [(b["api"], b["name"]) for b in below] == [("vm.stop", "vm-1")]


def test_only_deletions_have_something_below(scene: Scene) -> None:
    stop = scene.cloud.call("POST", f"/vms/{scene.uuids['vm']}/actions/stop", {}, dry_run="true")
    assert (stop["below"], stop["below_total"]) == ([], 0)


def test_mnctl_shows_it(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    where = ("--url", scene.cloud.turn().url, "--token", scene.cloud.token)
    assert main.run((*where, "zone", "delete", "zone-1", "--dry-run")) == 0
    said = capfd.readouterr().out
    assert "vm.delete          1: vm-1" in said and "nothing was changed" in said
