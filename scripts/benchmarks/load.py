"""The load generator: clients that ask one request after the other over HTTP connections that are kept.

A process of its own, ``python -m scripts.benchmarks.load``: reads a Load as JSON from its standard input and
writes what it found, an Outcome, to its standard output.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter

import msgspec
import uvloop


class Load(msgspec.Struct):
    """``body`` and ``path`` have ``{n}`` for the number of the request. ``wait``: seconds for Prefer, 0 for
    none."""

    port: int
    token: str
    count: int
    clients: int
    method: str
    path: str
    body: str = ""
    wait: int = 0


class Outcome(msgspec.Struct):
    """``seconds`` from the first request to the last answer; ``latencies`` of each, sorted; ``failure``: an
    answer that was no success."""

    seconds: float
    statuses: dict[int, int]
    latencies: list[float]
    failure: str = ""

    def quantile(self, share: float) -> float:
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]

    @property
    def succeeded(self) -> int:
        return sum(n for status, n in self.statuses.items() if status in (200, 201, 202))


def run(load: Load) -> Outcome:
    """Runs it in a process of its own and waits for its end."""
    command = [sys.executable, "-m", "scripts.benchmarks.load"]
    done = subprocess.run(
        command, input=msgspec.json.encode(load), stdout=subprocess.PIPE, check=True, timeout=900
    )
    return msgspec.json.decode(done.stdout, type=Outcome)


class Client:
    """One connection."""

    def __init__(self, load: Load, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._load, self._reader, self._writer = load, reader, writer
        prefer = f"Prefer: wait={load.wait}\r\n" if load.wait else ""
        self._head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {load.token}\r\n{prefer}"
        self._head += "Content-Type: application/json\r\n"

    async def ask(self, number: int) -> tuple[int, bytes]:
        load = self._load
        path, body = load.path.replace("{n}", str(number)), load.body.replace("{n}", str(number)).encode()
        head = f"{load.method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        text = await self._reader.readexactly(int(length)) if length else b""
        return int(answer[9:12]), text

    def close(self) -> None:
        self._writer.close()


async def generate(load: Load) -> Outcome:
    connections = [
        await asyncio.open_connection("127.0.0.1", load.port, limit=1 << 22) for _ in range(load.clients)
    ]
    clients = [Client(load, *connection) for connection in connections]
    numbers = iter(range(load.count))
    outcome, statuses = Outcome(0.0, {}, []), Counter[int]()

    async def work(client: Client) -> None:
        for number in numbers:
            begin = time.perf_counter()
            status, text = await client.ask(number)
            outcome.latencies.append(time.perf_counter() - begin)
            statuses[status] += 1
            if status not in (200, 201, 202) and not outcome.failure:
                outcome.failure = text[:1000].decode(errors="replace")

    begin = time.perf_counter()
    await asyncio.gather(*(work(client) for client in clients))
    outcome.seconds = time.perf_counter() - begin
    outcome.statuses, outcome.latencies = dict(statuses), sorted(outcome.latencies)
    for client in clients:
        client.close()
    return outcome


def main() -> None:
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(generate(load))))


if __name__ == "__main__":
    main()
