"""``mgmtnode dev --nodes N``: starts a local cluster, keeps it running, and ends it all when told."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from mgmtnode.cli.dev import first_steps
from mgmtnode.cli.failure import FAILED

if TYPE_CHECKING:
    from mgmtnode.testing.local_cluster import LocalCluster


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of ``mgmtnode dev``."""

    data_dir: Path
    nodes: int
    host: str
    port: int
    hosts: int
    log_level: str | None
    restart: bool


class StoppedEarly(Exception):
    """Told to stop while starting."""


class Told:
    """Whether this process was told to stop. The second time it goes at once; the keepers end what it started."""

    def __init__(self) -> None:
        self.event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    def progress(self, step: str) -> None:
        """Called between the steps of the start. Raises StoppedEarly."""
        if self.event.is_set():
            raise StoppedEarly
        click.echo(f"starting {step}", err=True)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.event.is_set():
            os._exit(128 + number)
        self.event.set()


def run_cluster(wanted: Wanted) -> int:
    """Until SIGTERM or Ctrl-C. Returns the exit code."""
    from mgmtnode.testing.local_cluster import LocalCluster
    from mgmtnode.testing.local_cluster.supervision import Supervision
    from mgmtnode.testing.process import ServerFailed, ServerMissing

    told = Told()
    cluster = LocalCluster(
        wanted.data_dir,
        wanted.nodes,
        host=wanted.host,
        port=wanted.port,
        durable=True,
        variables={"MGMTNODE_LOG_LEVEL": wanted.log_level} if wanted.log_level else {},
        tell=told.progress,
    )
    try:
        cluster.start()
        _seed(cluster, wanted, told)
        _welcome(cluster, wanted.restart)
        Supervision(cluster, told.event, _say, restart=wanted.restart).run()
    except StoppedEarly:
        _say("told to stop before it served")
    except (ServerMissing, ServerFailed) as exc:
        _say(f"mgmtnode: {exc}")
        return FAILED
    finally:
        cluster.stop()
    return 0


def _seed(cluster: LocalCluster, wanted: Wanted, told: Told) -> None:
    from mgmtnode.cli.seed import seed_cluster
    from mgmtnode.client import Client
    from mgmtnode.testing.local_cluster.operator import ensure_token

    told.progress(f"a cloud of {wanted.hosts} simulated hosts, unless there is one")
    with Client(cluster.url, ensure_token(cluster)) as client:
        seed_cluster(client, wanted.hosts)


def _welcome(cluster: LocalCluster, restart: bool) -> None:
    directory, last = cluster.directory, list(cluster.nodes)[-1]
    pid_file = shlex.quote(str(directory.pid_file(last)))
    lines = (
        f"A development cluster: {len(cluster.nodes)} nodes behind {cluster.balancer_kind}, simulated hosts,"
        " nothing for production. Ctrl-C stops it.",
        *first_steps(cluster.url, directory.token_file),
        "  kill a node, and see the others go on:",
        f"    kill -9 $(cat {pid_file})" + ("   # it is started again after a second" if restart else ""),
        f"  AMQP clients: {cluster.amqp_url}, exchange mgmtnode.api; what to send is at {cluster.url}/asyncapi.json",
        f"  all that runs is listed in {directory.servers_file}, logs are in {directory.path / 'logs'}",
    )
    if directory.servers_path != directory.path:
        lines += (f"  the servers' data are in {directory.servers_path}, which their accounts can reach",)
    _say("\n".join(lines))
    click.echo(f"ready {cluster.url}")


def _say(text: str) -> None:
    click.echo(text, err=True)
