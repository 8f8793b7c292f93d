"""FastStream: ``broker.request`` to a subscriber that returns; uvloop, no log, acknowledged on arrival."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from orders import TIMEOUT, Turn, obey, ready

SERVER = RabbitQueue("bench.faststream", auto_delete=True)


def make_broker(url: str) -> RabbitBroker:
    return RabbitBroker(url, logger=None, default_channel=Channel(publisher_confirms=False))


async def serve(url: str) -> None:
    broker = make_broker(url)

    @broker.subscriber(SERVER, ack_policy=AckPolicy.ACK_FIRST)
    async def answer(text: str, wait: float) -> dict[str, str]:
        if wait:
            await asyncio.sleep(wait)
        return {"text": text}

    await broker.start()
    ready("faststream", "aio-pika")
    await asyncio.Event().wait()


async def call(url: str) -> None:
    broker = make_broker(url)
    await broker.start()
    ready("faststream", "aio-pika")

    def make_call(turn: Turn):  # type: ignore[no-untyped-def]  # a closure of this file only
        body = {"text": turn.text, "wait": turn.wait}

        async def one() -> str:
            answer = await broker.request(body, SERVER, timeout=TIMEOUT)
            return (await answer.decode())["text"]

        return one

    await obey(make_call)


if __name__ == "__main__":
    uvloop.run({"serve": serve, "call": call}[sys.argv[1]](sys.argv[2]))
