"""Faults on demand, and that a driver sees them as it would see those of a real host."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mgmtnode.contracts.hypervisor import VmAction, VmPower
from services.simulator.driver import Patience
from tests.services.simulator.rack import Rack, failed, refused, tell, uuid, vm


def test_a_command_fails_the_next_n_times(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        await rack.fault(host, kind="fail", action="start", times=2)
        for _ in range(2):
            assert await failed(rack.do(host, VmAction.START, vm(1))) == "simulator.fault"
        await rack.do(host, VmAction.START, vm(1))

    tell(story, tmp_path)


def test_a_failed_order_fails_again_though_the_fault_is_over(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        await rack.fault(host, kind="fail", times=1)
        for _ in range(2):
            assert await failed(rack.do(host, VmAction.START, vm(1), run_no=1)) == "simulator.fault"
        assert await rack.powers(host) == {}

    tell(story, tmp_path)


def test_an_improbable_fault_never_strikes_and_a_certain_one_always(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        await rack.fault(host, kind="fail", probability=1e-12)
        await rack.do(host, VmAction.START, vm(1))
        await rack.fault(host, kind="fail", probability=1.0)
        assert await failed(rack.do(host, VmAction.STOP, vm(1))) == "simulator.fault"

    tell(story, tmp_path)


def test_a_lost_reply_is_asked_for_again_and_the_command_done_once(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        await rack.do(host, VmAction.START, vm(1))
        await rack.fault(host, kind="lose-reply", action="reboot", times=1)
        await rack.do(host, VmAction.REBOOT, vm(1))
        there = rack.hosts.find("a").host.find(uuid(1))
        assert there is not None
        assert there.boots == 2

    tell(story, tmp_path)


def test_a_disconnected_host_is_unreachable_until_the_faults_are_cleared(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        await rack.fault(host, kind="disconnect")
        rack.patience = Patience(answer=1, command=0.1)
        for attempt in (rack.report(host), rack.do(host, VmAction.START, vm(1)), rack.driver.connect(host)):
            assert (await refused(attempt)).code == "agent.unreachable"
        await rack.clear(host)
        assert await rack.powers(host) == {}

    tell(story, tmp_path)


def test_a_hanging_host_answers_no_ping_in_time(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        await rack.fault(host, kind="hang", action="report")
        assert (await refused(rack.report(host))).code == "agent.unreachable"

    tell(story, tmp_path, answer=0.05)


def test_a_hanging_command_goes_on_once_the_faults_are_cleared(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        await rack.fault(host, kind="hang", action="start")
        starting = asyncio.create_task(rack.do(host, VmAction.START, vm(1)))
        while not rack.hosts.find("a").register.in_flight:
            await asyncio.sleep(0)
        await rack.clear(host)
        await starting
        assert await rack.powers(host) == {uuid(1): VmPower.RUNNING}

    tell(story, tmp_path)


def test_a_crashed_vm_is_reported_and_can_be_started_again(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        await rack.do(host, VmAction.START, vm(1))
        await rack.fault(host, kind="crash-vm", vm_uuid=uuid(1))
        assert await rack.powers(host) == {uuid(1): VmPower.CRASHED}
        await rack.do(host, VmAction.START, vm(1))
        assert await rack.powers(host) == {uuid(1): VmPower.RUNNING}

    tell(story, tmp_path)


def test_a_replaced_disk_shows_as_another_identity_with_the_vms_still_there(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        await rack.do(host, VmAction.START, vm(1))
        before = await rack.report(host)
        await rack.fault(host, kind="replace-disk")
        after = await rack.report(host)
        assert after.identity != before.identity
        assert after.vms == before.vms
        assert (await rack.driver.seal(host, uuid(1), 1)).order is None

    tell(story, tmp_path)


def test_a_slow_command_takes_the_time_it_was_told_to(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        host = await rack.host("a")
        rack.delay_ms = 3_600_000
        await rack.fault(host, kind="slow", action="start", delay_ms=30)
        begun = asyncio.get_running_loop().time()
        await rack.do(host, VmAction.START, vm(1))
        assert 0.03 <= asyncio.get_running_loop().time() - begun < 5

    tell(story, tmp_path)


def test_a_migration_to_a_host_out_of_reach_fails_and_the_vm_stays(tmp_path: Path) -> None:
    async def story(rack: Rack) -> None:
        a, b = await rack.host("a"), await rack.host("b")
        await rack.do(a, VmAction.START, vm(1))
        await rack.do(b, VmAction.PREPARE_MIGRATION, vm(1))
        await rack.fault(b, kind="disconnect")
        assert await failed(rack.do(a, VmAction.MIGRATE, vm(1), peer=b)) == "agent.unreachable"
        assert await rack.powers(a) == {uuid(1): VmPower.RUNNING}

    tell(story, tmp_path)
