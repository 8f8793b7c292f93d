"""A booted node for tests: real HTTP, a real database, simulated hosts without delay, in a thread of its own."""

from __future__ import annotations

import asyncio
import inspect
import io
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mgmtnode.config import core_properties as core
from mgmtnode.config.file import Properties
from mgmtnode.loader import discover
from mgmtnode.node import ManagementNode

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
BOOT_SECONDS = 30.0
WAIT = 30
POLL = 0.02


class Refused(AssertionError):
    """The API answered with a problem where the test expected success. ``problem`` is its body."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.problem: dict[str, Any] = response.json()
        super().__init__(f"{self.status} {self.problem.get('code')}: {self.problem.get('detail')}")

    @property
    def code(self) -> str:
        return str(self.problem["code"])


class NodeThread:
    """Runs one ManagementNode on an event loop of its own."""

    def __init__(self, data_dir: Path, *, database_url: str = "", services: tuple[str, ...] = ()) -> None:
        self.properties = Properties(environ={})
        overrides: list[tuple[Any, Any]] = [
            (core.NODE_NAME, "test"),
            (core.DATA_DIR, str(data_dir)),
            (core.DATABASE_URL, database_url),
            (core.API_HOST, "127.0.0.1"),
            (core.API_PORT, 0),
            (core.DRAIN_SECONDS, 1.0),
        ]
        for prop, value in overrides:
            self.properties.override(prop, value, "the test")
        self._services = services
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="node", daemon=True)
        self.node: ManagementNode

    def start(self, points: list[EntryPoint] | None = None) -> None:
        self._thread.start()
        self.node = ManagementNode(self.properties, discover(self._services, points))
        self.run(self.node.start(), BOOT_SECONDS)

    def stop(self) -> None:
        self.run(self.node.stop(), BOOT_SECONDS)
        self._end_loop()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = WAIT) -> T:
        """Runs a coroutine on the node's loop and waits for it."""
        return self.begin(work).result(timeout)

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a coroutine on the node's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def doing(self) -> str:
        """What the node runs, queues and waits for: the first thing to read where it did not do something."""
        return self.run(self._doing())

    async def _doing(self) -> str:
        jobs, text = self.node.parts.context.jobs, io.StringIO()
        if jobs.runner is not None:
            text.write(f"jobs: {jobs.runner.snapshot()}, closing: {jobs.runner.closing}\n")
        for task in asyncio.all_tasks():
            task.print_stack(file=text)
        for thread in threading.enumerate():
            if thread.name.startswith("db-"):
                text.write(f"{thread.name}\n{_stack(thread)}")
        return text.getvalue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.node.api.port}"

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(BOOT_SECONDS)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)[-6:]) if frame else ""


def operator_token(thread: NodeThread) -> str:
    """A token of the operator's account."""
    from mgmtnode.contracts.session import EnsureApiKey

    made = thread.run(thread.node.db.write(lambda tx: tx.call(EnsureApiKey(key_name="test"))))
    return made.token


class Cloud:
    """What a test talks to: the API as one caller. ``as_(token)`` is the same cloud as another."""

    def __init__(self, thread: NodeThread, token: str) -> None:
        import httpx

        self.thread, self.token = thread, token
        self._others: list[Cloud] = []
        self.http = httpx.Client(
            base_url=thread.url,
            headers={"authorization": f"Bearer {token}"},
            timeout=WAIT + 10.0,
            verify=False,  # the node speaks plain HTTP, and reading all root certificates takes as long as a boot
        )

    @property
    def node(self) -> ManagementNode:
        return self.thread.node

    def as_(self, token: str) -> Cloud:
        other = Cloud(self.thread, token)
        self._others.append(other)
        return other

    def close(self) -> None:
        for other in self._others:
            other.close()
        self.http.close()

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> httpx.Response:
        """The raw answer of ``/v1`` + path; a mutation is waited for."""
        return self.http.request(
            method, f"/v1{path}", json=body, params=params or None, headers={"prefer": f"wait={WAIT}"}
        )

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """The body of a successful answer. Raises Refused."""
        response = self.request(method, path, body, **params)
        if response.status_code >= 400:
            raise Refused(response)
        assert response.status_code != 202, (
            f"not done within {WAIT} s: {response.text[:500]}\n{self.thread.doing()}"
        )
        return response.json() if response.content else None

    def create(self, plural: str, **fields: Any) -> dict[str, Any]:
        return dict(self.call("POST", f"/{plural}", fields))

    def get(self, plural: str, uuid: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/{plural}/{uuid}"))

    def list(self, plural: str, *q: str, **params: Any) -> list[dict[str, Any]]:
        """The items of one page (limit 1000) that meet the conditions."""
        return list(self.call("GET", f"/{plural}", None, **({"limit": 1000, "q": list(q)} | params))["items"])

    def update(self, plural: str, uuid: str, **fields: Any) -> dict[str, Any]:
        return dict(self.call("PATCH", f"/{plural}/{uuid}", fields))

    def delete(self, plural: str, uuid: str, *, force: bool = False) -> None:
        self.call("DELETE", f"/{plural}/{uuid}", None, **({"force": "true"} if force else {}))

    def act(self, plural: str, uuid: str, action: str, **fields: Any) -> dict[str, Any]:
        return dict(self.call("POST", f"/{plural}/{uuid}/actions/{action}", fields))

    def gone(self, plural: str, uuid: str) -> bool:
        return self.request("GET", f"/{plural}/{uuid}").status_code == 404

    def until(self, condition: Callable[[], object], seconds: float = WAIT) -> None:
        """Returns once ``condition()`` is true, asking again and again. Fails after ``seconds``."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (
                f"not so within {seconds:g} s: {inspect.getsource(condition).strip()}"
            )
            time.sleep(POLL)

    def login(self, account: str, password: str, **more: Any) -> Cloud:
        """The cloud as this account (or its user) sees it."""
        session = self.call("POST", "/sessions", {"account": account, "password": password, **more})
        return self.as_(session["token"])

    def tenant(self, name: str = "tenant") -> Cloud:
        """A fresh account of a tenant."""
        self.create("accounts", name=name, password="correct horse battery")
        return self.login(name, "correct horse battery")
