"""A small cloud with one of everything, and a look at all that is stored."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from mgmtnode.db.tables import CORE_TABLES, allocation, claim, job, pool
from mgmtnode.jobs.repository import OPEN
from mgmtnode.testing.cloud import Cloud
from tests.e2e.document import Document

CHATTER = {"session", "mn_node", "ring_slot", "mn_lease", "lease"}  # change while nobody asks for anything
WORK = {"job", "claim", "event"}  # what a request leaves behind that was accepted and then failed
GIB = 1 << 30

Snapshot = dict[str, list[str]]
RECIPE: list[tuple[str, str, dict[str, Any]]] = [
    ("zone", "zones", {"name": "zone-1"}),
    ("cluster", "clusters", {"name": "cluster-1", "zone_uuid": "@zone", "hypervisor": "simulator"}),
    (
        "host",
        "hosts",
        {
            "name": "host-1",
            "cluster_uuid": "@cluster",
            "management_ip": "192.0.2.1",
            "parameters": {"cpu": 8, "memory": 8 * GIB},
        },
    ),
    ("instance_offering", "instance-offerings", {"name": "small", "cpu": 1, "memory": GIB}),
    ("l3_network", "l3-networks", {"name": "net-1", "zone_uuid": "@zone"}),
    ("ip_range", "ip-ranges", {"name": "range-1", "l3_network_uuid": "@l3_network", "cidr": "10.0.0.0/24"}),
    ("account", "accounts", {"name": "account-1", "password": "correct horse battery"}),
    ("user", "users", {"name": "user-1"}),
    (
        "policy",
        "policies",
        {"name": "policy-1", "statements": [{"effect": "Allow", "actions": ["zone.*"], "resources": ["*"]}]},
    ),
    (
        "vm",
        "vms",
        {"name": "vm-1", "instance_offering_uuid": "@instance_offering", "l3_network_uuids": ["@l3_network"]},
    ),
]


class Scene:
    """``uuids``: one resource of each type, as far as the services are installed."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.document = Document(cloud.http.get("/openapi.json").json())
        self.uuids: dict[str, str] = {}
        creates = {o.path.removeprefix("/v1/") for o in self.document.operations if o.method == "POST"}
        for kind, plural, fields in RECIPE:
            if plural in creates:
                self.uuids[kind] = cloud.create(plural, **{n: self._filled(v) for n, v in fields.items()})[
                    "uuid"
                ]

    def uuid_for(self, path: str) -> str | None:
        """One resource that ``path`` may be asked about."""
        plural = path.removeprefix("/v1/").partition("/")[0]
        return next((self.uuids[k] for k, p, _ in RECIPE if p == plural and k in self.uuids), None)

    def snapshot(self, *but: str) -> Snapshot:
        """All rows of all tables except those named."""

        manifests = self.cloud.turn().node.parts.context.manifests.values()
        tables = [*CORE_TABLES, *(table for manifest in manifests for table in manifest.tables)]

        def read(tx: Any) -> Snapshot:
            return {
                table.name: sorted(repr(tuple(row)) for row in tx.execute(select(table)))
                for table in tables
                if table.name not in CHATTER | set(but)
            }

        return self.cloud.read(read)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._filled(v) for v in value]
        return self.uuids[value[1:]] if isinstance(value, str) and value.startswith("@") else value


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """Rows that came or went, for the message of an assertion."""
    return [
        f"{table}: {sign} {row[:300]}"
        for table in before
        for sign, rows in (
            ("-", set(before[table]) - set(after[table])),
            ("+", set(after[table]) - set(before[table])),
        )
        for row in sorted(rows)
    ]


def book_faults(tx: Any) -> list[str]:
    """What in the ledger does not add up, and claims that outlive their job. Only when no job is open."""
    held: dict[tuple[str, str], int] = {}
    rows = select(allocation.c.pool_uuid, allocation.c.kind, func.sum(allocation.c.amount))
    rows = rows.where(
        allocation.c.unit.is_(None)
    )  # units, such as addresses, are counted by their uniqueness
    for uuid, kind, amount in tx.execute(rows.group_by(allocation.c.pool_uuid, allocation.c.kind)):
        held[(uuid, kind)] = int(amount)
    found = []
    for row in tx.execute(select(pool)).mappings():
        amount = held.pop((row["resource_uuid"], row["kind"]), 0)
        if amount != row["used"] or row["used"] > row["total"]:
            found.append(f"pool {dict(row)} with {amount} allocated")
    found += [f"{amount} of {key} allocated from no pool" for key, amount in held.items()]
    open_jobs = select(job.c.uuid).where(job.c.state.in_(OPEN))
    found += [
        f"claim {dict(row)}"
        for row in tx.execute(select(claim).where(claim.c.job_uuid.not_in(open_jobs))).mappings()
    ]
    return found
