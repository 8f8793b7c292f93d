"""The blocking client: ``Client``, its collections and job handles. One thread at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import msgspec

from mgmtnode.client import operations as ops
from mgmtnode.client.core import ClientCore, JobCore
from mgmtnode.client.exchange import Exchange, Lost, Pause, Reply, Request
from mgmtnode.client.operations import Accepted, Conditions, Listing, Options, Page, Progress
from mgmtnode.client.records import JobState, Record
from mgmtnode.client.sse import Event, Feed

if TYPE_CHECKING:
    from mgmtnode.client.transport import Transport

T = TypeVar("T")


class Job(JobCore):
    def __init__(self, client: Client, accepted: Accepted) -> None:
        super().__init__(accepted)
        self._client = client

    def refresh(self) -> JobState | None:
        if self.open:
            self.state = self._client.run(self._client.job_calls.get(self.open["uuid"]))
        return self.state

    def wait(self, timeout: float | None = None, on_progress: Progress | None = None) -> JobState | None:
        """Until the job ended, well or not; raises StillRunning after ``timeout`` seconds."""
        if self.state:
            self.state = self._client.run(self._client.job_calls.wait(self.state, timeout, on_progress))
        return self.state

    def result(self, timeout: float | None = None, on_progress: Progress | None = None) -> Any:
        """Waits, then what the job made or changed, as a Record; its failure is raised as a ProblemError."""
        state = self.wait(timeout, on_progress)
        if state is None:
            return self.accepted.result
        return self._client.run(self._client.job_calls.result(self.accepted, state))

    def cancel(self) -> JobState | None:
        """Asks it to stop and undo; it may still end well, so wait for it."""
        if self.open:
            self.state = self._client.run(self._client.job_calls.cancel(self.open["uuid"]))
        return self.state


class Collection:
    """All resources of one kind. Fields are keywords, or a mapping where a name clashes with an option."""

    def __init__(self, client: Client, plural: str) -> None:
        self._client, self._calls = client, ops.Resources(client.caller, plural)

    def create(
        self, body: Mapping[str, Any] | None = None, /, *, dry_run: bool = False, wait: float = 0.0,
        idempotency_key: str | None = None, **fields: Any,
    ) -> Job:  # fmt: skip
        """``wait``: seconds the server may hold its answer back, which saves a round trip for quick jobs."""
        options = Options(dry_run, wait, None, idempotency_key)
        return self._job(self._calls.create({**(body or {}), **fields}, options))

    def update(
        self, key: str, body: Mapping[str, Any] | None = None, /, *, dry_run: bool = False, wait: float = 0.0,
        if_match: str | None = None, idempotency_key: str | None = None, **fields: Any,
    ) -> Job:  # fmt: skip
        """A merge patch: fields that are absent stay, a field that is None is cleared."""
        options = Options(dry_run, wait, if_match, idempotency_key)
        return self._job(self._calls.update(key, {**(body or {}), **fields}, options))

    def delete(
        self, key: str, *, force: bool = False, dry_run: bool = False, wait: float = 0.0,
        idempotency_key: str | None = None,
    ) -> Job:  # fmt: skip
        return self._job(self._calls.delete(key, force, Options(dry_run, wait, None, idempotency_key)))

    def action(
        self, name: str, key: str, body: Mapping[str, Any] | None = None, /, *, dry_run: bool = False,
        wait: float = 0.0, idempotency_key: str | None = None, **fields: Any,
    ) -> Job:  # fmt: skip
        """``client.vms.action("stop", uuid)``."""
        options = Options(dry_run, wait, None, idempotency_key)
        return self._job(self._calls.action(key, name, {**(body or {}), **fields}, options))

    @overload
    def get(self, key: str) -> Record: ...
    @overload
    def get(self, key: str, into: type[T]) -> T: ...
    def get(self, key: str, into: type[T] | None = None) -> Record | T:
        """``into``: an inventory of ``mgmtnode.contracts`` (or any msgspec type) instead of a Record."""
        record = self._client.run(self._calls.get(key))
        return record if into is None else msgspec.convert(record, into)

    def find(self, name: str) -> Record:
        """The one resource with this name; raises NotFound, or StateConflict with the candidates."""
        return self._client.run(self._calls.find(name))

    def list(
        self, q: Conditions = (), *, sort: str | None = None, fields: Iterable[str] | None = None,
        limit: int | None = None, page_size: int = ops.PAGE,
    ) -> Iterator[Record]:  # fmt: skip
        """All that match, read page by page as they are consumed; ``limit`` bounds how many."""
        listing, cursor, seen = Listing(q, sort, fields, limit, page_size), None, 0
        while limit is None or seen < limit:
            page = self.page(listing, cursor, seen)
            yield from page.items
            seen, cursor = seen + len(page.items), page.next_cursor
            if cursor is None:
                return

    def page(self, listing: Listing, cursor: str | None = None, seen: int = 0) -> Page:
        """One page; ``seen`` items of ``listing.limit`` came before. For callers that keep the cursor."""
        return self._client.run(self._calls.page(listing, cursor, seen))

    def count(self, q: Conditions = ()) -> int:
        return self._client.run(self._calls.count(q))

    def _job(self, exchange: Exchange[Accepted]) -> Job:
        return Job(self._client, self._client.run(exchange))


class Client(ClientCore[Collection]):
    __doc__ = ClientCore.__doc__
    _transport: Transport | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def collection(self, plural: str) -> Collection:
        return Collection(self, plural)

    def submit(self, message: ops.ApiMessage, *, dry_run: bool = False, wait: float = 0.0) -> Job:
        """Sends an API message of ``mgmtnode.contracts``: ``client.submit(CreateZone(name="west"))``."""
        return Job(self, self.run(ops.submit(self.caller, message, Options(dry_run, wait))))

    def call(self, message: ops.ApiMessage) -> Any:
        """The answer to a message that is no job: ``client.call(GetCapacity())``."""
        return self.run(ops.submit(self.caller, message, Options())).result

    def job(self, uuid: str) -> Job:
        return Job(self, Accepted(self.run(self.job_calls.get(uuid))))

    def jobs(
        self, q: Conditions = (), *, sort: str | None = None, limit: int | None = None
    ) -> Iterator[JobState]:
        return (JobState(item) for item in self.collection("jobs").list(q, sort=sort, limit=limit))

    def login(self, account: str, password: str, user: str | None = None) -> Record:
        """Opens a session and uses its token from now on."""
        return self.run(ops.login(self.caller, account, password, user))

    def request(
        self, method: str, path: str, *, params: Iterable[tuple[str, str]] = (), body: Any = None
    ) -> Reply:
        """Any request; retries and problems as everywhere."""
        return self.run(self.caller.call(Request(method.upper(), path, tuple(params), body)))

    def events(
        self,
        *,
        last_event_id: str | None = None,
        reconnect: bool = True,
        params: Mapping[str, str] | None = None,
    ) -> Iterator[Event]:
        """Events as they happen, those after ``last_event_id`` first; reconnects where it left off."""
        feed = Feed(self.caller, params, last_event_id)
        pause: float | None = 0.0
        while pause is not None:
            time.sleep(pause)
            for item in self.transport.stream(feed.open()):
                yield from feed.take(item)
            pause = feed.next(reconnect)

    @property
    def transport(self) -> Transport:
        if self._transport is None:
            from mgmtnode.client.transport import Transport

            self._transport = Transport(self.caller.urls, self.ca_file, self.observer)
        return self._transport

    def run(self, exchange: Exchange[T]) -> T:
        """Performs an exchange: the loop that the async client has with ``await``."""
        answer: Reply | Lost | None = None
        while True:
            try:
                step = exchange.send(answer)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                answer = None
            else:
                answer = self.transport.send(step)
