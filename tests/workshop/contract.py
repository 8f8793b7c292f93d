"""Gadgets: what the tests of the job machinery make, work on and take apart."""

from __future__ import annotations

from typing import Annotated, ClassVar

from mgmtnode.bus.message import ActionJob, Api, CreateJob, Event, Nothing
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import Data, Name, Ref, Resource, Uuid

BROKEN = ErrorCode("gadget.broken", Category.STATE, "it broke")
JAMMED = ErrorCode("gadget.jammed", Category.UNAVAILABLE, "the host does not do it")


class Gadget(Data):
    uuid: str
    name: str = ""


GADGET = Resource("gadget", "gadgets", Gadget, owned=True, backed=False)


class MakeGadget(CreateJob[Gadget], frozen=True, kw_only=True):
    """Nothing but a row."""

    api: ClassVar[Api] = Api("gadget.make", "POST", "/gadgets", "Make a gadget")
    creates: ClassVar[str] = "gadget"

    name: Name
    like_uuid: Annotated[Uuid, Ref("gadget")] | None = None


class TouchGadget(ActionJob[Nothing], frozen=True, kw_only=True):
    """One transaction on an existing gadget."""

    api: ClassVar[Api] = Api("gadget.touch", "POST", "/gadgets/{uuid}/actions/touch", "Touch it")
    resource_type: ClassVar[str] = "gadget"

    note: str = ""


class BuildGadget(CreateJob[Gadget], frozen=True, kw_only=True):
    """A row, a reservation, and three commands to a host."""

    api: ClassVar[Api] = Api("gadget.build", "POST", "/gadgets/actions/build", "Build a gadget")
    creates: ClassVar[str] = "gadget"

    name: Name


class PolishGadget(ActionJob[Nothing], frozen=True, kw_only=True):
    """A light flow: one command between two transactions."""

    api: ClassVar[Api] = Api("gadget.polish", "POST", "/gadgets/{uuid}/actions/polish", "Polish it")
    resource_type: ClassVar[str] = "gadget"


class ShineGadget(PolishGadget, frozen=True, kw_only=True):
    """As polishing, journalled once more."""

    api: ClassVar[Api] = Api("gadget.shine", "POST", "/gadgets/{uuid}/actions/shine", "Shine it")


class AssembleGadget(ActionJob[Nothing], frozen=True, kw_only=True):
    """Polishes other gadgets by child jobs."""

    api: ClassVar[Api] = Api("gadget.assemble", "POST", "/gadgets/{uuid}/actions/assemble", "Assemble it")
    resource_type: ClassVar[str] = "gadget"

    parts: list[Annotated[Uuid, Ref("gadget")]] = []
    parallel: int = 2


class GadgetTouched(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "gadget.touched"
    note: str = ""
