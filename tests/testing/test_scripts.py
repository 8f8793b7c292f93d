"""How ``scripts/test`` hands its arguments on: all tests in parallel, some in one process."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script in a tree of its own, where Python only says what it was given."""
    for folder in ("scripts", "tests/bus", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tests/bus/test_calls.py").touch()
    shutil.copy(ROOT / "scripts/test", tmp_path / "scripts")
    for name, text in {
        "scripts/setup": "exit",
        "scripts/apt-install": "exit",
        ".venv/bin/python": 'printf "%s\\n" "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def given(checkout: Path, *arguments: str) -> list[str]:
    """What pytest is run with."""
    script = [checkout / "scripts/test", *arguments]
    done = subprocess.run(script, cwd="/", capture_output=True, text=True, timeout=60, check=True)
    python, pytest_, *rest = done.stdout.splitlines()
    assert (python, pytest_) == ("-m", "pytest")
    return rest


@pytest.mark.parametrize("arguments", [[], ["tests"], ["-m", "not integration"], ["-q", "--durations=15"]])
def test_all_tests_run_in_twice_as_many_processes_as_there_are_cores(
    checkout: Path, arguments: list[str]
) -> None:
    processes = str(2 * len(os.sched_getaffinity(0)))
    assert given(checkout, *arguments) == ["-n", processes, "--dist", "worksteal", *arguments]


@pytest.mark.parametrize(
    "arguments",
    [
        ["tests/bus"],
        ["tests/bus/test_calls.py::test_a_call", "-q"],
        ["-k", "reply"],
        ["-q", "-kreply"],
        ["--lf"],
        ["--pdb"],
        ["tests/bus", "-n", "3"],
    ],
)
def test_some_tests_run_as_the_arguments_say(checkout: Path, arguments: list[str]) -> None:
    assert given(checkout, *arguments) == arguments
