"""Fixtures: fake management nodes, clients of them, and mnctl as a process or in this one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mgmtnode.client.mnctl import main
from mgmtnode.client.sync import Client

from .fakenode import TOKEN, FakeNode


@pytest.fixture
def nodes() -> Iterator[Callable[[], FakeNode]]:
    started: list[FakeNode] = []

    def start() -> FakeNode:
        started.append(FakeNode().start())
        return started[-1]

    yield start
    for node in started:
        node.stop()


@pytest.fixture
def node(nodes: Callable[[], FakeNode]) -> FakeNode:
    return nodes()


@pytest.fixture
def client(node: FakeNode) -> Iterator[Client]:
    with Client(node.url, TOKEN, timeout=30, retry_for=30) as found:
        yield found


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Mnctl = Callable[..., Outcome]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("MGMTNODE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mnctl(
    home: Path, node: FakeNode, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Mnctl:
    """Runs a command against ``node`` with a valid token, in this process, which is much quicker than a
    new one."""
    monkeypatch.setenv("MGMTNODE_URL", node.url)
    monkeypatch.setenv("MGMTNODE_TOKEN", TOKEN)

    def run(*words: str) -> Outcome:
        capfd.readouterr()
        code = main.run(words)
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run
