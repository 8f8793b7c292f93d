"""Calls to other nodes that wait for their reply."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from mgmtnode.bus.context import CallContext
from mgmtnode.bus.envelope import Envelope, Kind, encode
from mgmtnode.bus.message import Message
from mgmtnode.bus.outgoing import Outgoing
from mgmtnode.bus.routing import MessageKind, Router, Target
from mgmtnode.errors import INTERNAL, OVERLOADED, TIMEOUT, UNAVAILABLE, ApiError, Category, ErrorCode
from mgmtnode.ports import Clock

MAX_PENDING = 50_000
FIRST_RETRY, LAST_RETRY = 0.05, 1.0
REMIND_SECONDS, LONGEST_SILENCE = 2.0, 30.0

NOT_HERE = ErrorCode(
    "bus.not-here", Category.UNAVAILABLE, "the slot moves between nodes; the caller asks again"
)

Invoke = Callable[[Message[Any], float, CallContext], Awaitable[Any]]


class Pending:
    """One call. ``destination`` is None while it is parked: nobody owns the slot, or its owner has just
    left."""

    __slots__ = (
        "attempts", "context", "deadline", "destination", "future", "here", "id", "kind", "msg", "remind_at",
        "retry", "since", "target",
    )  # fmt: skip

    def __init__(self, id: str, msg: Message[Any], kind: MessageKind, target: Target) -> None:
        self.id, self.msg, self.kind, self.target = id, msg, kind, target
        self.deadline = self.since = self.remind_at = 0.0
        self.context = CallContext()
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.destination: str | None = None
        self.here: asyncio.Task[None] | None = None
        self.retry: asyncio.TimerHandle | None = None
        self.attempts = 0

    def fail(self, error: ApiError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(frozen=True, slots=True)
class PendingState:
    message: str
    destination: str | None
    seconds: float
    attempts: int


class Calls:
    """Sends each call to where it belongs, again (with the same id, which the receiver knows) when the
    destination left, the slot moved or the connection was lost, until a reply comes or the deadline
    passes. One that waits for long is repeated now and then all the same: a node that passed it on may have passed
    it to one that had just died."""

    def __init__(
        self, clock: Clock, router: Router, outgoing: Outgoing, *, origin: str, address: str, invoke: Invoke
    ) -> None:
        self._clock, self._router, self._outgoing = clock, router, outgoing
        self._origin, self._address, self._invoke = origin, address, invoke
        self._pending: dict[str, Pending] = {}
        self._reminder: asyncio.TimerHandle | None = None
        self._last = 0
        self.late = 0

    def next_id(self) -> str:
        """Never drawn twice in the cluster."""
        self._last += 1
        return f"{self._origin}{self._last:x}"

    async def ask(
        self, msg: Message[Any], kind: MessageKind, target: Target, *, deadline: float, context: CallContext
    ) -> Any:
        """Raises ApiError: that of the handler, ``core.timeout``, ``core.unavailable`` or
        ``core.overloaded``."""
        if len(self._pending) >= MAX_PENDING:
            raise OVERLOADED.error(f"{MAX_PENDING} calls wait for other nodes already", retry_after=1.0)
        pending = Pending(self.next_id(), msg, kind, target)
        pending.since, pending.deadline, pending.context = self._clock.monotonic(), deadline, context
        pending.remind_at = pending.since + REMIND_SECONDS
        timer = pending.future.get_loop().call_later(deadline - pending.since, self._expire, pending)
        self._pending[pending.id] = pending
        self._remind_later()
        try:
            self._place(pending)
            return await pending.future
        finally:
            del self._pending[pending.id]
            timer.cancel()
            self._rest(pending)

    def _place(self, pending: Pending) -> None:
        if self._router.is_here(pending.target):
            self._run_here(pending)
            return
        address = self._router.address(pending.target)
        if address is not None:
            pending.destination = address
            self._outgoing.send(address, encode(self._envelope(pending)))
        elif pending.target.node is not None:
            raise UNAVAILABLE.error(f"there is no management node {pending.target.node!r}")
        else:
            self._park(pending)

    def _envelope(self, pending: Pending) -> Envelope:
        left = pending.deadline - self._clock.monotonic()
        return Envelope(
            id=pending.id,
            kind=Kind.CALL,
            type=pending.kind.name,
            slot=pending.target.slot,
            node=pending.target.node,
            reply_to=self._address,
            remaining_ms=max(0, round(left * 1000)),
            chain=pending.context.chain,
            trace=pending.context.trace or pending.id,
            span=pending.context.span,
            work=pending.context.work,
            body=msgspec.Raw(msgspec.json.encode(pending.msg)),
        )

    def _run_here(self, pending: Pending) -> None:
        """The slot became this node's own while the call was on its way."""
        pending.destination = self._address
        pending.here = pending.future.get_loop().create_task(self._answer_here(pending))

    async def _answer_here(self, pending: Pending) -> None:
        try:
            result = await self._invoke(pending.msg, pending.deadline, pending.context)
        except ApiError as exc:
            pending.fail(exc)
        else:
            if not pending.future.done():
                pending.future.set_result(result)

    def _park(self, pending: Pending) -> None:
        pending.destination = None
        delay = min(LAST_RETRY, FIRST_RETRY * 2 ** min(pending.attempts, 10))
        pending.attempts += 1
        self._stop_retry(pending)
        pending.retry = pending.future.get_loop().call_later(delay, self._again, pending)

    def _again(self, pending: Pending) -> None:
        if pending.future.done() or pending.here is not None:
            return
        self._stop_retry(pending)
        try:
            self._place(pending)
        except ApiError as exc:
            if exc.code == OVERLOADED.id:
                self._park(pending)
            else:
                pending.fail(exc)

    def _remind_later(self) -> None:
        """One timer for all: nearly every call is answered before it rings."""
        if self._reminder is None and self._pending:
            loop = asyncio.get_running_loop()
            self._reminder = loop.call_later(REMIND_SECONDS, self._remind)

    def _remind(self) -> None:
        self._reminder = None
        now = self._clock.monotonic()
        for pending in list(self._pending.values()):
            if pending.destination is not None and pending.here is None and now >= pending.remind_at:
                pending.remind_at = now + min(LONGEST_SILENCE, now - pending.since)
                self._repeat(pending, pending.destination)
        self._remind_later()

    def _repeat(self, pending: Pending, destination: str) -> None:
        """To the same node as before, which knows the id: it runs it, has run it, or passes it on anew."""
        with contextlib.suppress(ApiError):  # too much waits to be sent: the next reminder is soon enough
            self._outgoing.send(destination, encode(self._envelope(pending)))

    def resolve(self, reply: Envelope) -> None:
        """A reply came. The first one counts."""
        pending = self._pending.get(reply.correlation)
        if pending is None or pending.future.done():
            self.late += 1
        elif reply.error is None:
            self._answer(pending, reply)
        elif reply.error.code == NOT_HERE.id:
            self._park(pending)
        else:
            pending.fail(ApiError(reply.error))

    def _answer(self, pending: Pending, reply: Envelope) -> None:
        try:
            pending.future.set_result(pending.kind.decode_reply(reply.body))
        except msgspec.DecodeError as exc:
            pending.fail(INTERNAL.error(f"the reply to {pending.kind.name} is not of its type: {exc}"))

    def returned(self, id: str, destination: str) -> None:
        """Nobody listens at ``destination``."""
        pending = self._pending.get(id)
        if pending is None or pending.destination != destination:
            return
        if self._router.address(pending.target) != destination:
            self._again(pending)
        elif pending.target.node is not None:
            pending.fail(UNAVAILABLE.error(f"the management node {pending.target.node!r} cannot be reached"))
        else:
            self._park(pending)

    def slots_changed(self) -> None:
        """Calls to nodes that left, and those that wait for an owner, go to the new one. A slot that merely
        moved is left alone: its old owner is there, and answers or passes on."""
        reachable = self._router.addresses()
        for pending in list(self._pending.values()):
            if pending.destination not in reachable:
                self._again(pending)

    def reconnected(self) -> None:
        """Whatever was on its way may be lost."""
        for pending in list(self._pending.values()):
            self._again(pending)

    def _expire(self, pending: Pending) -> None:
        who = self._router.node(pending.target)
        if pending.destination is None:
            where = f"its owner {who} cannot be reached" if who else f"nobody owns slot {pending.target.slot}"
            pending.fail(UNAVAILABLE.error(f"{pending.kind.name}: {where}", retry_after=1.0))
        else:
            pending.fail(TIMEOUT.error(f"{pending.kind.name}: no reply from node {who} within the deadline"))

    def _rest(self, pending: Pending) -> None:
        self._stop_retry(pending)
        if pending.here is not None:
            pending.here.cancel()

    def _stop_retry(self, pending: Pending) -> None:
        if pending.retry is not None:
            pending.retry.cancel()
            pending.retry = None

    def fail_all(self, error: ApiError) -> None:
        if self._reminder is not None:
            self._reminder.cancel()
            self._reminder = None
        for pending in list(self._pending.values()):
            pending.fail(error)

    def __len__(self) -> int:
        return len(self._pending)

    def snapshot(self) -> list[PendingState]:
        now = self._clock.monotonic()
        return [
            PendingState(p.kind.name, p.destination, now - p.since, p.attempts)
            for p in self._pending.values()
        ]
