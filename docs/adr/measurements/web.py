"""Measures Starlette against Litestar and FastAPI: server CPU per POST answered 202. Figures for ADR 0002.

    python -m venv v
    v/bin/pip install msgspec pydantic starlette fastapi litestar uvicorn uvloop httptools
    v/bin/python docs/adr/measurements/web.py

Each framework runs under uvicorn with uvloop and httptools, one worker, no access log, and does what it is
meant for: a body of 12 fields is parsed and validated (FastAPI with pydantic, the others with msgspec), and
the answer is 202 with a Location header and a JSON body. Clients are 32 keep-alive connections in another
process. CPU is what the kernel counted for the server process. The median of three rounds is shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from schema import MESSAGE, msgspec_types, pydantic_types, rss_kib  # the file beside this one

REQUESTS, CONNECTIONS, ROUNDS = 12_000, 32, 3
FRAMEWORKS = ("bare", "starlette", "litestar", "fastapi")
JOB = {"uuid": "0192d1f0-7c1e-7cc3-98a4-0123456789ab", "api": "vm.create", "state": "Pending", "steps": []}
LOCATION = f"/v1/jobs/{JOB['uuid']}"


def bare_app() -> Any:
    import msgspec

    _, decode, _ = msgspec_types()(0)
    length = str(len(msgspec.json.encode(JOB))).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"location", LOCATION.encode()),
        (b"content-length", length),
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        decode((await receive())["body"])
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": msgspec.json.encode(JOB)})

    return app


def starlette_app() -> Any:
    import msgspec
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    _, decode, _ = msgspec_types()(0)

    async def create(request: Request) -> Response:
        decode(await request.body())
        body = msgspec.json.encode(JOB)
        return Response(body, status_code=202, headers={"location": LOCATION}, media_type="application/json")

    return Starlette(routes=[Route("/v1/vms", create, methods=["POST"])])


def litestar_app() -> Any:
    from litestar import Litestar, Response, post

    async def create(data: Any) -> Any:
        return Response(JOB, headers={"location": LOCATION})

    create.__annotations__ = {"data": msgspec_types()(0)[0], "return": Response[dict[str, Any]]}
    return Litestar([post("/v1/vms", status_code=202)(create)], openapi_config=None, logging_config=None)


def fastapi_app() -> Any:
    from fastapi import FastAPI, Response

    async def create(body: Any, response: Any) -> Any:
        response.headers["location"] = LOCATION
        return JOB

    create.__annotations__ = {"body": pydantic_types()(0)[0], "response": Response, "return": dict[str, Any]}
    app = FastAPI(openapi_url=None)
    app.post("/v1/vms", status_code=202)(create)
    return app


def serve(framework: str, port: int) -> None:
    import uvicorn

    empty, start = rss_kib(), time.process_time()
    app = {"bare": bare_app, "starlette": starlette_app, "litestar": litestar_app, "fastapi": fastapi_app}[
        framework
    ]()
    print(
        json.dumps({"import_ms": (time.process_time() - start) * 1e3, "mib": (rss_kib() - empty) / 1024}),
        flush=True,
    )
    uvicorn.run(
        app, port=port, loop="uvloop", http="httptools", access_log=False, log_level="error", lifespan="off"
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def client(port: int, requests: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/vms HTTP/1.1\r\nhost: x\r\ncontent-length: {len(MESSAGE)}\r\n"
    head += "content-type: application/json\r\n\r\n"
    for _ in range(requests):
        writer.write(head.encode() + MESSAGE)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 202"), answer + await reader.read(2000)
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()


async def load(port: int, requests: int) -> None:
    await asyncio.gather(*(client(port, requests // CONNECTIONS) for _ in range(CONNECTIONS)))


async def loaded(port: int, pid: int) -> dict[str, float]:
    while True:
        try:
            await load(port, 2000)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
    before, start = cpu_seconds(pid), time.monotonic()
    await load(port, REQUESTS)
    cpu = (cpu_seconds(pid) - before) / REQUESTS * 1e6
    return {"cpu_us": cpu, "per_second": REQUESTS / (time.monotonic() - start)}


def measure(framework: str) -> dict[str, float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, __file__, framework, str(port)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        figures = json.loads(server.stdout.readline())
        try:
            figures |= asyncio.run(loaded(port, server.pid))
        finally:
            server.terminate()
    return dict(figures)


def main() -> None:
    runs: dict[str, list[dict[str, float]]] = {framework: [] for framework in FRAMEWORKS}
    for _ in range(ROUNDS):
        for framework in FRAMEWORKS:
            runs[framework].append(measure(framework))
    print("framework  " + " ".join(f"{column:>11}" for column in runs["bare"][0]))
    for framework, figures in runs.items():
        medians = [statistics.median(run[column] for run in figures) for column in figures[0]]
        print(f"{framework:<10} " + " ".join(f"{median:11.1f}" for median in medians))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1], int(sys.argv[2]))
    else:
        main()
