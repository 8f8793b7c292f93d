"""What a node that was evicted does with commands of others."""

from __future__ import annotations

import asyncio

import pytest

from mgmtnode.agents.local import LocalAgents
from mgmtnode.agents.port import Command
from mgmtnode.bus.calls import NOT_HERE
from mgmtnode.cluster.gate import GatedAgents
from mgmtnode.cluster.lease import Lease
from mgmtnode.errors import ApiError
from tests.virtual_time import LoopClock, run

COMMAND = Command(resource="vm", fence=1, order=(1, 1, 1), action="start")


def test_a_command_that_waits_for_the_lease_of_an_evicted_node_is_to_be_asked_for_elsewhere() -> None:
    """The job is another node's. Found by the simulation: it failed with an internal error."""

    async def story() -> None:
        lease = Lease(LoopClock())
        agents = GatedAgents(LocalAgents(), lease)
        waiting = asyncio.ensure_future(agents.command("sim://host", COMMAND, timeout=60))
        await asyncio.sleep(1)
        assert not waiting.done()
        lease.lose()
        for attempt in (waiting, agents.seal("sim://host", "vm", 1, timeout=60)):
            with pytest.raises(ApiError) as caught:
                await attempt
            assert caught.value.code == NOT_HERE.id

    run(story)
