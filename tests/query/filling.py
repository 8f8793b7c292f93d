"""A larger installation for plans and benchmarks: 5 zones, 50 clusters, 1,000 hosts, any number of VMs
with a NIC."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from mgmtnode.db.session import Tx
from mgmtnode.db.tables import resource, share, tag
from tests.query import schema as s

START = datetime(2026, 1, 1, tzinfo=UTC)
OPERATOR = "00000000-0000-7000-8000-000000000001"
TENANTS = 20
BATCH = 5_000


class Filling:
    """Rows of one installation, the same on every run."""

    def __init__(self, tx: Tx, vms: int) -> None:
        self.tx, self.vms = tx, vms
        self.rng = random.Random(7)
        self.number = 0
        self.pending: dict[Any, list[dict[str, Any]]] = {}

    def uuid(self) -> str:
        self.number += 1
        value = f"{0x019B76DA0000 + self.number:012x}7000800000000000{self.number:08x}"[:32]
        return f"{value[:8]}-{value[8:12]}-{value[12:16]}-{value[16:20]}-{value[20:32]}"

    def put(self, table: Any, **row: Any) -> None:
        rows = self.pending.setdefault(table, [])
        rows.append(row)

    def make(self, table: Any, name: str, account: str = OPERATOR, **row: Any) -> str:
        uuid = self.uuid()
        at = START + timedelta(seconds=self.number)
        core = {"uuid": uuid, "type": table.name, "name": name, "description": "", "account_uuid": account}
        self.put(resource, **core, created_at=at, updated_at=at, unique_name=None)
        self.put(table, uuid=uuid, **row)
        if len(self.pending[resource]) >= BATCH:
            self.flush()
        return uuid

    def flush(self) -> None:
        for table in sorted(self.pending, key=lambda table: table is not resource):
            self.tx.execute(insert(table), self.pending[table])
        self.pending.clear()

    def run(self) -> None:
        zones = [self.make(s.zone, f"zone-{i}", enabled=True) for i in range(5)]
        clusters = [self.make(s.cluster, f"cluster-{i}", zone_uuid=zones[i % 5]) for i in range(50)]
        hosts = [self._host(i, clusters[i % 50]) for i in range(1000)]
        networks = [self.make(s.network, f"net-{i}") for i in range(10)]
        for i in range(self.vms):
            self._vm(i, hosts[self.rng.randrange(1000)], networks[i % 10])
        for network in networks[:2]:
            self.put(share, resource_uuid=network, account_uuid="*")
        self.flush()

    def _host(self, i: int, cluster: str) -> str:
        return self.make(s.host, f"host-{i}", cluster_uuid=cluster, cpus=64, load=i / 100, seen_at=START)

    def _vm(self, i: int, host: str, network: str) -> None:
        account = tenant(i % TENANTS) if i % 2 else OPERATOR
        state = self.rng.choices(("Running", "Stopped", "Unknown"), (80, 19.9, 0.1))[0]
        memory = self.rng.choice((1, 2, 4, 8)) << 30 if i % 10 else None
        row = {"host_uuid": host, "state": state, "cpus": 1 + i % 8, "memory": memory, "ha": i % 3 == 0}
        vm = self.make(s.vm, f"vm-{i}", account, **row, labels=["a", "b"])
        nic = {"vm_uuid": vm, "network_uuid": network, "ip": f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"}
        self.make(s.nic, f"nic-{i}", account, **nic, primary=True, options={})
        if i % 50 == 0:
            core = {"uuid": self.uuid(), "resource_uuid": vm, "resource_type": "vm", "kind": "user"}
            self.put(tag, **core, text=f"team-{i % 1000}", inherent=False, created_at=START)


def tenant(number: int) -> str:
    return f"00000000-0000-7000-8000-{number + 100:012d}"
