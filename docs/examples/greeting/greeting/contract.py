"""What others may say to the greeting service, and what it says to them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from mgmtnode.bus.message import Api, CreateJob, DeleteJob, Event, UpdateJob
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import UNSET, Description, Inventory, Name, Ref, Resource, UnsetType, Uuid


class Greeting(Inventory):
    """``text`` is what it says, made when it was hung up."""

    zone_uuid: Annotated[Uuid, Ref("zone")]
    text: str


GREETING = Resource("greeting", "greetings", Greeting, owned=True)


class CreateGreeting(CreateJob[Greeting], frozen=True, kw_only=True):
    """Hangs up a greeting to ``name``."""

    api: ClassVar[Api] = Api("greeting.create", "POST", "/greetings", "Hang up a greeting")
    creates: ClassVar[str] = "greeting"

    name: Name
    description: Description = ""
    zone_uuid: Annotated[Uuid, Ref("zone")]


class UpdateGreeting(UpdateJob[Greeting], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("greeting.update", "PATCH", "/greetings/{uuid}", "Change the description")
    resource_type: ClassVar[str] = "greeting"

    description: Description | UnsetType = UNSET


class DeleteGreeting(DeleteJob, frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("greeting.delete", "DELETE", "/greetings/{uuid}", "Take a greeting down")
    resource_type: ClassVar[str] = "greeting"


class GreetingCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "greeting.created"
    greeting: Greeting


class GreetingDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "greeting.deleted"


NOT_POLITE = ErrorCode("greeting.not-polite", Category.INVALID, "nobody is greeted like that")
