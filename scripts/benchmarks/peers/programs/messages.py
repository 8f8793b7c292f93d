"""What our two nodes say: in a module of its own, because messages are called after the module that defines them."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from mgmtnode.bus.message import Internal, Route, to_node
from mgmtnode.schema import Data


class Answer(Data, kw_only=True):
    text: str


class Ask(Internal[Answer], frozen=True, kw_only=True):
    route: ClassVar[Route] = to_node("node")
    timeout: ClassVar[float] = 120.0

    node: str
    text: str
    wait: float = 0.0


async def answer(msg: Ask) -> Answer:
    if msg.wait:
        await asyncio.sleep(msg.wait)
    return Answer(text=msg.text)
