"""The books of a running node, on either database: what is recorded, what is held of what, and what hosts run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text

from mgmtnode.db.session import Tx
from mgmtnode.testing.cloud import Cloud
from services.simulator.host import SimulatedHost
from tests.machines import on_machine

OPEN = "('Pending', 'Running', 'RollingBack')"
VMS = (
    "SELECT vm.uuid, name, state, cpu, memory, hypervisor, zone_uuid, cluster_uuid, host_uuid, "
    "instance_offering_uuid FROM vm JOIN resource ON resource.uuid = vm.uuid"
)
NICS = "SELECT uuid, vm_uuid, l3_network_uuid, mac, ip, device_index FROM nic"
HELD = (
    "SELECT resource_uuid, pool_uuid, kind, unit, sum(amount) FROM allocation "
    "WHERE state = 'LIVE' GROUP BY resource_uuid, pool_uuid, kind, unit"
)
KEPT_BACK = "SELECT resource_uuid, pool_uuid, kind, unit FROM allocation WHERE state = 'QUARANTINED'"
POOLS = "SELECT resource_uuid, kind, used FROM pool"
DEBTS = "SELECT host_uuid, resource_uuid FROM cleanup_debt"
TAGS = "SELECT resource_uuid, text FROM tag"

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Books:
    vms: Rows
    nics: Rows
    held: Rows
    kept_back: Rows
    pools: Rows
    debts: Rows
    tags: Rows
    open_jobs: Rows
    claims: Rows
    on_hosts: Rows

    def check(self) -> None:
        """Asserts that nothing is lost, leaked or counted twice; what is kept back is owed."""
        assert self.open_jobs == [] and self.claims == []
        self._check_pools()
        owed = {resource for _, resource in self.debts}
        assert {row[0] for row in self.kept_back} <= owed
        settled = [row for row in self.vms if row[0] not in owed]
        memory = sorted((r[0], r[1], r[4]) for r in self.held if r[2] == "memory" and r[0] not in owed)
        assert memory == sorted((r[0], r[8], r[4]) for r in settled if r[8])
        cpu = sorted((r[0], r[1], r[4]) for r in self.held if r[2] == "cpu" and r[0] not in owed)
        assert cpu == sorted((r[0], r[8], r[3]) for r in settled if r[8])
        addresses = sorted((r[0], r[1], r[3]) for r in self.held if r[2] == "ip" and r[0] not in owed)
        assert addresses == sorted((r[1], r[2], r[4]) for r in self.nics if r[1] not in owed)

    def drift(self, *, exactly: bool = True) -> Rows:
        """What is on hosts and not recorded like that, or the other way round; ``exactly``: with sizes and NICs."""
        nics: dict[str, list[str]] = {}
        for nic in self.nics:
            nics.setdefault(nic[1], []).append(nic[0])
        recorded = [(r[8], r[0], r[2], r[3], r[4], sorted(nics.get(r[0], []))) for r in self.vms if r[8]]
        there = [row if exactly else row[:3] for row in self.on_hosts]
        here = [row if exactly else row[:3] for row in recorded]
        return [row for row in there if row not in here] + [row for row in here if row not in there]

    def _check_pools(self) -> None:
        sums: dict[tuple[str, str], int] = {}
        for _, pool, kind, unit, amount in self.held:
            if unit is None:
                sums[pool, kind] = sums.get((pool, kind), 0) + int(amount)
        if not self.kept_back:
            assert {(r[0], r[1]): r[2] for r in self.pools if r[2]} == {k: n for k, n in sums.items() if n}

    def quiet(self) -> Books:
        """Without what a change of nothing may change."""
        return replace(self, pools=[row for row in self.pools if row[2]])


def read(cloud: Cloud) -> Books:
    """The books as they are now."""

    def look(tx: Tx) -> dict[str, Rows]:
        def rows(sql: str) -> Rows:
            found = [
                tuple(str(v) if i < 2 and v is not None else v for i, v in enumerate(r))
                for r in tx.execute(text(sql))
            ]
            return sorted(found, key=repr)

        return {
            "vms": [_plain(r) for r in rows(VMS)],
            "nics": [_plain(r) for r in rows(NICS)],
            "held": [(*_plain(r[:4]), int(r[4])) for r in rows(HELD)],
            "kept_back": [_plain(r) for r in rows(KEPT_BACK)],
            "pools": rows(POOLS),
            "debts": rows(DEBTS),
            "tags": rows(TAGS),
            "open_jobs": rows(f"SELECT uuid, api, state FROM job WHERE state IN {OPEN}"),
            "claims": rows("SELECT resource_uuid, job_uuid FROM claim"),
        }

    return Books(**cloud.read(look), on_hosts=inventory(cloud))


def inventory(cloud: Cloud) -> Rows:
    """(host, VM, power, CPUs, bytes, NICs) of everything on simulated hosts."""
    rows: Rows = []
    for host in cloud.list("hosts"):
        rows += [(host["uuid"], *row) for row in on_machine(cloud, host["management_ip"], _runs)]
    return sorted(rows)


def _runs(machine: SimulatedHost) -> Rows:
    rows: Rows = []
    for vm in machine.inventory():
        spec = machine.find(vm.uuid)
        nics = sorted(nic.uuid for nic in spec.spec.nics) if spec else []
        rows.append((vm.uuid, str(vm.power), vm.cpu, vm.memory, nics))
    return rows


def _plain(row: Any) -> tuple[Any, ...]:
    return tuple(value if value is None or isinstance(value, int) else str(value) for value in row)
