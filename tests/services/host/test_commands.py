"""Commands to hosts: where they go, how many at once, and what is refused."""

from __future__ import annotations

import pytest

from mgmtnode.contracts.host import HostStatus
from mgmtnode.contracts.hypervisor import PerformOnHost, SealOnHost, VmAction, VmPower
from mgmtnode.errors import ApiError
from tests.services.host.conftest import Rack
from tests.services.host.scripted import vm_command

VM = "00000000-0000-7000-8000-0000000000{:02x}"
NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("action", "power"),
    [
        (VmAction.START, VmPower.RUNNING),
        (VmAction.PAUSE, VmPower.PAUSED),
        (VmAction.STOP, VmPower.STOPPED),
        (VmAction.PREPARE_MIGRATION, VmPower.INCOMING),
    ],
)
def test_a_command_goes_to_the_host_and_answers_how_the_vm_is_left(
    rack: Rack, action: VmAction, power: VmPower
) -> None:
    uuid = rack.add()["uuid"]
    assert rack.cloud.ask(vm_command(uuid, VM.format(1), action)).power == power
    assert [(where, command.action) for where, command, _ in rack.script.commands] == [("h1", action)]


def test_a_host_works_on_so_many_commands_at_once_and_another_on_its_own(rack: Rack) -> None:
    one, other = rack.add("h1")["uuid"], rack.add("h2")["uuid"]
    rack.config("host.sync_level", 3)
    rack.script.hold.add("perform")

    done = [rack.begin(vm_command(uuid, VM.format(n))) for uuid in (one, other) for n in range(10)]
    rack.cloud.until(lambda: rack.script.running["h1"] == 3 and rack.script.running["h2"] == 3)
    rack.script.heal()
    for each in done:
        each.result(20)
    assert rack.script.most == {"h1": 3, "h2": 3}
    assert len(rack.script.commands) == 20


def test_a_host_is_sealed_although_its_queue_is_full(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.config("host.sync_level", 1)
    rack.script.hold.add("perform")
    done = rack.begin(vm_command(uuid, VM.format(1)))
    rack.cloud.until(lambda: rack.script.running["h1"] == 1)
    sealed = rack.cloud.ask(SealOnHost(host_uuid=uuid, vm_uuid=VM.format(1), fence=7))
    assert (sealed.order, sealed.state) == ((1, 2, 7), "DONE")
    rack.script.heal()
    done.result(20)


def test_a_disconnected_host_takes_no_commands_but_is_sealed_if_it_can_be(rack: Rack) -> None:
    host = rack.add()
    rack.silence(host)
    rack.script.calls.clear()
    with pytest.raises(ApiError) as refused:
        rack.cloud.ask(vm_command(host["uuid"], VM.format(1)))
    assert (refused.value.code, refused.value.problem.retryable) == ("host.not-connected", True)
    assert ("perform", "h1") not in rack.script.calls
    with pytest.raises(ApiError) as unreachable:
        rack.cloud.ask(SealOnHost(host_uuid=host["uuid"], vm_uuid=VM.format(1), fence=7))
    assert unreachable.value.code == "agent.unreachable"


def test_a_host_is_commanded_that_is_connected_again_though_its_node_has_not_heard_of_it(rack: Rack) -> None:
    host = rack.add()
    rack.silence(host)
    rack.script.heal()
    service = rack.service(host["uuid"])
    rack.cloud.owner_of(host["uuid"]).run(service.known.read(host["uuid"]))
    rack.cloud.write(lambda tx: service.hosts.change(tx, host["uuid"], status=HostStatus.CONNECTED))
    assert rack.cloud.ask(vm_command(host["uuid"], VM.format(1))).power == VmPower.RUNNING


def test_a_command_to_a_host_that_is_not_there_is_refused(rack: Rack) -> None:
    with pytest.raises(ApiError) as refused:
        rack.cloud.ask(vm_command(NOBODY, VM.format(1)))
    assert refused.value.code == "core.not-found"


def test_a_command_reads_no_row_and_follows_the_host_to_its_address(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.cloud.ask(vm_command(uuid, VM.format(1)))
    assert uuid in rack.service(uuid).known
    rack.script.identity["h9"] = "agent of h1"
    rack.cloud.update("hosts", uuid, management_ip="h9")
    rack.cloud.ask(vm_command(uuid, VM.format(1)))
    assert [where for where, _, _ in rack.script.commands] == ["h1", "h9"]


def test_a_command_that_takes_too_long_gives_its_place_free(rack: Rack) -> None:
    uuid = rack.add()["uuid"]
    rack.config("host.sync_level", 1)
    rack.script.hold.add("perform")
    message: PerformOnHost = vm_command(uuid, VM.format(1))
    with pytest.raises(ApiError) as late:
        rack.cloud.ask(message, timeout=0.2)
    assert late.value.code == "core.timeout"
    rack.script.heal()
    rack.cloud.ask(vm_command(uuid, VM.format(2)))
