"""The registers of deleted VMs go, those of VMs that live stay, and late commands find nothing open."""

from __future__ import annotations

import pytest

from mgmtnode.agents.port import OLD, Command
from mgmtnode.errors import ApiError
from mgmtnode.jobs import floor
from mgmtnode.testing.cloud import Cloud
from services.simulator.service import SimulatorService
from tests.services.vm.site import Site


def test_deleted_vms_are_forgotten_by_their_hosts(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "SETTLED_SECONDS", 0.0)
    site = Site(cloud)
    lives, gone, moved = (site.vm(host=0) for _ in range(3))
    site.act(moved, "migrate", host_uuid=site.host(1))
    for vm in (gone, moved):
        cloud.delete("vms", vm["uuid"])
        site.act(vm, "expunge")
    forget = site.host_service.registers.forget
    assert cloud.thread.run(forget()) == 0  # a minute has to pass
    assert cloud.thread.run(forget()) == 3  # both on the first host, one of them on the second too
    assert cloud.thread.run(forget()) == 0
    simulator = next(s for _, s in cloud.node.parts.services if isinstance(s, SimulatorService))
    left = [set(simulator.find(f"sim://{host['management_ip']}").register._records) for host in site.hosts]
    assert left == [{lives["uuid"]}, set()]
    late = Command(resource=gone["uuid"], fence=1 << 60, order=(1, 1, 1), action="start")
    agent = simulator.find(f"sim://{site.hosts[0]['management_ip']}")
    with pytest.raises(ApiError) as refused:
        cloud.thread.run(agent.command(late, 1))
    assert refused.value.code == OLD.id
    assert site.act(lives, "reboot")["state"] == "Running"
