"""Keeps a local cluster running: whatever of it ends is started again after a pause, as systemd would do it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mgmtnode.testing.local_cluster.member import Member
from mgmtnode.testing.process import PrivateServer, ServerFailed

if TYPE_CHECKING:
    from mgmtnode.testing.local_cluster.cluster import LocalCluster

LOOK_SECONDS = 0.2
PAUSE_SECONDS = 1.0
LONGEST_PAUSE = 15.0
STEADY_SECONDS = 30.0  # what ran for so long has got over what it failed of before
BAD_CONFIGURATION = 78  # of a node: to start it again cannot help


class Supervision:
    """Watches each process of ``cluster`` in a thread, until ``stop`` is set. ``say`` hears, in any of the threads,
    what ends and what is done about it; with ``restart=False`` nothing is."""

    def __init__(
        self,
        cluster: LocalCluster,
        stop: threading.Event,
        say: Callable[[str], None],
        *,
        restart: bool = True,
    ) -> None:
        self._cluster, self._stop, self._say, self._restart = cluster, stop, say, restart
        self._listing = threading.Lock()

    def run(self) -> None:
        """Returns once ``stop`` is set and nothing is being started any more."""
        threads = [threading.Thread(target=self._watch, args=(each,)) for each in self._watched()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _watched(self) -> list[Member | PrivateServer]:
        cluster = self._cluster
        others = [member for member in (cluster.agents, cluster.balancer) if member is not None]
        return [*cluster.nodes.values(), *others, cluster.postgres, cluster.rabbit]

    def _watch(self, one: Member | PrivateServer) -> None:
        began, pause = time.monotonic(), PAUSE_SECONDS
        while not self._stop.wait(LOOK_SECONDS):
            if one.running:
                continue
            code = one.exit_code
            if not self._restart or code == BAD_CONFIGURATION:
                self._say(f"{one.name} {_told(code)}, and stays away; its log is {one.log_file}")
                return
            steady = time.monotonic() - began > STEADY_SECONDS
            pause = PAUSE_SECONDS if steady else min(pause, LONGEST_PAUSE)
            self._say(f"{one.name} {_told(code)}; starting it again in {pause:g} s")
            if self._stop.wait(pause):
                return
            began, pause = time.monotonic(), pause * 2
            self._start_again(one)

    def _start_again(self, one: Member | PrivateServer) -> None:
        try:
            one.restart()
        except ServerFailed as exc:
            self._say(str(exc))
            return
        with self._listing:
            self._cluster.list_servers()
        self._say(f"{one.name} serves again, pid {one.pid}")


def _told(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
