"""Subscribers of ``GET /v1/events``, many in one process: for the scenario ``scale``.

``python -m scripts.benchmarks.sse_load PORT TOKEN STREAMS``: says that all are subscribed; after a line with a number
on its standard input, waits until each has heard so many events called ``vm.created``, and says when they came.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from datetime import datetime

import uvloop

DEADLINE = 300.0
AT = re.compile(rb'"at":"([^"]+)"')


class Subscriber:
    """``lags``: seconds from the transaction of each event until it was here. ``wanted``: how many it waits for, told
    by ``all_heard``."""

    def __init__(self) -> None:
        self.lags: list[float] = []
        self.last, self.wanted = 0.0, 0
        self.all_heard = asyncio.Event()

    def want(self, count: int) -> None:
        self.wanted = count
        self._look()

    def _look(self) -> None:
        if self.wanted and len(self.lags) >= self.wanted:
            self.all_heard.set()

    async def run(self, port: int, token: str, subscribed: asyncio.Semaphore) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        head = f"GET /v1/events?types=vm.created HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(head.encode())
        status = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in status.partition(b"\r\n")[0]:
            raise SystemExit(f"not subscribed: {status[:200]!r}")
        subscribed.release()
        async for line in reader:
            if line.startswith(b"data: ") and (at := AT.search(line)):
                self.last = time.time()
                self.lags.append(self.last - datetime.fromisoformat(at[1].decode()).timestamp())
                self._look()


async def main() -> None:
    port, token, streams = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    subscribers = [Subscriber() for _ in range(streams)]
    subscribed = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(each.run(port, token, subscribed)) for each in subscribers]
    for _ in subscribers:
        await subscribed.acquire()
    print(json.dumps({"subscribed": streams}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        for each in subscribers:
            each.want(int(line))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                await asyncio.gather(*(each.all_heard.wait() for each in subscribers))
        lags = sorted(lag for each in subscribers for lag in each.lags)
        told = {
            "heard": len(lags),
            "last": max(each.last for each in subscribers),
            "p50": lags[len(lags) // 2],
            "p99": lags[len(lags) * 99 // 100],
        }
        print(json.dumps(told), flush=True)
        for each in subscribers:
            each.lags, each.wanted = [], 0
            each.all_heard.clear()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    uvloop.run(main())
