"""The stories of VMs again, with every command and question to their hosts over HTTP.

The hosts stay in the node's process, where the stories look behind the scenes; what the node knows of them is a URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mgmtnode.agents.server import AgentApp
from mgmtnode.api.server import HttpServer, Listen
from mgmtnode.testing.cloud import Cloud, NodeThread, operator_token
from mgmtnode.testing.process import free_port
from services.simulator.service import SimulatorService
from tests.services.vm import test_faults, test_migrate, test_sync
from tests.services.vm.site import Site

pytestmark = pytest.mark.slow

for stories in (test_faults, test_migrate, test_sync):
    globals().update({name: story for name, story in vars(stories).items() if name.startswith("test_")})


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    thread = NodeThread(tmp_path / "node", environ={"MGMTNODE_SIMULATOR_AGENTS_URL": url})
    thread.start()
    simulator = next(s for _, s in thread.node.parts.services if isinstance(s, SimulatorService))
    asked: list[str] = []

    def find(name: str) -> object:
        asked.append(name)
        return simulator.find(f"sim://{name}")

    server = HttpServer(AgentApp(find), Listen(port=port))  # type: ignore[arg-type]
    thread.run(server.start())
    cloud = Cloud(thread, operator_token(thread))
    try:
        yield cloud
        assert asked  # otherwise this proves nothing
    finally:
        cloud.close()
        thread.run(server.stop(2))
        thread.stop()


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)
