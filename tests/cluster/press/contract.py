"""What the second release adds: a colour, another API, a field of an internal answer and one of an event."""

from __future__ import annotations

from typing import ClassVar

from mgmtnode.bus.message import ActionJob, Api, ApiCall, CreateJob, Event, Internal, Route, by_resource
from mgmtnode.schema import Data, Inventory, Name, Resource

from .release import RELEASE


class Sheet(Inventory):
    layers: str
    if RELEASE >= 2:
        colour: str


SHEET = Resource("sheet", "sheets", Sheet, owned=True)


class MakeSheet(CreateJob[Sheet], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("sheet.make", "POST", "/sheets", "Press a sheet")
    creates: ClassVar[str] = "sheet"

    name: Name
    if RELEASE >= 2:
        colour: Name = "white"


class TurnSheet(ActionJob[Sheet], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("sheet.turn", "POST", "/sheets/{uuid}/actions/turn", "Turn it over")
    resource_type: ClassVar[str] = "sheet"

    if RELEASE >= 2:
        colour: Name = "white"


if RELEASE >= 2:

    class FoldSheet(ActionJob[Sheet], frozen=True, kw_only=True):
        api: ClassVar[Api] = Api("sheet.fold", "POST", "/sheets/{uuid}/actions/fold", "Fold it")
        resource_type: ClassVar[str] = "sheet"


class Thickness(Data, kw_only=True):
    node: str
    layers: int
    if RELEASE >= 2:
        grams: int = -1  # what a release before does not say


class AskThickness(Internal[Thickness], frozen=True, kw_only=True):
    route: ClassVar[Route] = by_resource("sheet_uuid")

    sheet_uuid: str
    if RELEASE >= 2:
        exactly: bool = True


class MeasureSheet(ApiCall[Thickness], frozen=True, kw_only=True):
    """Asks the node that works on it, whichever that is."""

    api: ClassVar[Api] = Api("sheet.measure", "GET", "/sheets/{uuid}/thickness", "How thick it is")

    uuid: str


class SheetPressed(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "sheet.pressed"

    sheet: Sheet
    if RELEASE >= 2:
        colour: str = "white"
