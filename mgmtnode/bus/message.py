"""Messages: what services say to each other, and what the API says to them.

Message[R]        base: a typed question; ``bus.call(msg)`` answers an ``R``
  Internal[R]     service to service, over the bus, by the route said once on the class
  InTx[R]         service to service inside the caller's database transaction (``tx.call(msg)``); SQL only
  ApiMessage[R]   from outside; refuses unknown fields
    ApiJob[R]     a mutation: accepted as a job, answered 202
    ApiCall[R]    answered at once by the node that took it (login, candidate lists, secrets shown once)
Event             a fact about one resource, recorded with its transaction, then told to the whole cluster
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

import msgspec
from msgspec import Meta

from mgmtnode.schema import Data, Uuid

R = TypeVar("R")


class Nothing(Data, frozen=True):
    """The reply of a message that has nothing to say."""


NOTHING = Nothing()


@dataclass(frozen=True, slots=True)
class Route:
    """Where a message goes: to the owner of the resource named by ``field``, to a node, or nowhere else."""

    kind: str
    field: str = ""


LOCAL = Route("local")


def by_resource(field: str) -> Route:
    """To the node that owns the resource whose uuid is in ``field``."""
    return Route("resource", field)


def to_node(field: str) -> Route:
    """To the management node whose name is in ``field``."""
    return Route("node", field)


class Message(msgspec.Struct, Generic[R], kw_only=True, frozen=True):
    """Base of all messages. ``R`` is the type of the reply. Fields are only ever added, with defaults."""

    route: ClassVar[Route] = LOCAL


class Internal(Message[R], frozen=True, kw_only=True):
    """From one service to another. Subclasses say their route; ``timeout`` caps the inherited deadline (seconds)."""

    timeout: ClassVar[float] = 60.0


class InTx(Message[R], frozen=True, kw_only=True):
    """Handled synchronously in the caller's transaction on the same node: ``tx.call(msg)``. Does SQL only."""


@dataclass(frozen=True, slots=True)
class Api:
    """How an API message looks from outside. Declared once; REST, AMQP, OpenAPI, SDK and permissions follow.

    ``name`` is the routing key and the permission (``vm.create``). ``verb`` and ``path`` are relative to ``/v1``; a
    ``{field}`` in the path is a field of the message. ``admin``: only accounts of the operator. ``public``: no token.
    ``status``: the code of a synchronous answer. A job's resource is the message's ``uuid`` unless it ``creates`` one.
    """

    name: str
    verb: str
    path: str
    summary: str = ""
    admin: bool = False
    public: bool = False
    status: int = 200


class ApiMessage(Message[R], frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is at its default is not written down: a release with one more field then writes, and hashes for idempotency
    keys, what the one before did."""

    api: ClassVar[Api]


class ApiCall(ApiMessage[R], frozen=True, kw_only=True):
    """Answered at once, on the node that received it.

    ``once``: it changes something, and its handler does that through ``mgmtnode.jobs.once``, so that it honours an
    idempotency key and can be tried dry.
    """

    once: ClassVar[bool] = False


class ApiJob(ApiMessage[R], frozen=True, kw_only=True):
    """A mutation: a committed job row before the client hears 202.

    ``creates``: the type of the resource this makes; its uuid is drawn at acceptance. Otherwise ``target`` names the
    field with the uuid of the resource that is worked on, and ``resource_type`` its type. ``internal`` jobs are
    submitted by services only and have no path.
    """

    creates: ClassVar[str] = ""
    target: ClassVar[str] = "uuid"
    resource_type: ClassVar[str] = ""
    internal: ClassVar[bool] = False


Tags = Annotated[list[Annotated[str, Meta(min_length=1, max_length=1024)]], Meta(max_length=64)]


class CreateJob(ApiJob[R], frozen=True, kw_only=True):
    """Base of the messages that make a resource: tags are applied in the transaction that makes it."""

    system_tags: Tags = []
    user_tags: Tags = []


class UpdateJob(ApiJob[R], frozen=True, kw_only=True):
    """Base of merge patches: absent fields are UNSET."""

    uuid: Uuid


class ActionJob(ApiJob[R], frozen=True, kw_only=True):
    """Base of ``POST …/{uuid}/actions/<verb>``."""

    uuid: Uuid


class DeleteJob(ApiJob[Nothing], frozen=True, kw_only=True):
    """Base of deletions. ``force`` skips the checks and goes on when a part below cannot be cleaned up."""

    uuid: Uuid
    force: bool = False


class Event(msgspec.Struct, kw_only=True, frozen=True):
    """A fact. ``name`` is stable (``vm.started``); ``resource_uuid`` is what it is about. Other nodes hear of it some
    milliseconds later, together with what else happened, unless it is ``prompt``: because somebody waits for it."""

    name: ClassVar[str] = ""
    prompt: ClassVar[bool] = False

    resource_uuid: Uuid


def reply_type(message: type[Message[Any]]) -> Any:
    """The ``R`` of a message class, looked up through its bases."""
    for cls in message.__mro__:
        for base in getattr(cls, "__orig_bases__", ()):
            args = get_args(base)
            if args and not isinstance(args[0], TypeVar):
                return args[0]
    return Nothing


def type_name(message: type[msgspec.Struct]) -> str:
    """The name of a message class on the wire: its last module name and its own, ``vm.StartVm``."""
    return f"{message.__module__.rsplit('.', 1)[-1]}.{message.__qualname__}"
