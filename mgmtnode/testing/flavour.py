"""The kinds of cloud that a test runs on: what a node keeps its data in, and how many nodes there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

from mgmtnode.testing.agents_thread import AgentsThread
from mgmtnode.testing.cloud import Cloud
from mgmtnode.testing.node_thread import BOOT_SECONDS, NodeThread, operator_token


@dataclass(frozen=True)
class Flavour:
    """``names``: the nodes, all on one database and one broker. Without a broker there is one node."""

    name: str
    database_url: str
    bus_url: str = ""
    names: tuple[str, ...] = ("test",)

    def start(
        self,
        directory: Path,
        *,
        points: list[EntryPoint] | None = None,
        agents: AgentsThread | None = None,
    ) -> Cloud:
        """Boots the nodes, all at once; returns when each has its share of the work. ``points``: the services (None:
        all that are installed)."""
        threads = [
            NodeThread(
                directory / name,
                name=name,
                database_url=self.database_url,
                bus_url=self.bus_url,
                environ=agents.environ if agents is not None else None,
            )
            for name in self.names
        ]
        try:
            for booting in [thread.launch(points) for thread in threads]:
                booting.result(BOOT_SECONDS)
            for thread in threads:
                thread.run(thread.has_its_share(self.names), BOOT_SECONDS)
        except BaseException:
            _stop(threads)
            raise
        return Cloud(threads, operator_token(threads[0]), agents=agents)

    @contextmanager
    def cloud(self, directory: Path, *, agents: AgentsThread | None = None) -> Iterator[Cloud]:
        """A cloud that is stopped in the end."""
        cloud = self.start(directory, agents=agents)
        try:
            yield cloud
        finally:
            stop(cloud)


def stop(cloud: Cloud) -> None:
    """Stops the nodes, all at once."""
    cloud.close()
    _stop(cloud.nodes)


def _stop(threads: Sequence[NodeThread]) -> None:
    for stopping in [thread.begin(thread.node.stop()) for thread in threads]:
        stopping.result(BOOT_SECONDS)
    for thread in threads:
        thread.end_loop()
