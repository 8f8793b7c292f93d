"""A client that follows the event stream of a cluster, over whatever happens to its nodes."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from mgmtnode.client import AsyncClient, ClientError

if TYPE_CHECKING:
    from collections.abc import Iterable

RETRY_SECONDS = 120.0


class Subscriber:
    """Sees every event from ``start()`` on, in a thread. ``seen`` holds the ids of the events, ``resets`` how often the
    cluster said that some are gone."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self.seen: set[str] = set()
        self.repeated = self.resets = 0
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="subscriber")

    def start(self, after: str) -> Subscriber:
        """From the event ``after`` on, which itself is not seen again."""
        self._thread.start()
        self._loop.call_soon_threadsafe(self._begin, after)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join(30)

    def missing(self, events: Iterable[str]) -> list[str]:
        """Raises what ended the stream, if something did."""
        if self._failed is not None:
            raise self._failed
        return [event for event in events if event not in self.seen]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _begin(self, after: str) -> None:
        self._task = self._loop.create_task(self._follow(after))
        self._task.add_done_callback(lambda task: self._loop.stop())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _follow(self, after: str) -> None:
        try:
            async with AsyncClient(self._url, self._token, retry_for=RETRY_SECONDS) as client:
                async for event in client.events(last_event_id=after):
                    if event.type == "reset":
                        self.resets += 1
                    elif event.id is not None:
                        self.repeated += event.id in self.seen
                        self.seen.add(event.id)
        except ClientError as exc:
            self._failed = exc
