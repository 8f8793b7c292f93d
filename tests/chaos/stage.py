"""The cluster a campaign is about, with a line between every two of its processes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy.exc import OperationalError

from mgmtnode.cli.seed import seed_cluster
from mgmtnode.client import Client
from mgmtnode.testing.audit.audit import BEGINNING, POLL, Audit
from mgmtnode.testing.audit.records import Row
from mgmtnode.testing.audit.trail import SETTINGS
from mgmtnode.testing.chaos import Lines
from mgmtnode.testing.local_cluster import LocalCluster
from mgmtnode.testing.local_cluster.member import Member
from mgmtnode.testing.local_cluster.operator import ensure_token
from mgmtnode.testing.local_cluster.subscriber import Subscriber
from mgmtnode.testing.process import HOST
from tests.chaos.disk import Disk

HOSTS = 24
MIB = 1 << 20
PASSWORD = "correct horse battery"
TENANTS = ("acme", "umbrella")
HOT = 3  # VMs that everybody works on
API_VHOST = "api"
ROWS_SECONDS = 30.0
QUICK: Mapping[str, Any] = {
    "host.ping_interval": 2,
    "host.ping_timeout": 3,
    "host.unknown_after": 5,
    "host.debt_interval": 2,
    "host.vm_sync_interval": 5,
}
"""Of the rounds that mend things, so that a cycle sees some of each."""
POSTGRES = {**SETTINGS, "max_wal_size": "64MB", "min_wal_size": "32MB", "checkpoint_timeout": "30s"}


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    token: str
    networks: tuple[str, ...]


class Stage:
    """``with Stage(directory, nodes, seed) as stage``: everything runs. Ends all it started, also when it could not
    start."""

    def __init__(self, directory: Path, nodes: int, seed: int, say: Callable[[str], None]) -> None:
        self.lines = Lines(str(seed))
        self.database_disk, self.agents_disk = Disk(600 * MIB), Disk(200 * MIB)
        self.cluster = LocalCluster(
            directory, nodes, postgres_settings=POSTGRES, of_node=self._lead, tell=say
        )
        self.accounts: list[Account] = []
        self.hot: list[str] = []
        self.held: set[str] = set()  # nodes that are to stay down
        self.ends = Counter[int]()  # of nodes by themselves, by exit code
        self.listeners: dict[str, Subscriber] = {}  # to the events of tenants, by their names
        self._audit: Audit | None = None
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper")
        self._starting = threading.Lock()

    @property
    def audit(self) -> Audit:
        assert self._audit is not None
        return self._audit

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._keeper.is_alive():
            self._keeper.join()
        with contextlib.ExitStack() as closing:
            closing.callback(self._close_disks)
            closing.callback(self.lines.close)
            closing.callback(self.cluster.stop, at_once=True)
            if self._audit is not None:
                closing.callback(self._audit.close)
            for listener in self.listeners.values():
                closing.callback(listener.stop)

    @property
    def node_names(self) -> list[str]:
        return list(self.cluster.nodes)

    @property
    def client_urls(self) -> list[str]:
        """The balancer's, and that of a line to each node."""
        return [self.cluster.url, *(f"http://{HOST}:{port}" for port in self._client_ports)]

    @property
    def client_amqp_url(self) -> str:
        return _at(self.cluster.rabbit.vhost_url(API_VHOST), self._client_broker_port)

    def rows(self, sql: str) -> list[Row]:
        """Of a database that may be recovering from something."""
        until = time.monotonic() + ROWS_SECONDS
        while True:
            try:
                return self.audit.records.rows(sql)
            except OperationalError:
                if time.monotonic() > until:
                    raise
            time.sleep(POLL)

    @property
    def agents(self) -> Member:
        assert self.cluster.agents is not None, "no service simulates hosts"
        return self.cluster.agents

    def revive_database(self) -> None:
        """Starts it again if it has ended by itself, as a full disk makes it."""
        if not self.cluster.postgres.running:
            self.cluster.postgres.restart()

    def revive_agents(self) -> None:
        if not self.agents.running:
            self.agents.restart()

    def start_node(self, name: str) -> None:
        with self._starting:
            node = self.cluster.nodes[name]
            if not node.running:
                node.start()

    # how

    def _start(self) -> None:
        self.lines.start()
        self._make_disks()
        self.cluster.start()
        self._open_client_lines()
        token = ensure_token(self.cluster)
        with Client(self.cluster.url, token) as client:
            seed_cluster(client, HOSTS)
            self._configure(client)
            self._make_accounts(client)
            self._make_hot(client)
        self._audit = Audit(self.cluster).start()
        for account in self.accounts[1:]:
            listener = Subscriber(self.cluster.url, account.token)
            self.listeners[account.name] = listener.start(BEGINNING)
        self._keeper.start()

    def _make_disks(self) -> None:
        servers = self.cluster.directory.servers_path
        self.database_disk.mount(servers / "postgres")
        self.agents_disk.mount(self.cluster.history_file.parent)

    def _close_disks(self) -> None:
        self.database_disk.unmount()
        self.agents_disk.unmount()

    def _lead(self, name: str) -> Mapping[str, str]:
        """Where a node finds the others: at the near ends of its lines."""
        cluster = self.cluster
        assert cluster.agents is not None
        if name == "node-1":
            cluster.rabbit.create_vhost(API_VHOST)
        database = self.lines.open(f"{name}>database", cluster.postgres.port, postgres=True)
        broker = self.lines.open(f"{name}>broker", cluster.rabbit.port)
        hosts = self.lines.open(f"{name}>hosts", cluster.agents.port)
        return {
            "MGMTNODE_DATABASE_URL": cluster.database_url.replace(
                f":{cluster.postgres.port}/", f":{database}/"
            ),
            "MGMTNODE_BUS_URL": _at(cluster.bus_url, broker),
            "MGMTNODE_API_AMQP_URL": _at(cluster.rabbit.vhost_url(API_VHOST), broker),
            "MGMTNODE_SIMULATOR_AGENTS_URL": f"http://{HOST}:{hosts}",
        }

    def _open_client_lines(self) -> None:
        self._client_ports = [
            self.lines.open(f"clients>{name}", node.port) for name, node in self.cluster.nodes.items()
        ]
        self._client_broker_port = self.lines.open("clients>rabbitmq", self.cluster.rabbit.port)

    def _configure(self, client: Client) -> None:
        for name, value in QUICK.items():
            found = client.global_configs.find(name)
            client.global_configs.update(found["uuid"], value=value, wait=30).result(60)

    def _make_accounts(self, client: Client) -> None:
        """The operator and some tenants, who may use the network."""
        network = client.l3_networks.find("dev-net")["uuid"]
        client.request("POST", f"/v1/resources/{network}/actions/share", body={})
        self.accounts = [Account("admin", self.cluster.token, (network,))]
        for name in TENANTS:
            client.accounts.create(name=name, password=PASSWORD, wait=30).result(60)
            with Client(self.cluster.url) as tenant:
                token = tenant.login(name, PASSWORD)["token"]
            self.accounts.append(Account(name, token, (network,)))

    def _make_hot(self, client: Client) -> None:
        made = [client.vms.create(name=f"hot-{n}", cpu=1, memory=256 * MIB) for n in range(HOT)]
        self.hot = [job.result(60)["uuid"] for job in made]

    def _keep(self) -> None:
        """Starts nodes again that end by themselves, as systemd does."""
        while not self._stop.wait(0.2):
            for name, node in self.cluster.nodes.items():
                if node.running or name in self.held:
                    continue
                self.ends[node.exit_code or 0] += 1
                self.start_node(name)


def _at(url: str, port: int) -> str:
    head, _, rest = url.rpartition("@")
    return f"{head}@{HOST}:{port}/{rest.partition('/')[2]}"
