"""What simulated hosts do with VMs, and what survives the death of their process."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgmtnode.contracts.hypervisor import HostAddress, VmAction, VmPower
from services.simulator.driver import Patience
from tests.services.simulator.rack import GIB, Rack, failed, refused, tell, uuid, vm

RUNNING, PAUSED = VmPower.RUNNING, VmPower.PAUSED


def test_a_vm_goes_through_its_life(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host, v = await rack.host("a"), vm(1)
        for action, power in (
            (VmAction.START, RUNNING),
            (VmAction.REBOOT, RUNNING),
            (VmAction.PAUSE, PAUSED),
            (VmAction.RESUME, RUNNING),
        ):
            await rack.do(host, action, v)
            assert await rack.powers(host) == {v.uuid: power}
        await rack.do(host, VmAction.STOP, v)
        assert await rack.powers(host) == {}

    tell(story, tmp_path)


@pytest.mark.parametrize("action", [VmAction.START, VmAction.PAUSE, VmAction.STOP, VmAction.DESTROY])
def test_what_is_so_already_is_success(tmp_path: Path, action: VmAction) -> None:
    async def story(rack: Rack) -> None:
        host, v = await rack.host("a"), vm(1)
        await rack.do(host, VmAction.START, v)
        await rack.do(host, action, v)
        before = await rack.powers(host)
        await rack.do(host, action, v)
        assert await rack.powers(host) == before

    tell(story, tmp_path)


def test_a_vm_that_is_not_there_cannot_be_paused(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        assert await failed(rack.do(host, VmAction.PAUSE, vm(1))) == "simulator.no-vm"

    tell(story, tmp_path)


def test_a_start_beyond_the_size_of_the_host_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a", memory=4 * GIB)
        await rack.do(host, VmAction.START, vm(1, memory=3 * GIB))
        large = rack.do(host, VmAction.START, vm(2, memory=2 * GIB))
        assert await failed(large) == "simulator.no-memory"
        assert await failed(rack.do(host, VmAction.START, vm(3, cpu=9))) == "simulator.too-many-cpus"
        await rack.do(host, VmAction.STOP, vm(1))
        await rack.do(host, VmAction.START, vm(2, memory=2 * GIB))
        assert await rack.powers(host) == {uuid(2): RUNNING}

    tell(story, tmp_path)


def test_a_resize_beyond_the_memory_is_refused(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a", memory=4 * GIB)
        await rack.do(host, VmAction.START, vm(1, memory=3 * GIB))
        large = rack.do(host, VmAction.RESIZE, vm(1, memory=5 * GIB))
        assert await failed(large) == "simulator.no-memory"
        await rack.do(host, VmAction.RESIZE, vm(1, cpu=4, memory=4 * GIB))
        (seen,) = (await rack.report(host)).vms
        assert (seen.cpu, seen.memory) == (4, 4 * GIB)

    tell(story, tmp_path)


def test_nics_come_and_go_once_each(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host, bare, full = await rack.host("a"), vm(1), vm(1, nics=2)
        second = full.nics[1].uuid
        await rack.do(host, VmAction.START, bare)
        for action, count in ((VmAction.ATTACH_NIC, 1), (VmAction.DETACH_NIC, 0)):
            for _ in range(2):
                await rack.do(host, action, full, nic_uuid=second)
                there = rack.hosts.find("a").host.find(bare.uuid)
                assert there is not None
                assert [nic.uuid for nic in there.spec.nics] == [second] * count

    tell(story, tmp_path)


def test_a_migration_moves_the_vm_and_back(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        a, b, v = await rack.host("a"), await rack.host("b"), vm(1)
        await rack.do(a, VmAction.START, v)
        assert await failed(rack.do(a, VmAction.MIGRATE, v, peer=b)) == "simulator.not-prepared"
        await rack.do(b, VmAction.PREPARE_MIGRATION, v)
        assert await rack.powers(b) == {v.uuid: VmPower.INCOMING}
        for _ in range(2):
            await rack.do(a, VmAction.MIGRATE, v, peer=b)
            assert (await rack.powers(a), await rack.powers(b)) == ({}, {v.uuid: RUNNING})
        for _ in range(2):
            await rack.do(a, VmAction.MIGRATE_BACK, v, peer=b)
            assert (await rack.powers(a), await rack.powers(b)) == ({v.uuid: RUNNING}, {})

    tell(story, tmp_path)


def test_an_incoming_vm_takes_memory_and_is_undone_by_destroy(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a", memory=4 * GIB)
        await rack.do(host, VmAction.PREPARE_MIGRATION, vm(1, memory=3 * GIB))
        large = rack.do(host, VmAction.START, vm(2, memory=2 * GIB))
        assert await failed(large) == "simulator.no-memory"
        await rack.do(host, VmAction.DESTROY, vm(1))
        assert await rack.powers(host) == {}

    tell(story, tmp_path)


def test_hosts_vms_and_registers_outlive_the_process(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a", cpu=5)
        await rack.do(host, VmAction.START, vm(1))
        before = await rack.report(host)
        await rack.restart()
        assert await rack.report(host) == before
        assert (await rack.driver.seal(host, uuid(1), 3)).order == (1, 1, 1)
        error = await refused(rack.do(host, VmAction.STOP, vm(1), fence=2))
        assert error.code == "agent.stale"

    tell(story, tmp_path)


def test_a_command_cut_off_by_the_death_of_the_process_is_done_when_sent_again(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        await rack.fault(host, kind="hang", action="start")
        rack.patience = Patience(answer=2, command=0.05)
        assert (await refused(rack.do(host, VmAction.START, vm(1)))).code == "agent.timeout"
        rack.patience = Patience(answer=2, command=2)
        await rack.restart()
        sealed = await rack.driver.seal(host, uuid(1), 2)
        assert (sealed.order, sealed.state) == ((1, 1, 1), "STARTED")
        await rack.do(host, VmAction.START, vm(1), run_no=1, fence=2)
        assert await rack.powers(host) == {uuid(1): RUNNING}

    tell(story, tmp_path)


def test_a_job_on_another_resource_may_not_order_a_vm_about(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        error = await refused(rack.do(host, VmAction.STOP, vm(1), resource=uuid(2)))
        assert error.code == "core.internal"

    tell(story, tmp_path)


@pytest.mark.parametrize("parameters", [{"cpu": 0}, {"memory": 1}, {"cpus": 4}, {"cpu": "many"}])
def test_a_size_that_makes_no_host_is_refused(tmp_path: Path, parameters: dict[str, object]) -> None:
    async def story(rack: Rack) -> None:
        host = HostAddress(uuid=uuid(9), hypervisor="simulator", management_ip="b", parameters=parameters)
        assert (await refused(rack.driver.connect(host))).code == "host.bad-parameters"

    tell(story, tmp_path)
