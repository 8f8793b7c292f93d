"""The command line as a process of its own: how fast it is, and a node from start to end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

START = "from mgmtnode.cli.main import main; main()"
PATIENCE = 30.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", START, *arguments]


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("MGMTNODE_")} | {
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)
    }


def test_help_is_there_within_three_tenths_of_a_second_of_cpu() -> None:
    def cpu() -> float:
        before = os.times()
        subprocess.run(
            command("--help"), env=environment(), check=True, capture_output=True, timeout=PATIENCE
        )
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(cpu() for _ in range(3)) < 0.3


def test_help_imports_no_part_of_the_node() -> None:
    code = (
        "import sys; from mgmtnode.cli.main import invoke; invoke(['--help']); "
        "print(sorted({'sqlalchemy', 'msgspec', 'asyncio', 'mgmtnode.loader'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_development_node_serves_writes_its_token_and_stops_when_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = command("dev", "--port", str(port), "--data-dir", str(tmp_path), "--hosts", "2")
    node = subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert node.stderr is not None
        lines = until(node, "vm launch")
        assert any(f"http://127.0.0.1:{port}/docs" in line for line in lines)
        token = (tmp_path / "admin-token").read_text().strip()
        assert (tmp_path / "admin-token").stat().st_mode & 0o777 == 0o600
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/zones", headers={"authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            assert b'"name":"dev"' in answer.read()
        second = subprocess.run(
            arguments, env=environment(), capture_output=True, text=True, timeout=PATIENCE
        )
        assert second.returncode == 1
        assert "in use by a running node" in second.stderr.splitlines()[-1]
        node.send_signal(signal.SIGTERM)
        assert node.wait(PATIENCE) == 0
    finally:
        node.kill()
        node.communicate()


def until(node: subprocess.Popen[str], text: str) -> list[str]:
    """The lines a process wrote up to one with ``text``."""
    assert node.stderr is not None
    lines: list[str] = []
    end = time.monotonic() + PATIENCE
    for line in node.stderr:
        lines.append(line)
        if text in line:
            return lines
        assert time.monotonic() < end
    raise AssertionError("".join(lines))
