"""Who waits for the end of which job, and which jobs ended a moment ago."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from mgmtnode.jobs.job import Job

RECENT = 256  # jobs whose end is remembered


class Ends:
    """Every waiter has an event of its own: the first to leave takes none away. They are told in the order they
    came. A job that ended on this node is there to be had: nobody has to read it."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Event, None]] = {}
        self._recent: OrderedDict[str, Job | None] = OrderedDict()

    @contextmanager
    def of(self, uuid: str) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        waiting = self._waiting.setdefault(uuid, {})
        waiting[event] = None
        try:
            yield event
        finally:
            del waiting[event]
            if not waiting:
                del self._waiting[uuid]

    def tell(self, uuid: str, job: Job | None = None) -> None:
        """It has ended, here as ``job``."""
        self._recent[uuid] = job or self._recent.get(uuid)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        for event in self._waiting.get(uuid, ()):
            event.set()

    def job(self, uuid: str) -> Job | None:
        """The job, if it ended on this node a moment ago."""
        return self._recent.get(uuid)

    def __contains__(self, uuid: object) -> bool:
        """Whether somebody told a moment ago that it has ended."""
        return uuid in self._recent

    def __len__(self) -> int:
        """For how many jobs somebody waits."""
        return len(self._waiting)
