"""A node as a process: runs it until it is told to stop, or until the cluster goes on without it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable

from mgmtnode.config import core_properties as core
from mgmtnode.config.file import Properties
from mgmtnode.loader import discover
from mgmtnode.node import ManagementNode
from mgmtnode.telemetry import logs

log = logging.getLogger(__name__)

EVICTED = 75  # exit code: whoever supervises the node may start it again
STOP_EVICTED_SECONDS = 10.0

Ready = Callable[[ManagementNode], Awaitable[None]]


async def serve(properties: Properties, ready: Ready) -> int:
    """Runs a node until SIGTERM or SIGINT; returns the exit code. A second signal ends it without draining.

    ``ready(node)`` runs once it serves.
    """
    name = properties.get(core.NODE_NAME) or socket.gethostname()
    logs.configure(
        name, json=properties.get(core.LOG_FORMAT) == "json", level=properties.get(core.LOG_LEVEL).upper()
    )
    node = ManagementNode(properties, discover(properties.get(core.SERVICES_ENABLED)))
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _told, told, number)
    return await live(node, told, ready, grace=properties.get(core.READY_GRACE_SECONDS), abort=os._exit)


async def live(
    node: ManagementNode, told: asyncio.Event, ready: Ready, *, grace: float, abort: Callable[[int], None]
) -> int:
    """The life of a node from its start to its end; returns the exit code. ``abort(code)`` ends the process at once:
    one that was evicted and does not stop must not stay."""
    if not await _started(node, told):
        log.info("told to stop before it served")
        return 0
    try:
        await ready(node)
        await _told_or_evicted(node, told, abort)
        if not node.evicted:
            await _withdraw(node, grace)
    finally:
        await node.stop()
    return EVICTED if node.evicted else 0


async def _told_or_evicted(node: ManagementNode, told: asyncio.Event, abort: Callable[[int], None]) -> None:
    """An operator may ask in the database for a node to be drained: it then gives up its slots, and stays."""
    ends = {asyncio.ensure_future(told.wait()), asyncio.ensure_future(node.lease.lost.wait())}
    draining = asyncio.ensure_future(node.membership.draining.wait())
    done, _ = await asyncio.wait({*ends, draining}, return_when=asyncio.FIRST_COMPLETED)
    if draining in done and not done & ends:
        await node.withdraw()
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for end in (*ends, draining):
        end.cancel()
    if node.evicted:
        asyncio.get_running_loop().call_later(STOP_EVICTED_SECONDS, abort, EVICTED)


async def _started(node: ManagementNode, told: asyncio.Event) -> bool:
    """Boots the node; False when it was told to stop meanwhile. Raises what keeps it from starting."""
    starting, stopping = asyncio.ensure_future(node.start()), asyncio.ensure_future(told.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()  # which stops the parts that have started
        await asyncio.wait((starting,))
    if starting.cancelled():
        return False
    starting.result()
    return True


async def _withdraw(node: ManagementNode, grace: float) -> None:
    """Tells load balancers first, and gives them time to look, before anything is refused."""
    log.info("stopping: not ready any more; draining for up to %.0f s", grace + node.drain_seconds)
    node.api.drain()
    await asyncio.gather(node.withdraw(), asyncio.sleep(grace))


def _told(event: asyncio.Event, number: int) -> None:
    if event.is_set():
        log.warning("told twice to stop: leaving at once; open jobs are taken up at the next start")
        os._exit(128 + number)
    event.set()
