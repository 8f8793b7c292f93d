"""Agents of any number of hosts that only answer pings, and write down when they came: for the scenario ``scale``.

``python -m scripts.benchmarks.ping_agents``: says its port, then answers each line on its standard input with what came
since the one before. The product's own simulator would cost more than what is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import msgspec
import uvloop

from mgmtnode.agents.port import UNKNOWN
from mgmtnode.agents.server import AgentApp
from mgmtnode.api.server import HttpServer, Listen
from mgmtnode.contracts.hypervisor import HostFacts, HostReport
from scripts.benchmarks.fill import CPU, MEMORY, VERSION


class PingedAgent:
    """An ``AgentEndpoint`` that runs nothing. Its identity is its name, so that no node connects it anew."""

    def __init__(self, name: str, gaps: list[float]) -> None:
        self._facts = HostFacts(cpu=CPU, memory=MEMORY, identity=name, version=VERSION)
        self._report = msgspec.to_builtins(HostReport(identity=name))
        self._gaps, self._last = gaps, 0.0

    async def ask(self, question: str, body: dict[str, Any]) -> Any:
        if question == "connect":
            return msgspec.to_builtins(self._facts)
        if question != "report":
            return {}
        now = asyncio.get_running_loop().time()
        if self._last:
            self._gaps.append(now - self._last)
        self._last = now
        return self._report

    async def command(self, command: Any, wait: float) -> Any:
        raise UNKNOWN.error("this host takes no commands")

    async def seal(self, resource: str, fence: int, wait: float) -> Any:
        raise UNKNOWN.error("this host takes no commands")

    async def forget(self, floor: int, registers: Any) -> int:
        return 0


async def main() -> None:
    gaps: list[float] = []
    agents: dict[str, PingedAgent] = {}

    def find(name: str) -> Any:
        if name not in agents:
            agents[name] = PingedAgent(name, gaps)
        return agents[name]

    server = HttpServer(AgentApp(find), Listen(port=0))
    await server.start()
    print(json.dumps({"port": server.port}), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        found, agents_known = sorted(gaps), len(agents)
        gaps.clear()
        told = {"hosts": agents_known, "pings": len(found)}
        if found:
            at = {"p50": 0.5, "p99": 0.99, "longest": 1.0}
            told |= {what: found[min(len(found) - 1, int(share * len(found)))] for what, share in at.items()}
        print(json.dumps(told), flush=True)
    await server.stop(1.0)


if __name__ == "__main__":
    uvloop.run(main())
