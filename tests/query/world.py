"""A small installation as plain Python values, written to a database, to compare the engine's answers
with."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, insert

from mgmtnode.db.session import Tx
from mgmtnode.db.tables import resource, share, tag
from tests.query import schema as s

OPERATOR, ALICE, BOB = (f"00000000-0000-7000-8000-00000000000{n}" for n in (1, 2, 3))
START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = (
    "vm-1",
    "VM_1",
    "Vm%2",
    "vm\\3",
    "a,b",
    "null",
    "ünï",
    "Ünï",
    "x=y",
    "'; --",
    "🙂",
    "  ",
    "vm-10",
    "zz",
)
TAGS = ("team-a", "Team-B", "static::10.0.0.1", "ünï")
CORE = ("name", "description", "account_uuid", "created_at", "updated_at")
Row = dict[str, Any]


class World:
    """``rows[type]`` are inventories as dicts, ``tags[uuid]`` pairs of kind and text, ``shared`` (uuid,
    account)."""

    def __init__(self, seed: int = 3, vms: int = 60) -> None:
        self.rng = random.Random(seed)
        self.rows: dict[str, list[Row]] = {t.name: [] for t in s.TABLES}
        self.links: list[tuple[str, str]] = []
        self.tags: dict[str, set[tuple[str, str]]] = {}
        self.shared: set[tuple[str, str]] = set()
        self._make(vms)
        self.by_uuid = {row["uuid"]: row for rows in self.rows.values() for row in rows}

    def _new(self, table: Table, **values: Any) -> str:
        number = sum(map(len, self.rows.values()))
        uuid = f"{self.rng.getrandbits(32):08x}-0000-7000-8000-{number:012d}"
        at = START + timedelta(
            seconds=self.rng.randrange(20), microseconds=self.rng.choice((0, 0, 1, 999_999))
        )
        row = {
            "uuid": uuid,
            "name": self.rng.choice(NAMES),
            "description": self.rng.choice(("", "text", "Text")),
            "account_uuid": self.rng.choice((OPERATOR, ALICE, ALICE, BOB)),
            "created_at": at,
            "updated_at": at,
        }
        self.rows[table.name].append(row | values)
        self.tags[uuid] = {
            (self.rng.choice(("user", "system")), t) for t in self.rng.sample(TAGS, self.rng.randrange(3))
        }
        if self.rng.random() < 0.3:
            self.shared.add((uuid, self.rng.choice((ALICE, BOB, "*"))))
        return uuid

    def _make(self, vms: int) -> None:
        pick, rng = self.rng.choice, self.rng
        zones = [self._new(s.zone, enabled=i != 1, name=f"zone-{i}") for i in range(3)]
        clusters = [self._new(s.cluster, zone_uuid=pick(zones)) for _ in range(5)]
        hosts = [
            self._new(
                s.host,
                cluster_uuid=pick(clusters),
                cpus=pick((4, 8)),
                load=pick((None, 0.5, 2.25)),
                seen_at=pick((None, START, START + timedelta(hours=1))),
            )
            for _ in range(8)
        ]
        networks = [self._new(s.network) for _ in range(4)]
        self.links = [(n, c) for n in networks for c in clusters if rng.random() < 0.4]
        for _ in range(vms):
            vm = self._new(
                s.vm,
                host_uuid=pick((None, *hosts)),
                state=pick(list(s.VmState)).value,
                cpus=rng.randrange(1, 5),
                memory=pick((None, 1 << 30, 1 << 40)),
                ha=pick((True, False)),
                labels=pick((None, [], ["a", "b"])),
            )
            for _ in range(rng.randrange(3)):
                self._new(
                    s.nic,
                    vm_uuid=vm,
                    network_uuid=pick(networks),
                    ip=f"10.0.0.{rng.randrange(20)}",
                    primary=pick((True, False)),
                    options=pick(({}, {"mtu": 1500})),
                )

    def write(self, tx: Tx) -> None:
        for table in (s.zone, s.cluster, s.host, s.network, s.vm, s.nic):
            for row in self.rows[table.name]:
                core = {key: row[key] for key in ("uuid", *CORE)}
                unique = row["name"] if table is s.zone else None
                tx.execute(insert(resource).values(core | {"type": table.name, "unique_name": unique}))
                tx.execute(insert(table).values({k: v for k, v in row.items() if k not in CORE}))
        for network, cluster in self.links:
            tx.execute(insert(s.attachment).values(network_uuid=network, cluster_uuid=cluster))
        for uuid, account in self.shared:
            tx.execute(insert(share).values(resource_uuid=uuid, account_uuid=account))
        number = 0
        for uuid, tags in self.tags.items():
            for kind, text in tags:
                number += 1
                values = {
                    "uuid": f"00000000-0000-7000-9000-{number:012d}",
                    "resource_uuid": uuid,
                    "kind": kind,
                }
                tx.execute(insert(tag).values(**values, text=text, resource_type="any", created_at=START))

    def sees(self, account: str | None, uuid: str) -> bool:
        if account is None or self.by_uuid[uuid]["account_uuid"] == account:
            return True
        return (uuid, account) in self.shared or (uuid, "*") in self.shared

    def reach(self, row: Row, type_: str, step: str) -> list[Row]:
        """The rows one relation away."""
        target, column = STEPS[type_][step]
        if step in ("zone", "cluster", "host", "vm", "network"):
            return [self.by_uuid[row[column]]] if row[column] else []
        if not column:
            pairs = self.links if type_ == "network" else [(b, a) for a, b in self.links]
            return [self.by_uuid[b] for a, b in pairs if a == row["uuid"]]
        return [other for other in self.rows[target] if other[column] == row["uuid"]]


STEPS: dict[str, dict[str, tuple[str, str]]] = {
    "zone": {"clusters": ("cluster", "zone_uuid")},
    "cluster": {
        "zone": ("zone", "zone_uuid"),
        "hosts": ("host", "cluster_uuid"),
        "networks": ("network", ""),
    },
    "host": {"cluster": ("cluster", "cluster_uuid"), "vms": ("vm", "host_uuid")},
    "vm": {"host": ("host", "host_uuid"), "nics": ("nic", "vm_uuid")},
    "nic": {"vm": ("vm", "vm_uuid"), "network": ("network", "network_uuid")},
    "network": {"nics": ("nic", "network_uuid"), "clusters": ("cluster", "")},
}
