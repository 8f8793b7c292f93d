"""The flow of a VM's creation on DBOS: a durable workflow of three steps behind a bare ASGI application. The steps do
nothing but what the workflow needs of them; the second waits as long as the host of the VM takes."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvicorn
from dbos import DBOS
from orders import ready

POOL = 20
"""Connections to PostgreSQL."""


@DBOS.step()
async def reserve(name: str) -> dict[str, str]:
    return {"name": name, "host": "host-1", "ip": "10.0.0.1"}


@DBOS.step()
async def start_on_host(seconds: float) -> str:
    if seconds:
        await asyncio.sleep(seconds)
    return "Running"


@DBOS.step()
async def record(vm: dict[str, str], state: str) -> dict[str, str]:
    return {**vm, "state": state}


@DBOS.workflow()
async def create_vm(name: str, seconds: float) -> dict[str, str]:
    vm = await reserve(name)
    return await record(vm, await start_on_host(seconds))


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = b""
    while (event := await receive()).get("more_body"):
        body += event["body"]
    asked = json.loads(body + event["body"])
    handle = await DBOS.start_workflow_async(create_vm, asked["name"], asked["seconds"])
    answer = json.dumps(await handle.get_result()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


class Server(uvicorn.Server):
    async def startup(self, *words: Any, **options: Any) -> None:
        await super().startup(*words, **options)
        ready("dbos", "uvicorn")


def main() -> None:
    _, _, url, port = sys.argv
    DBOS(config={"name": "bench", "system_database_url": url, "sys_db_pool_size": POOL, "log_level": "ERROR"})
    DBOS.launch()
    config = uvicorn.Config(
        application,
        port=int(port),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="error",
    )
    Server(config).run()


if __name__ == "__main__":
    main()
