"""What a client wants, and the clients' common way to get it: with one key, again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mgmtnode.client import AsyncClient, ClientError, ProblemError
from mgmtnode.client.exchange import Lost, Reply, Request, Send
from mgmtnode.errors import Category
from tests.chaos.history import LOST, Answered, Asked, Ended, History, now
from tests.chaos.stage import Account

ATTEMPT_SECONDS = 10.0  # a client gives an attempt up after that
RETRY_SECONDS = 45.0  # and the wish after that; it comes back to it when all works again
KEY = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Wish:
    """A change of the cloud. ``vm``: which it is about, empty if it makes one."""

    key: str
    method: str
    path: str
    body: dict[str, Any] | None = None
    vm: str = ""

    def request(self) -> Request:
        query = (("force", "true"),) if self.method == "DELETE" else ()
        return Request(self.method, self.path, query, self.body, {KEY: self.key})


def create(key: str, name: str, networks: Sequence[str], memory: int) -> Wish:
    body = {"name": name, "cpu": 1, "memory": memory, "l3_network_uuids": list(networks)}
    return Wish(key, "POST", "/v1/vms", body)


def action(key: str, vm: str, name: str, body: dict[str, Any] | None = None) -> Wish:
    return Wish(key, "POST", f"/v1/vms/{vm}/actions/{name}", body or {}, vm)


def delete(key: str, vm: str) -> Wish:
    return Wish(key, "DELETE", f"/v1/vms/{vm}", None, vm)


@dataclass
class Outcome:
    """``job`` as it was accepted, ``refused`` why it was not; neither: nobody knows yet."""

    job: dict[str, Any] | None = None
    refused: str = ""

    @property
    def known(self) -> bool:
        return self.job is not None or bool(self.refused)


@dataclass
class Asker:
    """One client: its account, its way in, and its pen."""

    name: str
    account: Account
    urls: list[str]
    history: History
    rng: Random
    retry_seconds: float = RETRY_SECONDS
    open_wishes: list[Wish] = field(default_factory=list)
    """What no answer settled."""

    def __post_init__(self) -> None:
        self.client = AsyncClient(
            self.urls,
            self.account.token,
            timeout=ATTEMPT_SECONDS,
            retry_for=self.retry_seconds,
            observer=self._observe,
        )

    async def close(self) -> None:
        await self.client.close()

    async def get(self, wish: Wish) -> Outcome:
        """Asks until it is known what became of it. What cannot be found out is kept in ``open_wishes``."""
        self.asked(wish)
        try:
            reply = await self.client.run(self.client.caller.call(wish.request()))
        except ProblemError as problem:
            if problem.category in (Category.UNAVAILABLE, Category.TIMEOUT):
                self.open_wishes.append(wish)
                return Outcome()
            return Outcome(refused=problem.code)
        except ClientError:
            self.open_wishes.append(wish)
            return Outcome()
        return Outcome(job=reply.json())

    async def hang_up(self, wish: Wish) -> None:
        """Sends it and goes away before it is answered."""
        self.asked(wish)
        address = urlsplit(self.rng.choice(self.urls))
        body = b"" if wish.body is None else msgspec.json.encode(wish.body)
        request = wish.request()
        query = "?force=true" if request.query else ""
        head = (
            f"{wish.method} {wish.path}{query} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer {self.account.token}\r\n{KEY}: {wish.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ATTEMPT_SECONDS):
                _, writer = await asyncio.open_connection(address.hostname, address.port)
                writer.write(head.encode() + body)
                await asyncio.sleep(self.rng.choice((0.0, 0.005, 0.05)))
                writer.transport.abort()
        self.history.note(Answered(at=now(), key=wish.key, status=LOST))

    async def end_of(self, job: dict[str, Any], seconds: float) -> str:
        """The state in which a job ended; empty if it did not in that time, or nobody could say."""
        try:
            state = await self.client.run(self.client.job_calls.get(job["uuid"]))
            ended = await self.client.run(self.client.job_calls.wait(state, seconds, None))
        except ClientError:
            return ""
        self.told(ended)
        return str(ended["state"])

    def asked(self, wish: Wish) -> None:
        self.history.note(
            Asked(
                at=now(),
                key=wish.key,
                client=self.name,
                account=self.account.name,
                method=wish.method,
                path=wish.path,
            )
        )

    def told(self, job: dict[str, Any]) -> None:
        code = str((job.get("error") or {}).get("code", ""))
        self.history.note(Ended(at=now(), job=job["uuid"], state=job["state"], code=code))

    def _observe(self, step: Send, answer: Reply | Lost, seconds: float) -> None:
        key = step.headers.get(KEY, f"{step.request.method} {step.request.path}")
        seconds = round(seconds, 3)
        if isinstance(answer, Lost):
            self.history.note(Answered(at=now(), key=key, status=LOST, seconds=seconds, code=answer.reason))
            return
        job = code = ""
        if KEY in step.headers or answer.status >= 400:
            with contextlib.suppress(msgspec.DecodeError, ClientError):
                body = answer.json() or {}
                job = body.get("uuid", "") if answer.status == 202 else ""
                code = body.get("code", "") if answer.status >= 400 else ""
        self.history.note(
            Answered(at=now(), key=key, status=answer.status, seconds=seconds, code=code, job=job)
        )
