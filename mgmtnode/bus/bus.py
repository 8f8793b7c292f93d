"""The bus of one node: every message between services goes through it, to this node or to another one."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from mgmtnode.bus.calls import Calls
from mgmtnode.bus.context import CallContext, current
from mgmtnode.bus.dispatch import Dispatcher
from mgmtnode.bus.envelope import Envelope, HintBody, Kind, encode, unpack
from mgmtnode.bus.figures import show
from mgmtnode.bus.inbox import MAX_HOPS, Inbox
from mgmtnode.bus.message import Event, Message, type_name
from mgmtnode.bus.outgoing import Outgoing
from mgmtnode.bus.probe import Probe
from mgmtnode.bus.routing import HERE, Router, Target
from mgmtnode.bus.subscriptions import Subscriptions
from mgmtnode.bus.transport import Transport
from mgmtnode.errors import OVERLOADED, TIMEOUT, UNAVAILABLE, ApiError
from mgmtnode.ports import Clock, Rng
from mgmtnode.ring.slots import Slots, slot_of
from mgmtnode.tasks.serial import Level, SerialQueues
from mgmtnode.telemetry.families import BUS_CALL_SECONDS
from mgmtnode.telemetry.metrics import Metrics
from mgmtnode.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

R = TypeVar("R")
M = TypeVar("M", bound=Message[Any])
E = TypeVar("E", bound=Event)
Hinted = Callable[[int, str, str], None]

LOCAL, REMOTE = "local", "remote"
LEAST = 0.001
MAX_SENDS = 20_000
STOP_SECONDS = 6.0  # a statement of the database that a subscriber waits for may take five
SAMPLES = 10
SAMPLE_BYTES = 500


class Bus:
    """``call`` asks and waits, ``send`` does not wait, ``publish`` tells everybody.

    A message goes to the node that its class's route says, as the slots stand; to this node itself without
    being serialised, in the calling task. Handlers, subscribers and ``start`` come before the first message.
    """

    def __init__(
        self,
        name: str,
        slots: Slots,
        transport: Transport,
        *,
        clock: Clock,
        rng: Rng,
        queues: SerialQueues | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.name, self.slots, self.transport = name, slots, transport
        telemetry = telemetry or Telemetry(clock)
        self.queues = SerialQueues(clock) if queues is None else queues
        self.counts: Counter[str] = Counter()
        self.undecodable: deque[bytes] = deque(maxlen=SAMPLES)
        self._clock = clock
        self._router = Router(name, slots)
        self._dispatcher = Dispatcher(clock, self.queues)
        self._subscriptions = Subscriptions(self._dispatcher)
        self._outgoing = Outgoing(transport)
        self._asking = telemetry.operation(
            "call", ("message", "where"), family=BUS_CALL_SECONDS, logger=log, kind="client"
        )
        self._inbox = Inbox(
            clock, self._router, self._outgoing, self._dispatcher,
            address=transport.address, telemetry=telemetry,
        )  # fmt: skip
        self._calls = Calls(
            clock,
            self._router,
            self._outgoing,
            origin=f"{rng.bits(48):012x}.",
            address=transport.address,
            invoke=self._dispatcher.invoke,
        )
        self._hinted: Hinted | None = None
        self._probe = Probe(clock, transport, self._outgoing, self.counts)
        self._sends: dict[asyncio.Task[None], None] = {}  # in order, so that a simulation can repeat it
        slots.on_change(self._calls.slots_changed)
        self._show(telemetry.metrics)

    def _show(self, metrics: Metrics) -> None:
        show(
            metrics, self.transport, self.queues, pending=self._calls, serving=self._inbox,
            incidents=self.incidents, subscriptions=self._subscriptions,
        )  # fmt: skip

    # Who listens.

    def handle(
        self,
        message_type: type[M],
        fn: Callable[[M], Awaitable[Any]],
        *,
        serial: str = "",
        level: Level = 1,
    ) -> None:
        """``fn`` answers messages of this type. ``serial`` is a template over its fields; at most ``level``
        (a number, or asked with each message) with one key run at once. Raises ValueError for a second
        handler."""
        self._dispatcher.register(message_type, fn, serial, level)
        self._inbox.register(message_type)

    def subscribe(self, event_type: type[E], fn: Callable[[E], Awaitable[None]]) -> None:
        """``fn`` hears events of this type (and of its subclasses) of all nodes: at most once each, those
        about one resource in order. ``Event`` itself hears all that are declared."""
        self._subscriptions.subscribe(event_type, fn)

    def listen(self, event_type: type[E], fn: Callable[[E], None]) -> None:
        """As ``subscribe``, for what is short and waits for nothing: ``fn`` is called as the event comes."""
        self._subscriptions.listen(event_type, fn)

    def declare(self, event_types: Iterable[type[Event]]) -> None:
        """Event types that may come from other nodes, for subscribers to a base class."""
        self._subscriptions.declare(event_types)

    def on_remote_event(self, fn: Callable[[], None]) -> None:
        """``fn()`` is called when another node tells of any event, known here or not. It must not raise, and must be
        quick: this spares reading events of which only matters that they are there."""
        self._subscriptions.woken.append(fn)

    def on_hint(self, fn: Hinted) -> None:
        """``fn(seq, job_uuid, resource_uuid)`` hears that a job waits in a slot of this node. It must not
        raise."""
        self._hinted = fn

    # Saying something.

    async def call(self, msg: Message[R], timeout: float | None = None) -> R:
        """Asks and waits. The deadline is the earliest of the caller's own, ``timeout`` (seconds) and the
        message type's. Raises ApiError only: the handler's, or ``core.timeout``, ``core.unavailable``,
        ``core.overloaded``, ``core.no-handler``, ``core.reentry``. On this node the handler runs in the
        calling task: cancelling the caller cancels it."""
        kind = self._router.kind(type(msg))
        inherited = current.get().deadline
        now = self._clock.monotonic()
        deadline = now + (kind.timeout if timeout is None or timeout > kind.timeout else timeout)
        if inherited is not None and inherited < deadline:
            deadline = inherited
        if deadline - now <= LEAST:
            raise TIMEOUT.error(f"no time is left to call {kind.name}")
        target = self._router.target(kind, msg)
        answer: R
        with self._asking(kind.name, LOCAL if target is HERE else REMOTE):
            if target is HERE:
                answer = await self._dispatcher.invoke(msg, deadline, current.get())
            else:
                answer = await self._calls.ask(msg, kind, target, deadline=deadline, context=current.get())
        return answer

    async def call_many(self, msgs: Sequence[Message[R]], parallel: int = 10) -> list[R | ApiError]:
        """Asks all, at most ``parallel`` at once; answers or errors in the order of ``msgs``."""
        answers: list[R | ApiError] = [UNAVAILABLE.error("not asked")] * len(msgs)
        work = iter(enumerate(msgs))

        async def ask_in_turn() -> None:
            for index, msg in work:
                try:
                    answer: R = await self.call(msg)
                    answers[index] = answer
                except ApiError as exc:
                    answers[index] = exc

        async with asyncio.TaskGroup() as group:
            for _ in range(min(max(1, parallel), len(msgs))):
                group.create_task(ask_in_turn())
        return answers

    def send(self, msg: Message[Any]) -> None:
        """Asks without waiting: it may be lost, and how it ends is only logged. Raises
        ``core.overloaded``."""
        context = current.get()
        target = self._router.target(self._router.kind(type(msg)), msg)
        if target is HERE:
            self._send_here(msg, context)
        else:
            self._send_away(msg, target, context)

    def _send_here(self, msg: Message[Any], context: CallContext) -> None:
        if len(self._sends) >= MAX_SENDS:
            raise OVERLOADED.error(f"{MAX_SENDS} sent messages are at work already", retry_after=1.0)
        # Nobody waits for it, so it has neither the sender's deadline nor the keys its callers hold.
        own = CallContext(None, (), context.trace, context.work, None, context.span)
        task = asyncio.get_running_loop().create_task(self._run_sent(msg, own))
        self._sends[task] = None
        task.add_done_callback(self._sends.pop)

    async def _run_sent(self, msg: Message[Any], context: CallContext) -> None:
        deadline = self._clock.monotonic() + self._router.kind(type(msg)).timeout
        try:
            await self._dispatcher.invoke(msg, deadline, context)
        except ApiError as exc:
            log.warning("%s, sent here: %s", type_name(type(msg)), exc)

    def _send_away(self, msg: Message[Any], target: Target, context: CallContext) -> None:
        body = msgspec.Raw(msgspec.json.encode(msg))
        envelope = self._new(Kind.SEND, type_name(type(msg)), target, body)
        envelope.trace, envelope.span = context.trace or envelope.id, context.span
        envelope.work = context.work
        self._route(envelope)

    def publish(self, event: Event) -> None:
        """Tells the subscribers on this node, then those on all others. Never raises: an event that cannot be
        sent is counted and lost (who must not miss one reads the event log)."""
        self._subscriptions.hear(event)
        body = msgspec.Raw(msgspec.json.encode(event))
        try:
            envelope = encode(self._new(Kind.EVENT, type_name(type(event)), HERE, body))
            self._outgoing.tell_all(envelope, prompt=event.prompt)
        except ApiError as exc:
            self.counts["events_unsent"] += 1
            log.warning("event %s did not go out: %s", type_name(type(event)), exc)

    def hint(self, seq: int, job_uuid: str, resource_uuid: str) -> None:
        """Tells the owner of the resource's slot that a job waits. May be lost: the sweep finds it too."""
        slot = slot_of(resource_uuid)
        if self.slots.owner(slot) == self.name:
            self._hear_hint(seq, job_uuid, resource_uuid)
            return
        hint = HintBody(seq=seq, job_uuid=job_uuid, resource_uuid=resource_uuid)
        try:
            self._route(self._new(Kind.HINT, "", Target(slot=slot), msgspec.Raw(msgspec.json.encode(hint))))
        except ApiError:
            self.counts["hints_unsent"] += 1

    def _hear_hint(self, seq: int, job_uuid: str, resource_uuid: str) -> None:
        if self._hinted is not None:
            self._hinted(seq, job_uuid, resource_uuid)

    def _new(self, kind: Kind, name: str, target: Target, body: msgspec.Raw) -> Envelope:
        return Envelope(
            id=self._calls.next_id(),
            kind=kind,
            type=name,
            slot=target.slot,
            node=target.node,
            reply_to=self.transport.address,
            body=body,
        )

    def _route(self, envelope: Envelope) -> None:
        address = self._router.address(Target(envelope.slot, envelope.node))
        if address is None:
            self.counts["undeliverable"] += 1
        else:
            self._outgoing.send(address, encode(envelope))

    # What the transport reports.

    def on_batch(self, batch: bytes) -> None:
        envelopes, bad = unpack(batch)
        for envelope in envelopes:
            self._take(envelope)
        for part in bad:
            self.counts["undecodable"] += 1
            self.undecodable.append(part[:SAMPLE_BYTES])

    def _take(self, envelope: Envelope) -> None:
        match envelope.kind:
            case Kind.REPLY:
                self._calls.resolve(envelope)
            case Kind.CALL | Kind.SEND:
                self._inbox.accept(envelope)
            case Kind.EVENT:
                if envelope.reply_to != self.transport.address:
                    self._subscriptions.hear_remote(envelope.type, envelope.body)
            case Kind.HINT:
                self._take_hint(envelope)
            case Kind.PROBE:
                self._probe.heard()

    def _take_hint(self, envelope: Envelope) -> None:
        if envelope.slot is None or self.slots.owner(envelope.slot) != self.name:
            self._reroute(envelope)
            return
        try:
            hint = msgspec.json.decode(envelope.body, type=HintBody)
        except msgspec.DecodeError:
            self.counts["undecodable"] += 1
            return
        self._hear_hint(hint.seq, hint.job_uuid, hint.resource_uuid)

    def on_undeliverable(self, destination: str, batch: bytes) -> None:
        for envelope in unpack(batch)[0]:
            self.counts["returned"] += 1
            if envelope.kind is Kind.CALL and envelope.reply_to == self.transport.address:
                self._calls.returned(envelope.id, destination)
            elif envelope.kind in (Kind.SEND, Kind.HINT):
                self._reroute(envelope, destination)
            elif envelope.kind is Kind.CALL:
                self._inbox.accept(envelope)

    def _reroute(self, envelope: Envelope, left: str = "") -> None:
        """A send or a hint that found its destination gone, or no longer the owner: tried a second time, then
        lost."""
        target = Target(envelope.slot, envelope.node)
        if self._router.is_here(target):
            self._take(envelope)
            return
        address = self._router.address(target)
        if address is None or address == left or envelope.hops >= MAX_HOPS:
            self.counts["undeliverable"] += 1
            return
        envelope.hops += 1
        try:
            self._outgoing.send(address, encode(envelope))
        except ApiError:
            self.counts["undeliverable"] += 1

    def on_reconnected(self) -> None:
        self._calls.reconnected()

    # Life.

    async def start(self) -> None:
        await self.transport.start(self)

    async def probe(self) -> None:
        """To be called every other second, see Probe."""
        self._probe.send(self._calls.next_id())

    @property
    def trouble(self) -> str | None:
        """What keeps this node from hearing and reaching the others, in words."""
        return self._probe.trouble

    async def drain(self, timeout: float) -> bool:
        """Waits until no handler runs and no call waits, at most ``timeout`` seconds; whether it came to
        that."""
        try:
            async with asyncio.timeout(timeout):
                while self._inbox or self._sends or self._dispatcher.snapshot():
                    await self._dispatcher.idle()
                    await asyncio.sleep(0)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Cancels what still runs, fails what still waits, and leaves the transport."""
        self._inbox.cancel()
        ending = self._subscriptions.cancel()
        for task in self._sends:
            task.cancel()
        self._calls.fail_all(UNAVAILABLE.error(f"the management node {self.name} stops"))
        await asyncio.wait(
            [*ending, *self._sends, asyncio.ensure_future(asyncio.sleep(0))], timeout=STOP_SECONDS
        )
        self._outgoing.flush()
        await self.transport.stop()

    def snapshot(self) -> dict[str, Any]:
        """What is going on, for operators: JSON-encodable by msgspec."""
        return {
            "node": self.name,
            "healthy": self.transport.healthy,
            "pending": self._calls.snapshot(),
            "running": self._dispatcher.snapshot(),
            "queues": self.queues.snapshot(),
            "subscriptions": self._subscriptions.snapshot(),
            "serving": len(self._inbox),
            "counts": self.incidents(),
        }

    def incidents(self) -> dict[str, int]:
        """How often an envelope went another way than straight there, by what happened to it."""
        return dict(self.counts + self._inbox.counts) | {"late_replies": self._calls.late}
