"""Hosts are told, now and then, which VMs they need not remember any more."""

from __future__ import annotations

import pytest

from mgmtnode.jobs import floor
from services.host import registers
from services.host.service import HostService
from tests.services.host.conftest import Rack


def uuid(number: int) -> str:
    """Of a VM that is no more."""
    return f"00000000-0000-7000-8000-00000dead{number:03d}"


@pytest.fixture(autouse=True)
def settled(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the node had run for a minute."""
    monkeypatch.setattr(floor, "SETTLED_SECONDS", 0.0)
    forgotten(rack)


def forgotten(rack: Rack) -> int:
    return sum(rack.cloud.everywhere(HostService, lambda host: host.registers.forget()))


def test_what_is_no_more_is_forgotten_with_its_fence_and_what_is_there_is_not(rack: Rack) -> None:
    host = rack.add("h1")
    rack.script.registers["h1"] = {uuid(1): 4, host["uuid"]: 5, uuid(2): 6}
    assert forgotten(rack) == 2
    assert rack.script.said("forget") == [("h1", {uuid(1): 4, uuid(2): 6})]


def test_many_are_forgotten_page_by_page(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registers, "PAGE", 3)
    rack.add("h1")
    rack.script.registers["h1"] = {uuid(number): 1 for number in range(1, 9)}
    assert forgotten(rack) == 8
    assert [len(dropped) for _, dropped in rack.script.said("forget")] == [3, 3, 2]


def test_a_host_that_is_out_of_reach_does_not_keep_others_from_it(rack: Rack) -> None:
    for address in ("h1", "h2", "h3"):
        rack.add(address)
        rack.script.registers[address] = {uuid(1): 1}
    rack.script.down.add("h2")
    assert forgotten(rack) == 2
    assert {address for address, _ in rack.script.said("forget")} == {"h1", "h3"}


def test_a_host_of_another_node_is_left_to_it(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    rack.add("h1")
    rack.script.registers["h1"] = {uuid(1): 1}
    for thread in rack.cloud.nodes:
        monkeypatch.setattr(thread.node.slots, "mine", lambda uuid: False)
    assert forgotten(rack) == 0
    assert ("ended", "h1") not in rack.script.calls
