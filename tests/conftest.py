"""What holds for all tests, and what they have beside the shipped fixtures: simulated hosts that nodes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mgmtnode.testing.agents_thread import AgentsThread

# A machine that runs all tests is busy: how long an example took says nothing about the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture
def shared_agents(tmp_path: Path) -> Iterator[AgentsThread]:
    from tests.machines import shared

    agents = shared(tmp_path)
    agents.start()
    yield agents
    agents.stop()
