"""A management node on simulated edges: the product's own boot, life and end, without files, threads and sockets."""

from __future__ import annotations

from collections.abc import Sequence

from mgmtnode.agents.port import Agents
from mgmtnode.bus.transport import Transport, address_of
from mgmtnode.cluster.heart import Heart, TaskHeart
from mgmtnode.config.file import Properties
from mgmtnode.node import ManagementNode
from mgmtnode.ports import Clock, Rng
from mgmtnode.service import ServiceManifest
from mgmtnode.testing.simulation.database import SimulatedDatabase
from mgmtnode.testing.simulation.network import Network


class NoApi:
    """Clients come in below HTTP, which is tested elsewhere. They ask nobody who drains, as a load balancer would."""

    def __init__(self) -> None:
        self.draining = False

    def drain(self) -> None:
        self.draining = True


class SimulatedNode(ManagementNode):
    """One incarnation of a node. Everything that is no edge is the product's."""

    on_file = False  # SQLite, but shared

    def __init__(
        self,
        properties: Properties,
        manifests: Sequence[ServiceManifest],
        *,
        clock: Clock,
        rng: Rng,
        agents: Agents,
        database: SimulatedDatabase,
        network: Network,
    ) -> None:
        super().__init__(properties, manifests, clock=clock, rng=rng, agents=agents)
        self._network = network
        self._database = database
        self.api = NoApi()  # type: ignore[assignment]

    async def _lock(self) -> None:
        """There is no data directory."""

    async def _open_database(self) -> None:
        self.db = self._database  # type: ignore[assignment]  # the port, which is all that is used of it

    async def _upgrade(self) -> None:
        """The database was made with its schema."""

    async def _build(self) -> None:
        self._database.writer = f"{self.name}#{self.membership.incarnation}"
        await super()._build()

    def _watch_loop(self) -> None:
        """It is never late."""

    async def _start_api(self) -> None:
        """See NoApi."""

    async def _start_amqp_api(self) -> None:
        """See NoApi."""

    def _heart(self) -> Heart:
        return TaskHeart(self._database, self._clock)

    def _transport(self) -> Transport:
        return self._network.transport(address_of(self.name, self.membership.incarnation))
