"""What a step of a flow may do besides calling services: child jobs and progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mgmtnode.bus.message import ApiJob
from mgmtnode.jobs.job import Caller, Job, WorkToken


class JobHandle(Protocol):
    """A running job, as its steps see it."""

    @property
    def uuid(self) -> str: ...

    @property
    def resource_uuid(self) -> str: ...

    @property
    def caller(self) -> Caller: ...

    @property
    def origin(self) -> str:
        """The resource type where a cascading deletion began, or empty."""
        ...

    @property
    def token(self) -> WorkToken: ...

    async def child(self, msg: ApiJob[Any], *, key: str) -> Job:
        """Runs ``msg`` as a child job and waits for its end. ``key`` makes it the same child after a resume; the
        outcome is in the returned job, a failed child raises nothing."""
        ...

    async def children(self, work: Sequence[tuple[str, ApiJob[Any]]], *, parallel: int) -> list[Job]:
        """Runs (key, message) pairs, at most ``parallel`` at once; outcomes in their order."""
        ...

    def progress(self, percent: int, text: str = "") -> None:
        """Tells who watches how far the current step is. Not durable."""
        ...
