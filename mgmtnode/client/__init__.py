"""The client library: ``from mgmtnode.client import Client, AsyncClient``.

Names are loaded upon first use, so that importing this package costs nothing; the HTTP library comes with the
first request.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mgmtnode.client.aio import AsyncClient, AsyncCollection, AsyncJob
    from mgmtnode.client.errors import (
        ClientError,
        ConnectionFailed,
        Denied,
        Exists,
        Internal,
        Invalid,
        NoCapacity,
        NotFound,
        ProblemError,
        StateConflict,
        StillRunning,
        Timeout,
        Unavailable,
        UnexpectedAnswer,
    )
    from mgmtnode.client.operations import Page
    from mgmtnode.client.records import JobState, Record
    from mgmtnode.client.settings import Settings
    from mgmtnode.client.sse import Event
    from mgmtnode.client.sync import Client, Collection, Job

__all__ = [
    "AsyncClient", "AsyncCollection", "AsyncJob", "Client", "ClientError", "Collection", "ConnectionFailed",
    "Denied", "Event", "Exists", "Internal", "Invalid", "Job", "JobState", "NoCapacity", "NotFound", "Page",
    "ProblemError", "Record", "Settings", "StateConflict", "StillRunning", "Timeout", "Unavailable",
    "UnexpectedAnswer",
]  # fmt: skip

_HOME = {
    "AsyncClient": "aio", "AsyncCollection": "aio", "AsyncJob": "aio",
    "Client": "sync", "Collection": "sync", "Job": "sync",
    "JobState": "records", "Record": "records", "Page": "operations", "Event": "sse", "Settings": "settings",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value
