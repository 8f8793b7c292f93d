"""A node's life: booting part by part, giving up in good order, waiting for what is away, stopping."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mgmtnode.config import core_properties as core
from mgmtnode.config.file import Properties
from mgmtnode.errors import ApiError
from mgmtnode.loader import discover
from mgmtnode.node import ManagementNode
from mgmtnode.serve import serve
from mgmtnode.service import Service, ServiceManifest
from mgmtnode.testing.servers import PostgresServer, free_port
from tests.workshop.service import manifest as gadgets

START = "from mgmtnode.cli.main import main; main()"
PARTS = [
    "_read_configuration", "_lock", "_open_database", "_upgrade", "_register", "_build", "_load_settings", "_start_bus",
    "_start_jobs", "_start_services", "_enter", "_start_api",
]  # fmt: skip


def properties(data_dir: Path, **more: Any) -> Properties:
    found = Properties(environ={})
    values: dict[Any, Any] = {
        core.NODE_NAME: "test", core.DATA_DIR: str(data_dir), core.API_HOST: "127.0.0.1", core.API_PORT: 0,
        core.DRAIN_SECONDS: 1.0,
    }  # fmt: skip
    for prop, value in values.items():
        found.override(prop, value, "the test")
    for name, value in more.items():
        found.override(getattr(core, name), value, "the test")
    return found


def node(data_dir: Path, *manifests: ServiceManifest, **more: Any) -> ManagementNode:
    return ManagementNode(properties(data_dir, **more), [gadgets, *manifests])


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_to_start_stops_those_before_it(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: ManagementNode) -> None:
        raise RuntimeError(f"{part} failed")

    async def story() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(ManagementNode, part, fail)
            broken = node(tmp_path)
            with pytest.raises(RuntimeError, match=f"{part} failed"):
                await broken.start()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left
        sound = node(tmp_path)  # the directory, the port and the membership are free
        await sound.start()
        await sound.stop()

    asyncio.run(story())


class Told(Service):
    heard: list[str] = []

    @property
    def id(self) -> str:
        return type(self).__name__.lower()

    async def start(self) -> None:
        self.heard.append(f"start {self.id}")

    async def stop(self) -> None:
        self.heard.append(f"stop {self.id}")


class First(Told):
    pass


class Second(Told):
    pass


class Third(Told):
    async def stop(self) -> None:
        await super().stop()
        raise OSError("it is stuck")


def test_services_stop_in_reverse_and_one_that_cannot_does_not_keep_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Told.heard = []
    manifests = [
        ServiceManifest(id=s.__name__.lower(), summary="", service=s) for s in (First, Second, Third)
    ]

    async def story() -> None:
        told = node(tmp_path, *manifests)
        await told.start()
        await told.stop()

    asyncio.run(story())
    assert Told.heard == [
        "start first",
        "start second",
        "start third",
        "stop third",
        "stop second",
        "stop first",
    ]
    assert "the service third did not stop cleanly" in caplog.text


def test_a_database_that_is_away_is_waited_for_and_then_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"postgresql+psycopg2://nobody:secret@127.0.0.1:{free_port()}/nothing"

    async def story() -> None:
        waiting = node(tmp_path, DATABASE_URL=url, BUS_URL="", BOOT_SECONDS=2.0)
        with pytest.raises(ApiError, match="the database was away for 2 s") as refused:
            await waiting.start()
        assert refused.value.problem.retryable

    asyncio.run(story())
    lines = [r.getMessage() for r in caplog.records if "waiting for the database" in r.getMessage()]
    assert lines
    assert "secret" not in caplog.text


def test_a_node_boots_once_its_database_is_there(tmp_path: Path, postgres_server: PostgresServer) -> None:
    name = f"late_{os.getpid()}"

    async def story() -> None:
        late = node(tmp_path, DATABASE_URL=postgres_server.database_url(name), BOOT_SECONDS=30.0)
        starting = asyncio.ensure_future(late.start())
        await asyncio.sleep(0.5)
        await asyncio.to_thread(postgres_server.create_database, name)
        await asyncio.wait_for(starting, 30)
        await late.stop()

    try:
        asyncio.run(story())
    finally:
        postgres_server.drop_database(name)


def test_a_node_without_the_plugins_boots_and_serves_the_rest(tmp_path: Path) -> None:
    everything = discover()
    kept = [manifest for manifest in everything if not manifest.plugin]
    assert len(kept) < len(everything)

    async def story() -> None:
        plain = ManagementNode(properties(tmp_path), discover([m.id for m in kept]))
        await plain.start()
        try:
            assert await asyncio.to_thread(status, f"http://127.0.0.1:{plain.api.port}/readyz") == 200
            assert await asyncio.to_thread(status, f"http://127.0.0.1:{plain.api.port}/v1/zones") == 401
        finally:
            await plain.stop()

    asyncio.run(story())


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_stopping_node_is_not_ready_while_it_still_answers(tmp_path: Path) -> None:
    chosen = properties(tmp_path, READY_GRACE_SECONDS=2.0)
    chosen.override(core.SERVICES_ENABLED, [m.id for m in discover() if not m.plugin], "the test")
    seen: list[int] = []

    async def ready(running: ManagementNode) -> None:
        url = f"http://127.0.0.1:{running.api.port}"
        seen.append(await asyncio.to_thread(status, f"{url}/readyz"))
        os.kill(os.getpid(), signal.SIGTERM)

        async def look() -> None:
            await asyncio.sleep(0.3)
            seen.append(await asyncio.to_thread(status, f"{url}/readyz"))
            seen.append(await asyncio.to_thread(status, f"{url}/livez"))

        looking.append(asyncio.ensure_future(look()))

    looking: list[asyncio.Future[None]] = []
    root, handlers = logging.getLogger(), list(logging.getLogger().handlers)
    try:
        assert asyncio.run(serve(chosen, ready)) == 0
    finally:
        root.handlers[:] = handlers
    assert seen == [200, 503, 200]


def run_node(data_dir: Path, **environment: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MGMTNODE_")}
    path = os.pathsep.join(p for p in sys.path if p)
    return subprocess.Popen(
        [sys.executable, "-c", START, "run"],
        env=clean | {"PYTHONPATH": path, "MGMTNODE_NODE_DATA_DIR": str(data_dir)} | environment,
        cwd=data_dir,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def away() -> dict[str, str]:
    return {"MGMTNODE_DATABASE_URL": f"postgresql+psycopg2://x@127.0.0.1:{free_port()}/x"}


@pytest.mark.slow
def test_a_node_that_gave_up_waiting_says_so_in_one_line_and_exits_75(tmp_path: Path) -> None:
    process = run_node(tmp_path, MGMTNODE_NODE_BOOT_SECONDS="2", **away())
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 75, errors
    assert "the database was away for 2 s" in errors.splitlines()[-1]
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_node_that_waits_at_boot_stops_when_it_is_told(tmp_path: Path) -> None:
    process = run_node(tmp_path, MGMTNODE_NODE_BOOT_SECONDS="60", **away())
    assert process.stderr is not None
    line = process.stderr.readline()
    while "waiting for the database" not in line:
        assert line, "it ended"
        line = process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)  # half of what it would have waited
    assert process.returncode == 0
