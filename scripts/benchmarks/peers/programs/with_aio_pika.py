"""aio-pika as its RPC tutorial does it, with uvloop; no acknowledgements, no confirms, transient messages."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from typing import Any

import aio_pika
import uvloop
from orders import TIMEOUT, Turn, obey, ready

SERVER = "bench.aio-pika"


class Program:
    async def connect(self, url: str, name: str | None, **options: Any) -> aio_pika.abc.AbstractQueue:
        self._connection = await aio_pika.connect(url)
        channel = await self._connection.channel(publisher_confirms=False)
        self._exchange = channel.default_exchange
        return await channel.declare_queue(name, auto_delete=True, **options)

    async def publish(self, to: str, body: Any, **properties: Any) -> None:
        message = aio_pika.Message(json.dumps(body).encode(), content_type="application/json", **properties)
        await self._exchange.publish(message, routing_key=to)


class Server(Program):
    async def run(self, url: str) -> None:
        queue = await self.connect(url, SERVER)
        await queue.consume(self._asked, no_ack=True)
        ready("aio-pika")
        await asyncio.Event().wait()

    async def _asked(self, message: Any) -> None:
        body = json.loads(message.body)
        if body["wait"]:
            await asyncio.sleep(body["wait"])
        await self.publish(message.reply_to, {"text": body["text"]}, correlation_id=message.correlation_id)


class Client(Program):
    def __init__(self) -> None:
        self._pending: dict[str, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()

    async def run(self, url: str) -> None:
        queue = await self.connect(url, None, exclusive=True)
        self._replies = queue.name
        await queue.consume(self._answered, no_ack=True)
        ready("aio-pika")
        await obey(lambda turn: lambda: self._call(turn))

    async def _call(self, turn: Turn) -> Any:
        number = str(next(self._numbers))
        answer = self._pending[number] = asyncio.get_running_loop().create_future()
        body = {"text": turn.text, "wait": turn.wait}
        await self.publish(SERVER, body, correlation_id=number, reply_to=self._replies)
        async with asyncio.timeout(TIMEOUT):
            return (await answer)["text"]

    def _answered(self, message: Any) -> None:
        self._pending.pop(message.correlation_id).set_result(json.loads(message.body))


if __name__ == "__main__":
    program = Server() if sys.argv[1] == "serve" else Client()
    uvloop.run(program.run(sys.argv[2]))
