"""The shipped pytest plugin: cheap to load, loud when a server is missing, strict in CI."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TEST = """
    import pytest
    from mgmtnode.testing.servers import RedisServer, ServerMissing

    def missing(self):
        raise ServerMissing("Redis is not installed: apt-get install redis-server")

    RedisServer._find_program = missing

    def test_needs_redis(redis_server):
        raise AssertionError("must not run")
"""


def run(directory: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_it.py").write_text(textwrap.dedent(TEST))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "-p",
        "mgmtnode.testing.plugin",
    ]
    root = str(Path(__file__).parents[2])
    environment |= {"PATH": "/usr/bin:/bin", "PYTHONPATH": root, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, *more, "."], cwd=directory, env=environment, capture_output=True, text=True, timeout=60
    )


def test_a_missing_server_skips_and_says_so_at_the_end(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout
    assert "tests were skipped for want of servers: apt-get install redis-server" in done.stdout


def test_what_workers_missed_is_said_at_the_end_of_a_parallel_run(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_needs_nothing():\n    pass\n")
    done = run(tmp_path, "-p", "xdist", "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert done.stdout.count("tests were skipped for want of servers: apt-get install redis-server") == 1


@pytest.mark.parametrize("variable", ["CI", "MGMTNODE_REQUIRE_SERVERS"])
def test_a_missing_server_fails_where_servers_are_required(tmp_path: Path, variable: str) -> None:
    done = run(tmp_path, **{variable: "1"})
    assert done.returncode == 1, done.stdout
    assert "apt-get install redis-server" in done.stdout


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    program = (
        "import pytest, sys; before = set(sys.modules); import mgmtnode.testing.plugin;"
        "print(*sorted(m for m in set(sys.modules) - before))"
    )
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env={"PYTHONPATH": root}, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {
        "mgmtnode",
        "mgmtnode.testing",
        "mgmtnode.testing.plugin",
        "shutil",
        "uuid",
    }
