"""Where a message goes: its class says the route once, the slots say which node that is."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from mgmtnode.bus.message import Message, Route, reply_type, type_name
from mgmtnode.bus.transport import address_of
from mgmtnode.ring.slots import Slots, slot_of

DEFAULT_TIMEOUT = 60.0


class MessageKind:
    """What the bus knows of a message class. ``timeout`` is in seconds."""

    __slots__ = ("_reply", "cls", "decoder", "field", "name", "route", "timeout")

    def __init__(self, cls: type[Message[Any]]) -> None:
        route: Route = cls.route
        if route.field and route.field not in cls.__struct_fields__:
            raise ValueError(f"{type_name(cls)} is routed by {route.field!r}, which is none of its fields")
        limit = getattr(cls, "timeout", DEFAULT_TIMEOUT)
        self.cls, self.name = cls, type_name(cls)
        self.route, self.field = route.kind, route.field
        self.timeout = float(limit) if isinstance(limit, int | float) else DEFAULT_TIMEOUT
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(cls)
        self._reply: msgspec.json.Decoder[Any] | None = None

    def decode_reply(self, body: msgspec.Raw) -> Any:
        if self._reply is None:
            self._reply = msgspec.json.Decoder(reply_type(self.cls))
        return self._reply.decode(body)


class Target(NamedTuple):
    """The owner of a slot, a named node, or (neither) this node."""

    slot: int | None = None
    node: str | None = None


HERE = Target()


class Router:
    """Finds the node for a target, as the slots stand now."""

    def __init__(self, me: str, slots: Slots) -> None:
        self._me, self._slots = me, slots
        self._kinds: dict[type, MessageKind] = {}

    def kind(self, cls: type[Message[Any]]) -> MessageKind:
        known = self._kinds.get(cls)
        if known is None:
            known = self._kinds[cls] = MessageKind(cls)
        return known

    def target(self, kind: MessageKind, msg: Message[Any]) -> Target:
        """HERE when the message is for this node, as far as it knows."""
        if kind.route == "local":
            return HERE
        where: str = getattr(msg, kind.field)
        if kind.route == "node":
            return HERE if where == self._me else Target(node=where)
        slot = slot_of(where)
        return HERE if self._slots.owner(slot) == self._me else Target(slot=slot)

    def node(self, target: Target) -> str | None:
        """Its name; None when nobody owns the slot."""
        if target.slot is not None:
            return self._slots.owner(target.slot)
        return target.node or self._me

    def address(self, target: Target) -> str | None:
        """None: there is no such node in the cluster, or nobody owns the slot."""
        node = self.node(target)
        incarnation = None if node is None else self._slots.nodes.get(node)
        return None if node is None or incarnation is None else address_of(node, incarnation)

    def is_here(self, target: Target) -> bool:
        return self.node(target) == self._me

    def addresses(self) -> set[str]:
        """Where the nodes of the cluster listen."""
        return {address_of(name, incarnation) for name, incarnation in self._slots.nodes.items()}
