"""The asyncio client: ``AsyncClient``, its collections and job handles: ``sync`` with ``await``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import msgspec

from mgmtnode.client import operations as ops
from mgmtnode.client.core import ClientCore, JobCore
from mgmtnode.client.exchange import Exchange, Lost, Pause, Reply, Request
from mgmtnode.client.operations import Accepted, Conditions, Listing, Options, Page, Progress
from mgmtnode.client.records import JobState, Record
from mgmtnode.client.sse import Event, Feed

if TYPE_CHECKING:
    from mgmtnode.client.transport import AsyncTransport

T = TypeVar("T")


class AsyncJob(JobCore):
    def __init__(self, client: AsyncClient, accepted: Accepted) -> None:
        super().__init__(accepted)
        self._client = client

    async def refresh(self) -> JobState | None:
        if self.open:
            self.state = await self._client.run(self._client.job_calls.get(self.open["uuid"]))
        return self.state

    async def wait(
        self, timeout: float | None = None, on_progress: Progress | None = None
    ) -> JobState | None:
        """Until the job ended, well or not; raises StillRunning after ``timeout`` seconds."""
        if self.state:
            self.state = await self._client.run(self._client.job_calls.wait(self.state, timeout, on_progress))
        return self.state

    async def result(self, timeout: float | None = None, on_progress: Progress | None = None) -> Any:
        """Waits, then what the job made or changed, as a Record; its failure is raised as a ProblemError."""
        state = await self.wait(timeout, on_progress)
        if state is None:
            return self.accepted.result
        return await self._client.run(self._client.job_calls.result(self.accepted, state))

    async def cancel(self) -> JobState | None:
        """Asks it to stop and undo; it may still end well, so wait for it."""
        if self.open:
            self.state = await self._client.run(self._client.job_calls.cancel(self.open["uuid"]))
        return self.state


class AsyncCollection:
    """All resources of one kind. Fields are keywords, or a mapping where a name clashes with an option."""

    def __init__(self, client: AsyncClient, plural: str) -> None:
        self._client, self._calls = client, ops.Resources(client.caller, plural)

    async def create(
        self, body: Mapping[str, Any] | None = None, /, *, dry_run: bool = False, wait: float = 0.0,
        idempotency_key: str | None = None, **fields: Any,
    ) -> AsyncJob:  # fmt: skip
        """``wait``: seconds the server may hold its answer back, which saves a round trip for quick jobs."""
        options = Options(dry_run, wait, None, idempotency_key)
        return await self._job(self._calls.create({**(body or {}), **fields}, options))

    async def update(
        self, key: str, body: Mapping[str, Any] | None = None, /, *, dry_run: bool = False, wait: float = 0.0,
        if_match: str | None = None, idempotency_key: str | None = None, **fields: Any,
    ) -> AsyncJob:  # fmt: skip
        """A merge patch: fields that are absent stay, a field that is None is cleared."""
        options = Options(dry_run, wait, if_match, idempotency_key)
        return await self._job(self._calls.update(key, {**(body or {}), **fields}, options))

    async def delete(
        self, key: str, *, force: bool = False, dry_run: bool = False, wait: float = 0.0,
        idempotency_key: str | None = None,
    ) -> AsyncJob:  # fmt: skip
        return await self._job(self._calls.delete(key, force, Options(dry_run, wait, None, idempotency_key)))

    async def action(
        self, name: str, key: str, body: Mapping[str, Any] | None = None, /, *, dry_run: bool = False,
        wait: float = 0.0, idempotency_key: str | None = None, **fields: Any,
    ) -> AsyncJob:  # fmt: skip
        """``await client.vms.action("stop", uuid)``."""
        options = Options(dry_run, wait, None, idempotency_key)
        return await self._job(self._calls.action(key, name, {**(body or {}), **fields}, options))

    @overload
    async def get(self, key: str) -> Record: ...
    @overload
    async def get(self, key: str, into: type[T]) -> T: ...
    async def get(self, key: str, into: type[T] | None = None) -> Record | T:
        """``into``: an inventory of ``mgmtnode.contracts`` (or any msgspec type) instead of a Record."""
        record = await self._client.run(self._calls.get(key))
        return record if into is None else msgspec.convert(record, into)

    async def find(self, name: str) -> Record:
        """The one resource with this name; raises NotFound, or StateConflict with the candidates."""
        return await self._client.run(self._calls.find(name))

    async def list(
        self, q: Conditions = (), *, sort: str | None = None, fields: Iterable[str] | None = None,
        limit: int | None = None, page_size: int = ops.PAGE,
    ) -> AsyncIterator[Record]:  # fmt: skip
        """All that match, read page by page as they are consumed; ``limit`` bounds how many."""
        listing, cursor, seen = Listing(q, sort, fields, limit, page_size), None, 0
        while limit is None or seen < limit:
            page = await self.page(listing, cursor, seen)
            for item in page.items:
                yield item
            seen, cursor = seen + len(page.items), page.next_cursor
            if cursor is None:
                return

    async def page(self, listing: Listing, cursor: str | None = None, seen: int = 0) -> Page:
        """One page; ``seen`` items of ``listing.limit`` came before. For callers that keep the cursor."""
        return await self._client.run(self._calls.page(listing, cursor, seen))

    async def count(self, q: Conditions = ()) -> int:
        return await self._client.run(self._calls.count(q))

    async def _job(self, exchange: Exchange[Accepted]) -> AsyncJob:
        return AsyncJob(self._client, await self._client.run(exchange))


class AsyncClient(ClientCore[AsyncCollection]):
    __doc__ = ClientCore.__doc__
    _transport: AsyncTransport | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.close()

    def collection(self, plural: str) -> AsyncCollection:
        return AsyncCollection(self, plural)

    async def submit(self, message: ops.ApiMessage, *, dry_run: bool = False, wait: float = 0.0) -> AsyncJob:
        """Sends a message of ``mgmtnode.contracts``: ``await client.submit(CreateZone(name="west"))``."""
        return AsyncJob(self, await self.run(ops.submit(self.caller, message, Options(dry_run, wait))))

    async def call(self, message: ops.ApiMessage) -> Any:
        """The answer to a message that is no job: ``await client.call(GetCapacity())``."""
        return (await self.run(ops.submit(self.caller, message, Options()))).result

    async def job(self, uuid: str) -> AsyncJob:
        return AsyncJob(self, Accepted(await self.run(self.job_calls.get(uuid))))

    async def jobs(
        self, q: Conditions = (), *, sort: str | None = None, limit: int | None = None
    ) -> AsyncIterator[JobState]:
        async for item in self.collection("jobs").list(q, sort=sort, limit=limit):
            yield JobState(item)

    async def login(self, account: str, password: str, user: str | None = None) -> Record:
        """Opens a session and uses its token from now on."""
        return await self.run(ops.login(self.caller, account, password, user))

    async def request(
        self, method: str, path: str, *, params: Iterable[tuple[str, str]] = (), body: Any = None
    ) -> Reply:
        """Any request; retries and problems as everywhere."""
        return await self.run(self.caller.call(Request(method.upper(), path, tuple(params), body)))

    async def events(
        self,
        *,
        last_event_id: str | None = None,
        reconnect: bool = True,
        params: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Event]:
        """Events as they happen, those after ``last_event_id`` first; reconnects where it left off."""
        feed = Feed(self.caller, params, last_event_id)
        pause: float | None = 0.0
        while pause is not None:
            await asyncio.sleep(pause)
            async with aclosing(self.transport.stream(feed.open())) as stream:
                async for item in stream:
                    for event in feed.take(item):
                        yield event
            pause = feed.next(reconnect)

    @property
    def transport(self) -> AsyncTransport:
        if self._transport is None:
            from mgmtnode.client.transport import AsyncTransport

            self._transport = AsyncTransport(self.caller.urls, self.ca_file, self.observer)
        return self._transport

    async def run(self, exchange: Exchange[T]) -> T:
        """Performs an exchange: the loop that the sync client has without ``await``."""
        answer: Reply | Lost | None = None
        while True:
            try:
                step = exchange.send(answer)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                answer = None
            else:
                answer = await self.transport.send(step)
