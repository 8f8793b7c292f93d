"""LocalCluster: PostgreSQL, RabbitMQ, simulated hosts, nodes and a load balancer, started and stopped in order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mgmtnode.testing.family import Identity, identify
from mgmtnode.testing.local_cluster import balancer
from mgmtnode.testing.local_cluster.directory import ClusterDirectory
from mgmtnode.testing.local_cluster.member import START_SECONDS, Member, clean_environment
from mgmtnode.testing.process import HOST, PrivateServer, ServerMissing, free_port
from mgmtnode.testing.servers import PostgresServer, RabbitServer

if TYPE_CHECKING:
    import httpx

DATABASE = "mgmtnode"
API_VHOST = "mgmtnode-api"
LIMIT = 9
CONNECTIONS = 8  # of a node to PostgreSQL, and half as many more on a burst
CONFIG = """\
# Written at every start of the local cluster, for its nodes. Another node can join it:
#   MGMTNODE_NODE_NAME=node-9 MGMTNODE_API_PORT=0 mgmtnode run --config {file}
[node]
data_dir = "{data_dir}"
ready_grace_seconds = 2
drain_seconds = 10

[database]
url = "{database_url}"

[bus]
url = "{bus_url}"

[api]
host = "127.0.0.1"
amqp_url = "{amqp_url}"

[identity]
admin_password_file = "{password_file}"

