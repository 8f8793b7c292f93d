"""The registers of deleted VMs go, those of VMs that live stay, and late commands find nothing open."""

from __future__ import annotations

import pytest

from mgmtnode.agents.port import OLD, Command
from mgmtnode.errors import ApiError
from mgmtnode.jobs import floor
from mgmtnode.testing.cloud import Cloud
from services.host.service import HostService
from tests.machines import agent_at, thread_of_machines
from tests.services.vm.site import Site


def forgotten(cloud: Cloud) -> int:
    """How many registers a round on every node drops."""
    return sum(cloud.everywhere(HostService, lambda host: host.registers.forget()))


def test_deleted_vms_are_forgotten_by_their_hosts(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "SETTLED_SECONDS", 0.0)
    site = Site(cloud)
    lives, gone, moved = (site.vm(host=0) for _ in range(3))
    site.act(moved, "migrate", host_uuid=site.host(1))
    for vm in (gone, moved):
        cloud.delete("vms", vm["uuid"])
        site.act(vm, "expunge")
    assert forgotten(cloud) == 0  # a minute has to pass
    assert forgotten(cloud) == 3  # both on the first host, one of them on the second too
    assert forgotten(cloud) == 0
    agents = [agent_at(cloud, host["management_ip"]) for host in site.hosts]
    left = [set(agent.register._records) for agent in agents]
    assert left == [{lives["uuid"]}, set()]
    late = Command(resource=gone["uuid"], fence=1 << 60, order=(1, 1, 1), action="start")
    with pytest.raises(ApiError) as refused:
        thread_of_machines(cloud).run(agents[0].command(late, 1))
    assert refused.value.code == OLD.id
    assert site.act(lives, "reboot")["state"] == "Running"
