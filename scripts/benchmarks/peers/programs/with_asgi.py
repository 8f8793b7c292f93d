"""The floor: a bare ASGI application on uvicorn, uvloop and httptools that inserts one row and commits before it says
202. psycopg2 in a pool of threads, one connection each, as many as were fastest."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import uvicorn
from orders import ready

THREADS = 8
TABLE = "CREATE TABLE IF NOT EXISTS accepted (uuid text PRIMARY KEY, body jsonb NOT NULL, at timestamptz DEFAULT now())"


class Application:
    def __init__(self, url: str) -> None:
        self._url, self._mine = url, threading.local()
        self._threads = ThreadPoolExecutor(THREADS)
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(TABLE)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        event = await receive()
        body = event["body"]
        while event.get("more_body"):
            event = await receive()
            body += event["body"]
        json.loads(body)
        row = str(uuid.uuid4())
        await asyncio.get_running_loop().run_in_executor(self._threads, self._insert, row, body.decode())
        answer = json.dumps({"uuid": row, "state": "Pending"}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _insert(self, row: str, body: str) -> None:
        if not hasattr(self._mine, "connection"):
            self._mine.connection = psycopg2.connect(self._url)
        with self._mine.connection as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO accepted (uuid, body) VALUES (%s, %s)", (row, body))


class Server(uvicorn.Server):
    async def startup(self, *words: Any, **options: Any) -> None:
        await super().startup(*words, **options)
        ready("uvicorn", "psycopg2-binary")


if __name__ == "__main__":
    _, _, url, port = sys.argv
    config = uvicorn.Config(
        Application(url),
        port=int(port),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="error",
    )
    Server(config).run()