"""
HOSTS = """
[simulator]
agents_url = "{url}"
"""


class NodeProcess(Member):
    """A management node: ``mgmtnode run`` on a port of its own."""

    def __init__(self, directory: ClusterDirectory, name: str, variables: Mapping[str, str]) -> None:
        port = free_port()
        here = {
            "MGMTNODE_CONFIG": str(directory.config_file),
            "MGMTNODE_NODE_NAME": name,
            "MGMTNODE_NODE_ADDRESS": f"{HOST}:{port}",
            "MGMTNODE_NODE_DATA_DIR": str(directory.node_directory(name)),
            "MGMTNODE_API_PORT": str(port),
        }
        super().__init__(
            name,
            port,
            [sys.executable, "-m", "mgmtnode.cli", "run"],
            clean_environment() | here | dict(variables),
            log_file=directory.log_file(name),
            pid_file=directory.pid_file(name),
            ready_path="/readyz",
        )


class LocalCluster:
    """``size`` nodes ``node-1`` … behind a load balancer, all on loopback, all below ``directory``.

    ``start()`` returns once the balancer serves; ``stop()`` ends all it started, and everything ends as well when
    this process is killed. What the directory holds is used again by the next start. Members are started and ended
    one by one by whoever tests them: ``cluster.nodes["node-2"].kill()``, ``.pause()``, ``.resume()``,
    ``.terminate()``, ``.start()`` then ``.wait_ready()``; ``cluster.postgres.halt("immediate")``, ``.revive()``;
    the same for ``cluster.rabbit``; ``cluster.agents`` is the simulated hosts' process.

    ``variables``: more of the environment of every node; ``of_node(name)``: of one node, asked once the servers run,
    for instance to lead a node to the database through a proxy. ``durable=False`` gives up what matters only when
    the machine loses power. ``port=0`` takes a free one. ``tell`` hears what is started next; what it raises stops the
    start. Not for use by several threads at once.
    """

    def __init__(
        self,
        directory: Path,
        size: int = 3,
        *,
        host: str = HOST,
        port: int = 0,
        balancer_kind: balancer.Kind | None = None,
        durable: bool = False,
        postgres_settings: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
        of_node: Callable[[str], Mapping[str, str]] = lambda name: {},
        tell: Callable[[str], None] = lambda step: None,
    ) -> None:
        if not 1 <= size <= LIMIT:
            raise ValueError(f"{size} nodes: a local cluster has 1 to {LIMIT}")
        self.directory = ClusterDirectory(directory)
        log = self.directory.log_file
        self.postgres = PostgresServer(durable=durable, settings=postgres_settings, log_file=log("postgres"))
        self.rabbit = RabbitServer(log_file=log("rabbitmq"))
        self.nodes: dict[str, NodeProcess] = {}
        self.agents: Member | None = None
        self.balancer: Member | None = None
        self._names = [f"node-{number}" for number in range(1, size + 1)]
        self._host, self._port = host, port
        self.balancer_kind: balancer.Kind = balancer_kind or balancer.choose()
        self._variables, self._of_node, self._tell = dict(variables or {}), of_node, tell
        self._entered = False

    # where things are

    @property
    def url(self) -> str:
        """The balancer's."""
        host = {"0.0.0.0": HOST, "::": "::1"}.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def token(self) -> str:
        """The operator's. Made by ``mgmtnode.testing.local_cluster.operator``."""
        return self.directory.token()

    @property
    def database_url(self) -> str:
        return self.postgres.database_url(DATABASE)

    @property
    def bus_url(self) -> str:
        return self.rabbit.url

    @property
    def amqp_url(self) -> str:
        """Of the virtual host for the API's AMQP clients."""
        return self.rabbit.vhost_url(API_VHOST)

    @property
    def agents_url(self) -> str:
        return "" if self.agents is None else self.agents.url

    @property
    def history_file(self) -> Path:
        """What the simulated hosts were told and did, one JSON object a line."""
        return self.directory.path / "agents" / "history.jsonl"

    def http(self, node: str = "", *, timeout: float = 60.0) -> httpx.Client:
        """The API as its operator, through the balancer or at one node; paths begin after ``/v1``."""
        import httpx

        base = self.nodes[node].url if node else self.url
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=f"{base}/v1", headers=headers, timeout=timeout)

    # start and stop

    def start(self) -> Self:
        """Raises ServerMissing with the command that installs what is not there, ServerFailed, and DirectoryTaken."""
        self._find_programs()
        self.directory.enter()
        self._entered = True
        try:
            self._tell("PostgreSQL, RabbitMQ and the agents of simulated hosts")
            self._start_servers()
            self._tell(f"{len(self._names)} nodes")
            self._start_nodes()
            self._tell(f"the load balancer: {self.balancer_kind}")
            self._start_balancer()
        except BaseException:
            self.stop(at_once=True)
            raise
        return self

    def stop(self, *, at_once: bool = False) -> None:
        """Ends what was started, last first; ``at_once`` without asking nicely. May be called twice."""
        _each(lambda node: node.kill() if at_once else node.terminate(), self.nodes.values())
        for member in (self.balancer, self.agents):
            if member is not None:
                member.kill() if at_once or member is self.balancer else member.terminate()
        _each(lambda server: server.stop("kill" if at_once else "graceful"), (self.rabbit, self.postgres))
        if self._entered:
            self.directory.leave()
            self._entered = False

    def __enter__(self) -> Self:
        return self if self._entered else self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def list_servers(self) -> None:
        """Writes ``servers.json``; to be called after a member was started again."""
        members = {"agents": self.agents, "balancer": self.balancer}
        listed: dict[str, Any] = {
            "url": self.url,
            "token_file": str(self.directory.token_file),
            "postgres": _described(self.postgres) | {"url": self.database_url},
            "rabbitmq": _described(self.rabbit) | {"url": self.bus_url, "api_url": self.amqp_url},
        }
        listed |= {name: member.described() for name, member in members.items() if member is not None}
        if self.balancer is not None:
            listed["balancer"] |= {"kind": self.balancer_kind}
        listed["nodes"] = {name: node.described() for name, node in self.nodes.items()}
        self.directory.list_servers(listed)

    # how

    def _find_programs(self) -> None:
        """Says all that is missing at once."""
        packages, reasons = list[str](), list[str]()
        for server in (self.postgres, self.rabbit):
            try:
                server.find()
            except ServerMissing as missing:
                packages.append(server.package)
                reasons.append(str(missing).partition(": ")[0])
        if packages:
            raise ServerMissing(f"{'; '.join(reasons)}: apt-get install {' '.join(packages)}")

    def _start_servers(self) -> None:
        self.directory.password()
        _each(lambda start: start(), (self._start_postgres, self._start_rabbit, self._start_agents))

    def _start_postgres(self) -> None:
        self.postgres.start(self.directory.servers_path)
        self.postgres.create_database(DATABASE)

    def _start_rabbit(self) -> None:
        self.rabbit.start(self.directory.servers_path)
        self.rabbit.create_vhost(API_VHOST)

    def _start_agents(self) -> None:
        if (program := _simulator()) is None:
            return
        port, data = free_port(), self.history_file.parent
        data.mkdir(exist_ok=True)
        where = [
            "--data-dir",
            str(data),
            "--host",
            HOST,
            "--port",
            str(port),
            "--history",
            str(self.history_file),
        ]
        self.agents = Member(
            "agents",
            port,
            [sys.executable, "-m", program, *where],
            clean_environment(),
            log_file=self.directory.log_file("agents"),
        )
        self.agents.start()
        self.agents.wait_ready()

    def _start_nodes(self) -> None:
        config = CONFIG.format(
            file=self.directory.config_file,
            data_dir=self.directory.node_directory("another"),
            database_url=self.database_url,
            bus_url=self.bus_url,
            amqp_url=self.amqp_url,
            password_file=self.directory.password_file,
        )
        if self.agents is not None:
            config += HOSTS.format(url=self.agents.url)
        self.directory.config_file.write_text(config)
        for name in self._names:
            self.nodes[name] = NodeProcess(self.directory, name, self._variables | dict(self._of_node(name)))
            self.nodes[name].start()
        self.list_servers()
        for node in self.nodes.values():
            node.wait_ready(START_SECONDS)

    def _start_balancer(self) -> None:
        self._port = self._port or free_port()
        ports = {name: node.port for name, node in self.nodes.items()}
        config = self.directory.path / "haproxy.cfg"
        self.balancer = Member(
            "balancer",
            self._port,
            balancer.command(self.balancer_kind, self._host, self._port, ports, config),
            clean_environment(),
            log_file=self.directory.log_file("balancer"),
            ready_path="/readyz",
        )
        self.balancer.start()
        self.balancer.wait_ready()
        self.list_servers()


def _simulator() -> str | None:
    """The package of the service that simulates hosts, whose main program is their agents' process."""
    found = entry_points(group="mgmtnode.services", name="simulator")
    package = next((point.module.rpartition(".")[0] for point in found), "")
    return package if package and find_spec(f"{package}.__main__") else None


def _described(server: PrivateServer) -> dict[str, Any]:
    who = identify(server.pid) or Identity(server.pid, 0)
    return {"pid": who.pid, "started": who.started, "port": server.port}


def _each(do: Callable[[Any], object], things: Iterable[Any]) -> None:
    """All at once, each in a thread; raises what the first of them raised, once all are through."""
    todo = list(things)
    if not todo:
        return
    with ThreadPoolExecutor(len(todo)) as threads:
        begun = [threads.submit(do, thing) for thing in todo]
    for each in begun:
        each.result()
