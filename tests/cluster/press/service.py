"""Presses sheets, in the second release with one more step. Pressing takes until the file ``PRESS_OPEN`` is there."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import Caller, WorkToken
from mgmtnode.service import NodeContext, Service, handler, job
from mgmtnode.workflow.flow import Flow, FlowContext, Step, TxStep
from mgmtnode.workflow.handle import JobHandle

from . import contract as words
from .models import sheet
from .release import RELEASE


class Work(FlowContext):
    uuid: str
    name: str
    if RELEASE >= 2:
        colour: str = "white"


def lay(service: PressService, tx: Tx, context: Work) -> None:
    resource.create(tx, words.SHEET, context.uuid, context.name, account=tx.job.account_uuid)
    colour = {"colour": context.colour} if RELEASE >= 2 else {}
    tx.execute(insert(sheet).values(uuid=context.uuid, layers="", **colour))


async def press(service: PressService, job: JobHandle, context: Work) -> None:
    while not service.open.exists():
        await asyncio.sleep(0.05)


def dry(service: PressService, tx: Tx, context: Work) -> None:
    add(tx, context.uuid, f"dried by {RELEASE}")


def paint(service: PressService, tx: Tx, context: Work) -> None:
    add(tx, context.uuid, f"painted by {RELEASE}")


def pressed(service: PressService, tx: Tx, context: Work) -> words.Sheet:
    made = service.get(tx, context.uuid)
    tx.record(words.SheetPressed(resource_uuid=made.uuid, sheet=made))
    return made


def add(tx: Tx, uuid: str, layer: str) -> None:
    tx.execute(update(sheet).where(sheet.c.uuid == uuid).values(layers=sheet.c.layers + layer + ";"))
    resource.change(tx, words.SHEET, uuid)


FIRST: Flow[Any, Any, Any] = Flow(
    "sheet.make", (TxStep("lay", run=lay), Step("press", run=press), TxStep("dry", run=dry)), result=pressed
)
SECOND: Flow[Any, Any, Any] = Flow(
    "sheet.make",
    (
        TxStep("lay", run=lay),
        Step("press", run=press),
        TxStep("paint", run=paint),
        TxStep("dry", run=dry),
    ),
    result=pressed,
    version=2,
    earlier=(FIRST,),
)


class PressService(Service):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        self.open = Path(os.environ["PRESS_OPEN"])

    def get(self, tx: Tx, uuid: str) -> words.Sheet:
        found: words.Sheet = self.node.query.get(tx, words.SHEET, uuid)
        return found

    @job(SECOND if RELEASE >= 2 else FIRST)
    def make(self, msg: words.MakeSheet, work: WorkToken) -> Work:
        colour = {"colour": msg.colour} if RELEASE >= 2 else {}
        return Work(uuid=work.resource_uuid, name=msg.name, **colour)

    @job()
    def turn(self, tx: Tx, msg: words.TurnSheet) -> words.Sheet:
        add(tx, msg.uuid, f"turned by {RELEASE}")
        return self.get(tx, msg.uuid)

    if RELEASE >= 2:

        @job()
        def fold(self, tx: Tx, msg: words.FoldSheet) -> words.Sheet:
            add(tx, msg.uuid, f"folded by {RELEASE}")
            return self.get(tx, msg.uuid)

    @handler()
    async def thickness(self, msg: words.AskThickness) -> words.Thickness:
        layers = await self.node.db.read(
            lambda tx: tx.execute(select(sheet.c.layers).where(sheet.c.uuid == msg.sheet_uuid)).scalar_one()
        )
        grams = {"grams": 80} if RELEASE >= 2 else {}
        return words.Thickness(node=self.node.name, layers=layers.count(";"), **grams)

    @handler()
    async def measure(self, msg: words.MeasureSheet, caller: Caller) -> words.Thickness:
        return await self.node.bus.call(words.AskThickness(sheet_uuid=msg.uuid))
