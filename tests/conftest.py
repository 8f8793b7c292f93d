"""What holds for all tests, and what they have beside the shipped fixtures: simulated hosts that nodes share."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mgmtnode.testing.agents_thread import AgentsThread

# A machine that runs all tests is busy: how long an example took says nothing about the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# A shell that starts a run in the background has it ignore Ctrl-C, and so would every process that a test starts.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def shared_agents(tmp_path: Path) -> Iterator[AgentsThread]:
    from tests.machines import shared

    agents = shared(tmp_path)
    agents.start()
    yield agents
    agents.stop()
