"""What tests of this product have beside the fixtures that it ships: simulated hosts that several nodes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mgmtnode.testing.agents_thread import AgentsThread


@pytest.fixture
def shared_agents(tmp_path: Path) -> Iterator[AgentsThread]:
    from tests.machines import shared

    agents = shared(tmp_path)
    agents.start()
    yield agents
    agents.stop()
