"""A short campaign as ``scripts/chaos`` runs it, in a process of its own. The long one is for people."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgmtnode.testing.plugin import servers_are_required
from mgmtnode.testing.process import ServerMissing
from mgmtnode.testing.servers import PostgresServer, RabbitServer

MINUTES = float(os.environ.get("MGMTNODE_CHAOS_MINUTES", "0"))  # one cycle, whatever is below its length
SEED = os.environ.get("MGMTNODE_CHAOS_SEED", "1")
CLIENTS = os.environ.get("MGMTNODE_CHAOS_CLIENTS", "6")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not MINUTES, reason="MGMTNODE_CHAOS_MINUTES says for how long clusters are broken"),
]


@pytest.fixture(autouse=True)
def servers() -> None:
    for server in (PostgresServer(), RabbitServer()):
        try:
            server.find()
        except ServerMissing as missing:
            (pytest.fail if servers_are_required() else pytest.skip)(str(missing))


def test_a_cluster_that_is_broken_again_and_again_keeps_its_promises(tmp_path: Path) -> None:
    words = [
        "--minutes",
        str(MINUTES),
        "--seed",
        SEED,
        "--clients",
        CLIENTS,
        "--keep",
        str(tmp_path / "kept"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60 * MINUTES + 600,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    assert "violations                                              0" in done.stdout, done.stdout[-5_000:]
