"""Many clients at once, who write down what they were promised: the load under which faults are made."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mgmtnode.client import AsyncClient
from mgmtnode.client.exchange import Lost, Reply, Send

if TYPE_CHECKING:
    from mgmtnode.client.aio import AsyncJob

MIB = 1 << 20
SIZE = {"cpu": 1, "memory": 256 * MIB}
RETRY_SECONDS = 120.0
JOB_SECONDS = 180.0
LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that no client could be content with. ``at``: Unix time; ``seconds``: how long it took."""

    at: float
    request: str
    what: str
    seconds: float


@dataclass
class Book:
    """What clients saw. ``acknowledged``: Idempotency-Key → job; ``ended``: job → state, as it was told them."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why jobs did not succeed."""

    vms: dict[str, str] = field(default_factory=dict)
    attempts: int = 0
    failures: list[Failure] = field(default_factory=list)
    answers: list[tuple[float, float]] = field(default_factory=list)
    """(Unix time, seconds it took) of every acknowledgement of a VM."""

    def observe(self, step: Send, answer: Reply | Lost, seconds: float) -> None:
        self.attempts += 1
        what = answer.reason if isinstance(answer, Lost) else str(answer.status)
        if isinstance(answer, Lost) or answer.status >= 500 or answer.status == 429:
            request = f"{step.request.method} {step.request.path}"
            self.failures.append(Failure(time.time(), request, what, seconds))

    def promised(self, key: str, job: AsyncJob) -> None:
        """Raises AssertionError when one key was answered with two jobs."""
        assert job.uuid is not None, key
        first = self.acknowledged.setdefault(key, job.uuid)
        assert first == job.uuid, f"I6: the key {key} was answered with the jobs {first} and {job.uuid}"

    @property
    def states(self) -> Counter[str]:
        return Counter(self.ended.values())

    def told(self) -> str:
        """One line for people."""
        kinds = Counter(failure.what for failure in self.failures)
        slowest = max((seconds for _, seconds in self.answers), default=0.0)
        return (
            f"{len(self.acknowledged)} jobs acknowledged, {dict(self.states)}; {self.attempts} requests,"
            f" {len(self.failures)} failed {dict(kinds) or ''}; slowest acknowledgement {slowest:.1f} s"
        )


class Load:
    """``clients`` create ``vms`` together, one after the other each, and stop and start every third, both asked for at
    once; with that done, they go on looking at their VMs, until the load is to ``finish``. Every change carries a key,
    and is asked for again with it until there is an answer.

    ``start()`` returns at once; ``finish()`` waits for the end of all that was promised. ``name``: what the VMs and
    keys begin with.
    """

    def __init__(self, url: str, token: str, name: str, *, vms: int = 300, clients: int = 30) -> None:
        self._url, self._token, self._name, self._clients = url, token, name, clients
        self._numbers = iter(range(1, vms + 1))
        self.book = Book()
        self._enough = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"load {name}")

    def start(self) -> Load:
        self._thread.start()
        return self

    def acknowledged(self, count: int, seconds: float = 120.0) -> None:
        """Returns once so many jobs are acknowledged, to begin a fault in the middle of the load."""
        until = time.monotonic() + seconds
        while len(self.book.acknowledged) < count:
            assert self._thread.is_alive(), f"the load ended early: {self._failed or self.book.told()}"
            assert time.monotonic() < until, self.book.told()
            time.sleep(0.02)

    def finish(self, seconds: float = 300.0) -> Book:
        """Raises what a client could not bear: a refusal, or a job that did not end in time."""
        self._enough.set()
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"clients still wait after {seconds:g} s: {self.book.told()}"
        if self._failed is not None:
            raise self._failed
        return self.book

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as exc:  # told by finish(), in the thread that asks
            self._failed = exc

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._clients):
                tasks.create_task(self._client())

    async def _client(self) -> None:
        async with AsyncClient(
            self._url, self._token, retry_for=RETRY_SECONDS, observer=self.book.observe
        ) as client:
            uuid = ""
            for number in self._numbers:
                uuid = await self._vm(client, number)
            while uuid and not self._enough.is_set():
                await client.vms.get(uuid)
                await asyncio.sleep(LOOK_SECONDS)

    async def _vm(self, client: AsyncClient, number: int) -> str:
        name, began = f"{self._name}-{number}", time.monotonic()
        made = await client.vms.create({"name": name, **SIZE}, idempotency_key=f"{name}:create")
        self.book.answers.append((time.time(), time.monotonic() - began))
        self.book.promised(f"{name}:create", made)
        uuid = str(made.resource_uuid)
        self.book.vms[name] = uuid
        if await self._end(made) == "Succeeded" and number % 3 == 0:
            jobs = [await self._act(client, name, uuid, action) for action in ("stop", "start")]
            for job in jobs:
                await self._end(job)
        return uuid

    async def _act(self, client: AsyncClient, name: str, uuid: str, action: str) -> AsyncJob:
        job = await client.vms.action(action, uuid, idempotency_key=f"{name}:{action}")
        self.book.promised(f"{name}:{action}", job)
        return job

    async def _end(self, job: AsyncJob) -> str:
        state = await job.wait(JOB_SECONDS)
        assert state is not None
        self.book.ended[state["uuid"]] = state["state"]
        if state["state"] != "Succeeded":
            error = state["error"] or {}
            self.book.reasons[
                f"{state['api']} {state['state']}: {error.get('code')}: {error.get('message')}"
            ] += 1
        return str(state["state"])
