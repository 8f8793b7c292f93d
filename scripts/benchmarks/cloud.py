"""The cloud that is measured: made through the API, and rows put beside it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Table, insert

from mgmtnode.db.base import metadata
from mgmtnode.db.engine import open_database
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import resource, tag
from mgmtnode.jobs.job import SYSTEM_ACCOUNT
from mgmtnode.ports import SystemClock

GIB = 1 << 30
CLUSTERS = 10
BATCH = 5_000


class Api(Protocol):
    """A node or a cluster."""

    def call(self, method: str, path: str, body: Any = None) -> Any: ...


@dataclass
class Cloud:
    """What was made: uuids. ``hosts`` in the order of their clusters."""

    zone: str
    network: str
    clusters: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    ip_range: str = ""

    @property
    def vm(self) -> str:
        """The body that creates a small VM with one address; the load generator numbers them."""
        return f'{{"name":"vm-{{n}}","cpu":1,"memory":{GIB},"l3_network_uuids":["{self.network}"]}}'


def make(node: Api, hosts: int) -> Cloud:
    """Ten clusters of ``hosts`` hosts in all, which take no time for a command and are seldom pinged."""
    settle(node, "simulator.delay_ms", 0)
    settle(node, "host.ping_interval", 3600)
    zone = _create(node, "zones", name="bench")
    network = _create(node, "l3-networks", name="bench", zone_uuid=zone)
    cloud = Cloud(zone, network)
    cloud.ip_range = _create(node, "ip-ranges", name="bench", l3_network_uuid=network, cidr="10.0.0.0/15")
    for number in range(CLUSTERS):
        cluster = _create(node, "clusters", name=f"cluster-{number}", zone_uuid=zone, hypervisor="simulator")
        cloud.clusters.append(cluster)
        for host in range(hosts // CLUSTERS):
            parameters = {"cpu": 128, "memory": 1024 * GIB}
            address = f"sim-{number}-{host}"
            cloud.hosts.append(
                _create(
                    node,
                    "hosts",
                    name=address,
                    cluster_uuid=cluster,
                    management_ip=address,
                    parameters=parameters,
                )
            )
    return cloud


def settle(node: Api, config: str, value: Any) -> None:
    node.call("PATCH", f"/global-configs/{config}", {"value": value})


def _create(node: Api, plural: str, **fields: Any) -> str:
    return str(node.call("POST", f"/{plural}", fields)["uuid"])


def fill(directory: Path, cloud: Cloud, vms: int) -> None:
    """Puts rows of VMs, one in a hundred with a tag, into the database of a node that stands by. They are
    stopped, though on a host: of running ones the hosts would say that they are not there."""
    from services.vm.models import vm

    db = open_database(f"sqlite:///{directory / 'mgmtnode.db'}", SystemClock())
    for batch in _batches(_rows(vm, cloud, vms)):
        db.run(lambda tx, batch=batch: _put(tx, batch))  # type: ignore[misc]  # the batch of this turn
    db.engine.dispose()


Row = tuple[Table, dict[str, Any]]


def _rows(vm: Table, cloud: Cloud, vms: int) -> Iterator[list[Row]]:
    """The rows of one VM after the other, the same on every run."""
    rng, start = random.Random(7), datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(vms):
        uuid, at = _uuid(number), start + timedelta(seconds=number)
        host = rng.randrange(len(cloud.hosts))
        cluster = cloud.clusters[host * len(cloud.clusters) // len(cloud.hosts)]
        core = {"uuid": uuid, "type": "vm", "name": f"vm-{number}", "description": "", "unique_name": None}
        place = {"zone_uuid": cloud.zone, "cluster_uuid": cluster, "host_uuid": cloud.hosts[host]}
        rows: list[Row] = [
            (resource, core | {"account_uuid": SYSTEM_ACCOUNT, "created_at": at, "updated_at": at}),
            (
                vm,
                {
                    "uuid": uuid,
                    "state": "Stopped",
                    "cpu": 1,
                    "memory": GIB,
                    "hypervisor": "simulator",
                    **place,
                },
            ),
        ]
        if number % 100 == 0:
            told = {
                "uuid": _uuid(number + (1 << 24)),
                "resource_uuid": uuid,
                "resource_type": "vm",
                "kind": "user",
            }
            rows.append((tag, told | {"text": f"team-{number % 1000}", "inherent": False, "created_at": at}))
        yield rows


def _uuid(number: int) -> str:
    value = f"{0x019B76DA0000 + number:012x}70008000{number:012x}"
    return f"{value[:8]}-{value[8:12]}-{value[12:16]}-{value[16:20]}-{value[20:]}"


def _batches(rows: Iterator[list[Row]]) -> Iterator[dict[Table, list[dict[str, Any]]]]:
    batch: dict[Table, list[dict[str, Any]]] = {}
    for each in rows:
        for table, row in each:
            batch.setdefault(table, []).append(row)
        if len(batch[resource]) >= BATCH:
            yield batch
            batch = {}
    if batch:
        yield batch


def _put(tx: Tx, batch: dict[Table, list[dict[str, Any]]]) -> None:
    for table in metadata.sorted_tables:
        if table in batch:
            tx.execute(insert(table), batch[table])
