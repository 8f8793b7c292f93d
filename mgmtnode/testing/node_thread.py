"""A management node in a thread of this process: real HTTP, a real database, an event loop of its own."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import traceback
from collections.abc import Collection, Coroutine, Mapping
from concurrent.futures import Future
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, TypeVar

from mgmtnode.config import core_properties as core
from mgmtnode.config.file import Properties
from mgmtnode.loader import discover
from mgmtnode.node import ManagementNode
from mgmtnode.ring.slots import SLOTS
from mgmtnode.service import Service

T = TypeVar("T")
S = TypeVar("S", bound=Service)
BOOT_SECONDS = 60.0
WAIT = 60  # seconds, the most the API waits for a job; a machine that runs all tests is busy


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)

    def start_loop(self) -> None:
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = WAIT) -> T:
        """Runs a coroutine on the loop and waits for it."""
        return self.begin(work).result(timeout)

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def end_loop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(BOOT_SECONDS)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class NodeThread(LoopThread):
    """Runs one ManagementNode. ``name`` and ``bus_url`` make it one of several. ``environ``: further properties, as
    variables."""

    def __init__(
        self,
        data_dir: Path,
        *,
        name: str = "test",
        database_url: str = "",
        bus_url: str = "",
        services: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name)
        self.properties = Properties(environ=environ)
        overrides: list[tuple[Any, Any]] = [
            (core.NODE_NAME, name),
            (core.DATA_DIR, str(data_dir)),
            (core.DATABASE_URL, database_url),
            (core.BUS_URL, bus_url),
            (core.SLOTS_AT_ONCE, SLOTS),
            (core.API_HOST, "127.0.0.1"),
            (core.API_PORT, 0),
            (core.DRAIN_SECONDS, 1.0),
        ]
        for prop, value in overrides:
            self.properties.override(prop, value, "the test")
        self._services = services
        self.node: ManagementNode

    def start(self, points: list[EntryPoint] | None = None) -> None:
        self.launch(points).result(BOOT_SECONDS)

    def launch(self, points: list[EntryPoint] | None = None) -> Future[None]:
        """Begins to start it; done once it serves."""
        self.start_loop()
        self.node = ManagementNode(self.properties, discover(self._services, points))
        return self.begin(self.node.start())

    def stop(self) -> None:
        self.run(self.node.stop(), BOOT_SECONDS)
        self.end_loop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.node.api.port}"

    def service(self, kind: type[S]) -> S:
        """Its service of this class."""
        return next(service for _, service in self.node.parts.services if isinstance(service, kind))

    async def has_its_share(self, nodes: Collection[str]) -> None:
        """Returns once it knows of these nodes and no others, and each has the slots that it should have."""
        slots, changed = self.node.slots, asyncio.Event()
        slots.on_change(changed.set)
        while set(slots.nodes) != set(nodes) or slots.leaving() or slots.coming():
            await changed.wait()
            changed.clear()

    def doing(self) -> str:
        """What the node runs, queues and waits for: the first thing to read where it did not do something."""
        return self.run(self._doing())

    async def _doing(self) -> str:
        jobs, text = self.node.parts.context.jobs, io.StringIO()
        if jobs.runner is not None:
            text.write(f"{self.name}: jobs: {jobs.runner.snapshot()}, closing: {jobs.runner.closing}\n")
        for task in asyncio.all_tasks():
            task.print_stack(file=text)
        for thread in threading.enumerate():
            if thread.name.startswith("db-"):
                text.write(f"{thread.name}\n{_stack(thread)}")
        return text.getvalue()


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)[-6:]) if frame else ""


def operator_token(thread: NodeThread) -> str:
    """A token of the operator's account."""
    from mgmtnode.contracts.session import EnsureApiKey

    made = thread.run(thread.node.db.write(lambda tx: tx.call(EnsureApiKey(key_name="test"))))
    return made.token
