"""What comes from other nodes: run once, answered once, or passed on to who owns the slot now."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from contextvars import Context
from typing import Any

import msgspec

from mgmtnode.bus.calls import NOT_HERE
from mgmtnode.bus.context import CallContext, current
from mgmtnode.bus.dispatch import Dispatcher
from mgmtnode.bus.envelope import Envelope, Kind, encode
from mgmtnode.bus.message import Message, type_name
from mgmtnode.bus.outgoing import Outgoing
from mgmtnode.bus.routing import MessageKind, Router, Target
from mgmtnode.errors import INTERNAL, INVALID, NO_HANDLER, OVERLOADED, TIMEOUT, ApiError, Problem
from mgmtnode.ports import Clock
from mgmtnode.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

MAX_SERVING = 20_000
MAX_HOPS = 2
MAX_REMEMBERED = 10_000
MAX_REMEMBERED_BYTES = 16 << 20


class Answered:
    """Ids of messages seen, with their replies, the newest ones: a message that comes twice is run once, and
    its reply sent again."""

    def __init__(self) -> None:
        self._running: set[str] = set()
        self._done: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def begin(self, id: str) -> None:
        self._running.add(id)

    def __contains__(self, id: str) -> bool:
        """It runs, or is done."""
        return id in self._running or id in self._done

    def reply(self, id: str) -> bytes:
        """Empty while it runs, or when it has none."""
        return self._done.get(id, b"")

    def end(self, id: str, reply: bytes) -> None:
        self._running.discard(id)
        self._done[id] = reply
        self._bytes += len(reply)
        while len(self._done) > MAX_REMEMBERED or self._bytes > MAX_REMEMBERED_BYTES:
            _, forgotten = self._done.popitem(last=False)
            self._bytes -= len(forgotten)

    def forget(self, id: str) -> None:
        self._running.discard(id)


class Inbox:
    """Serves calls and sends of other nodes, each in a task of its own, at most MAX_SERVING at once."""

    def __init__(
        self,
        clock: Clock,
        router: Router,
        outgoing: Outgoing,
        dispatcher: Dispatcher,
        *,
        address: str,
        telemetry: Telemetry,
    ) -> None:
        self._clock, self._router, self._outgoing = clock, router, outgoing
        self._serving = telemetry.operation("serve", ("message",), logger=log, kind="server")
        self._dispatcher, self._address = dispatcher, address
        self._kinds: dict[str, MessageKind] = {}
        self._answered = Answered()
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.counts: Counter[str] = Counter()

    def register(self, cls: type[Message[Any]]) -> None:
        self._kinds[type_name(cls)] = self._router.kind(cls)

    def accept(self, envelope: Envelope) -> None:
        # Before the slot is looked at: if it moved while the call runs here, the new owner must not run it too.
        if envelope.id in self._answered:
            self._repeat(envelope)
        elif not self._router.is_here(Target(envelope.slot, envelope.node)):
            self._pass_on(envelope)
        elif len(self._tasks) >= MAX_SERVING:
            self.refuse(envelope, OVERLOADED.error("the node serves too many calls", retry_after=1.0))
        else:
            self._answered.begin(envelope.id)
            # The task begins without a call context: it is that of the caller, on another node.
            task = asyncio.get_running_loop().create_task(self._serve(envelope), context=Context())
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)

    def _repeat(self, envelope: Envelope) -> None:
        self.counts["duplicates"] += 1
        if reply := self._answered.reply(envelope.id):
            self._send(envelope.reply_to, reply)

    def _pass_on(self, envelope: Envelope) -> None:
        """Not this node's slot (any more): at most MAX_HOPS nodes try, then a call goes back to its
        caller."""
        address = self._router.address(Target(envelope.slot, envelope.node))
        if envelope.hops < MAX_HOPS and address is not None:
            envelope.hops += 1
            self.counts["forwarded"] += 1
            self._send(address, encode(envelope))
        else:
            self.refuse(envelope, NOT_HERE.error())

    async def _serve(self, envelope: Envelope) -> None:
        error: Problem | None = None
        body = b"null"
        try:
            body = msgspec.json.encode(await self._run(envelope))
        except ApiError as exc:
            error = exc.problem
        except (TypeError, msgspec.EncodeError) as exc:
            error = INTERNAL.error(f"the reply to {envelope.type} cannot be sent: {exc}").problem
        except asyncio.CancelledError:
            self._answered.forget(envelope.id)
            raise
        if envelope.kind is Kind.SEND:
            if error is not None:
                log.warning("%s, sent by %s: %s", envelope.type, envelope.reply_to, error.message)
            self._answered.end(envelope.id, b"")
            return
        reply = self._reply(envelope, body, error)
        self._answered.end(envelope.id, reply)
        self._send(envelope.reply_to, reply)

    async def _run(self, envelope: Envelope) -> Any:
        kind = self._kinds.get(envelope.type)
        if kind is None:
            raise NO_HANDLER.error(f"no service on this node handles {envelope.type}")
        left = kind.timeout if envelope.remaining_ms is None else envelope.remaining_ms / 1000
        if left <= 0:
            raise TIMEOUT.error(f"the deadline of {envelope.type} had passed when it came")
        try:
            msg = kind.decoder.decode(envelope.body)
        except msgspec.DecodeError as exc:
            raise INVALID.error(f"{envelope.type}: {exc}") from exc
        deadline = self._clock.monotonic() + left
        context = CallContext(deadline, envelope.chain, envelope.trace, envelope.work, None, envelope.span)
        current.set(context)  # for what is told of it outside of the handler; the task is this call's alone
        with self._serving(envelope.type):
            return await self._dispatcher.invoke(msg, deadline, current.get())

    def refuse(self, envelope: Envelope, error: ApiError) -> None:
        """Answers without having run it; it may come again."""
        self.counts["refused"] += 1
        if envelope.kind is Kind.CALL:
            self._send(envelope.reply_to, self._reply(envelope, b"null", error.problem))

    def _reply(self, envelope: Envelope, body: bytes, error: Problem | None) -> bytes:
        reply = Envelope(
            id=f"{envelope.id}/r",
            kind=Kind.REPLY,
            type=envelope.type,
            reply_to=self._address,
            correlation=envelope.id,
            body=msgspec.Raw(body),
            error=error,
        )
        try:
            return encode(reply)
        except ApiError as exc:
            log.error("%s", exc)
            return encode(msgspec.structs.replace(reply, body=msgspec.Raw(b"null"), error=exc.problem))

    def _send(self, address: str, data: bytes) -> None:
        try:
            self._outgoing.send(address, data)
        except ApiError:
            self.counts["unsent"] += 1

    def __len__(self) -> int:
        return len(self._tasks)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
