"""Private PostgreSQL, RabbitMQ and Redis servers for tests, local clusters and benchmarks.

    with PostgresServer() as postgres, RabbitServer() as rabbit:
        run_node(postgres.create_database("demo"), rabbit.url)

They run Debian's programs on free loopback ports, share nothing with a server the machine may already run,
and end with the process that started them.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mgmtnode.testing.family import end_process
from mgmtnode.testing.process import (
    HOST,
    PrivateServer,
    ServerFailed,
    ServerMissing,
    StopMode,
    free_port,
)

__all__ = [
    "PostgresServer",
    "RabbitServer",
    "RedisServer",
    "ServerFailed",
    "ServerMissing",
    "StopMode",
    "free_port",
]

SUPERUSER = "postgres"
DATABASE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
VHOST_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class PostgresServer(PrivateServer):
    """``durable=False`` gives up only what matters when the machine loses power.

    A killed server still has every commit: fsync may be skipped, but synchronous_commit stays on.
    """

    name = "postgres"
    package = "postgresql"
    account = "postgres"
    stop_signal = signal.SIGINT  # "fast": SIGTERM would wait for every client to leave by itself
    orphan_signal = signal.SIGQUIT

    def __init__(
        self,
        *,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
        log_file: Path | None = None,
    ) -> None:
        super().__init__(log_file=log_file)
        speed = {"fsync": "off", "full_page_writes": "off"}
        self._settings = ({} if durable else speed) | {"max_connections": "200"} | dict(settings or {})
        self._bin = Path()

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        return f"postgresql+psycopg2://{SUPERUSER}@{HOST}:{self.port}/{name}"

    def create_database(self, name: str, template: str = "template0") -> str:
        """Makes a database if there is none of this name, empty or as ``template`` is, and returns its URL."""
        self._check_name(name)
        # SQL has no CREATE DATABASE IF NOT EXISTS; psql's \gexec runs the rows of the query before it.
        self._psql(
            f"SELECT 'CREATE DATABASE {name} TEMPLATE {template}' "
            f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec"
        )
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Drops it, sessions and all; a database that is not there is fine."""
        self._check_name(name)
        self._psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE);")

    def _check_name(self, name: str) -> None:
        if not DATABASE_NAME.fullmatch(name):
            raise ValueError(f"database name {name!r}: use lower-case letters, digits and _")

    def _psql(self, sql: str) -> str:
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        target = ["-h", HOST, "-p", str(self.port), "-U", SUPERUSER, "-d", "postgres"]
        return self._run([self._bin / "psql", *options, *target], stdin=sql + "\n")

    def _find_program(self) -> None:
        versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
        newest = sorted(versions, key=lambda p: [int(n) for n in re.findall(r"\d+", p.parts[-3])])
        elsewhere = shutil.which("initdb")
        if not newest and not elsewhere:
            raise ServerMissing(_missing("PostgreSQL", "initdb below /usr/lib/postgresql", self.package))
        self._bin = (newest[-1] if newest else Path(elsewhere or "").resolve()).parent

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _prepare(self) -> None:
        if (self._data / "PG_VERSION").exists():
            return
        superuser = ["-U", SUPERUSER, "-A", "trust"]
        layout = ["-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        self._run([self._bin / "initdb", "-D", self._data, *superuser, *layout])

    def _command(self) -> Sequence[str]:
        fixed = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",  # the path of a socket may not be longer than 107 bytes
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        settings = [f"--{name}={value}" for name, value in (self._settings | fixed).items()]
        return [str(self._bin / "postgres"), "-D", str(self._data), *settings]

    def _is_ready(self) -> bool:
        # What pg_ctl -w reads: the first line is the pid, the eighth the state. A stale file has another pid.
        lines = (self._data / "postmaster.pid").read_text().splitlines()
        return len(lines) >= 8 and int(lines[0]) == self.pid and lines[7].strip() == "ready"


class RabbitServer(PrivateServer):
    """One RabbitMQ node with its own epmd, no plugins, user guest. Takes about five seconds to start."""

    name = "rabbitmq"
    package = "rabbitmq-server"
    account = "rabbitmq"
    start_seconds = 90.0
    NODE = "mgmtnode@localhost"

    def __init__(self, *, config: str = "", log_file: Path | None = None) -> None:
        """``config`` is appended to rabbitmq.conf."""
        super().__init__(log_file=log_file)
        self._config = config
        self._scripts = Path("/usr/lib/rabbitmq/bin")
        self._epmd_port = self._erlang_port = 0
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self.port}//"

    def vhost_url(self, name: str) -> str:
        return f"amqp://guest:guest@{HOST}:{self.port}/{name}"

    def create_vhost(self, name: str) -> str:
        """Makes a virtual host that shares no exchange or queue with others, and returns its URL."""
        self._check_name(name)
        binary = f'<<"{name}">>'
        self.eval(f'rabbit_vhost:add({binary}, <<"mgmtnode">>).')
        everything = '<<".*">>, <<".*">>, <<".*">>'
        self.eval(
            f"rabbit_auth_backend_internal:set_permissions("
            f'<<"guest">>, {binary}, {everything}, <<"mgmtnode">>).'
        )
        return self.vhost_url(name)

    def delete_vhost(self, name: str) -> None:
        self._check_name(name)
        self.eval(f'rabbit_vhost:delete(<<"{name}">>, <<"mgmtnode">>).')

    def eval(self, code: str) -> str:
        """Evaluates Erlang in the broker, for faults AMQP cannot ask for (alarms, closed connections).

        ``code`` ends with a full stop; the result is as Erlang prints it.
        """
        cookie = (self.directory / ".erlang.cookie").read_text().strip()
        target = ["-c", cookie, "-address", f"{HOST}:{self._erlang_port}", "-timeout", "20"]
        printed = self._run([self._erl_call(), *target, "-e"], stdin=code + "\n")
        if not printed.startswith("{ok, "):  # erl_call itself ends with 0 whatever happened
            raise ServerFailed(f"{self.name}: {code} -> {printed}")
        return printed.removeprefix("{ok, ").rstrip().removesuffix("}")

    def _check_name(self, name: str) -> None:
        if not VHOST_NAME.fullmatch(name):
            raise ValueError(f"virtual host name {name!r}: use letters, digits and _ . -")

    def _find_program(self) -> None:
        # Not the rabbitmq-server of PATH: Debian's wrapper there changes user and directory by itself.
        if not (self._scripts / "rabbitmq-server").exists():
            missing = str(self._scripts / "rabbitmq-server")
            raise ServerMissing(_missing("RabbitMQ", missing, self.package))

    def _erl_call(self) -> str:
        found = sorted(Path("/usr/lib/erlang").glob("erts-*/bin/erl_call"))
        if not found:
            raise ServerMissing(_missing("erl_call", "it below /usr/lib/erlang", "erlang-base"))
        return str(found[-1])

    def _choose_ports(self) -> None:
        self.port, self._epmd_port, self._erlang_port = free_port(), free_port(), free_port()

    def _prepare(self) -> None:
        files = {
            # Boots fail below the free-disk limit, and a relative memory limit counts memory others use.
            "rabbitmq.conf": f"disk_free_limit.absolute = 50MB\nlog.console.level = info\n{self._config}\n",
            "enabled_plugins": "[].\n",
            "rabbitmq-env.conf": "",
        }
        for name, text in files.items():
            path = self.directory / name
            path.write_text(text)
            path.chmod(0o644)

    def _environment(self) -> dict[str, str]:
        here = self.directory
        return {
            "RABBITMQ_NODENAME": self.NODE,
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._erlang_port),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_MNESIA_BASE": str(here / "mnesia"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(here / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(here / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # The start script then becomes the Erlang VM instead of staying above it: our pid is the VM's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _command(self) -> Sequence[str]:
        return [str(self._scripts / "rabbitmq-server")]

    def _launch(self, until: float) -> None:
        # Erlang would start epmd as a daemon that nobody can stop by pid; so it finds ours already there.
        self._epmd = subprocess.Popen(
            ["epmd", "-address", HOST, "-port", str(self._epmd_port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._base_environment(),
            start_new_session=True,
            **self._identity_arguments(),
        )
        super()._launch(until)

    def _other_pids(self) -> list[int]:
        return [self._epmd.pid] if self._epmd else []

    def _is_ready(self) -> bool:
        with socket.create_connection((HOST, self.port), timeout=5.0) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"  # the frame type of Connection.Start

    def _halt(self, mode: StopMode) -> None:
        super()._halt(mode)
        if self._epmd is not None:
            end_process(self._epmd, signal.SIGKILL, 5.0)
            self._epmd = None


class RedisServer(PrivateServer):
    """Keeps nothing on disk: a restart loses all keys, which is what the product must bear."""

    name = "redis"
    package = "redis-server"
    account = "redis"

    def __init__(self) -> None:
        super().__init__()
        self._program = ""

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def _find_program(self) -> None:
        self._program = shutil.which("redis-server", path=self._base_environment()["PATH"]) or ""
        if not self._program:
            raise ServerMissing(_missing("Redis", "redis-server in PATH", self.package))

    def _command(self) -> Sequence[str]:
        where = ["--bind", HOST, "--port", str(self.port), "--dir", str(self.directory)]
        return [self._program, *where, "--save", "", "--appendonly", "no", "--daemonize", "no"]

    def _is_ready(self) -> bool:
        with socket.create_connection((HOST, self.port), timeout=5.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"


def _missing(product: str, sought: str, package: str) -> str:
    return f"{product} is not installed (looked for {sought}): apt-get install {package}"
