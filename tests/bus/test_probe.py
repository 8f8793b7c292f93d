"""A node finds out by itself that nothing reaches it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mgmtnode.bus.memory import Hub
from tests.bus.nodes import Nodes
from tests.virtual_time import run


def test_probes_come_back_and_a_node_that_hears_none_says_so_until_they_do() -> None:
    async def story() -> None:
        cut = False

        def schedule(source: str, destination: str, deliver: Callable[[], None]) -> None:
            if not cut:
                asyncio.get_running_loop().call_soon(deliver)

        nodes = Nodes("ab", Hub(schedule))
        async with nodes:
            bus = nodes["a"]
            for _ in range(5):
                await bus.probe()
                await asyncio.sleep(2)
                assert bus.trouble is None and not bus.counts
            cut = True
            for _ in range(6):
                await bus.probe()
                await asyncio.sleep(2)
            assert "nothing has arrived" in str(bus.trouble) and bus.counts["silences"] == 1
            cut = False
            await bus.probe()
            await asyncio.sleep(0.1)
            assert bus.trouble is None

    run(story)
