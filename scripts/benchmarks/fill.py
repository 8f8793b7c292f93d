"""Rows of large installations, put directly into PostgreSQL: a million VMs through the API would take a day."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg2
from sqlalchemy import make_url

from mgmtnode.jobs.job import SYSTEM_ACCOUNT
from scripts.benchmarks.cloud import GIB, Cloud

CPU, MEMORY = 128, 1024 * GIB
VERSION = "simulator 1"
HOST, VM, NIC, TAG = "8001", "8002", "8003", "8004"
"""Groups of a uuid, by what it is of; the last group is the number."""


def uuid_of(kind: str, number: int) -> str:
    return f"00000000-0000-7000-{kind}-{number:012x}"


def _uuid(kind: str, number: str) -> str:
    """The same as SQL."""
    return f"('00000000-0000-7000-{kind}-' || lpad(to_hex({number}), 12, '0'))::uuid"


@dataclass(frozen=True)
class Filling:
    """Rows below ``cloud``, which has a zone, a network, an IP range and clusters already."""

    url: str
    cloud: Cloud

    def hosts(self, count: int, *, state: str = "Enabled", first: int = 0) -> None:
        """``sim-N`` at management address ``sim-N``, whose agent says of itself that it is ``sim-N``."""
        clusters = ", ".join(f"'{uuid}'" for uuid in self.cloud.clusters)
        self._core("host", HOST, "host", first, count)
        self._run(
            f"""INSERT INTO host (uuid, cluster_uuid, zone_uuid, management_ip, hypervisor, parameters, state, status,
                cpu, memory, version, identity)
            SELECT {_uuid(HOST, "n")}, (ARRAY[{clusters}]::uuid[])[1 + n % {len(self.cloud.clusters)}],
                '{self.cloud.zone}', 'sim-' || n, 'simulator', '{{"cpu":{CPU},"memory":{MEMORY}}}', '{state}',
                'Connected', {CPU}, {MEMORY}, '{VERSION}', 'sim-' || n
            FROM generate_series({first}, {first + count - 1}) n"""
        )

    def vms(self, count: int, hosts: int, *, first: int = 0) -> None:
        """Stopped, though on a host; one in a hundred has a tag."""
        clusters = ", ".join(f"'{uuid}'" for uuid in self.cloud.clusters)
        host = f"(n::bigint * 7919 % {hosts})::int"
        self._core("vm", VM, "vm", first, count)
        self._run(
            f"""INSERT INTO vm (uuid, state, cpu, memory, hypervisor, zone_uuid, cluster_uuid, host_uuid)
            SELECT {_uuid(VM, "n")}, 'Stopped', 1 + n % 8, {GIB}, 'simulator', '{self.cloud.zone}',
                (ARRAY[{clusters}]::uuid[])[1 + {host} % {len(self.cloud.clusters)}], {_uuid(HOST, host)}
            FROM generate_series({first}, {first + count - 1}) n"""
        )
        self._run(
            f"""INSERT INTO tag (uuid, resource_uuid, resource_type, kind, text, inherent, created_at)
            SELECT {_uuid(TAG, "n")}, {_uuid(VM, "n")}, 'vm', 'user', 'team-' || n % 1000, false, now()
            FROM generate_series({first}, {first + count - 1}) n WHERE n % 100 = 0"""
        )

    def nics(self, count: int, vms: int) -> None:
        """Each with an address of the network, from 10.0.0.0 up, on the VMs in turn."""
        self._core("nic", NIC, "nic", 0, count)
        self._run(
            f"""INSERT INTO nic (uuid, vm_uuid, l3_network_uuid, ip_range_uuid, mac, ip, ip_number, device_index)
            SELECT {_uuid(NIC, "n")}, {_uuid(VM, f"n % {vms}")}, '{self.cloud.network}', '{self.cloud.ip_range}',
                'fa:' || regexp_replace(lpad(to_hex(n), 10, '0'), '(..)(?!$)', '\\1:', 'g'),
                host('10.0.0.0'::inet + n), 167772160 + n, n / {vms}
            FROM generate_series(0, {count - 1}) n"""
        )

    def analyze(self) -> None:
        """Autovacuum does it within a minute; the benchmark does not wait for it."""
        self._run("VACUUM ANALYZE")

    def _core(self, type_: str, kind: str, name: str, first: int, count: int) -> None:
        self._run(
            f"""INSERT INTO resource (uuid, type, name, description, account_uuid, created_at, updated_at)
            SELECT {_uuid(kind, "n")}, '{type_}', '{name}-' || n, '', '{SYSTEM_ACCOUNT}',
                '2026-01-01'::timestamptz + n * interval '1 second', now()
            FROM generate_series({first}, {first + count - 1}) n"""
        )

    def _run(self, statement: str) -> None:
        plain = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        connection = psycopg2.connect(plain)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
        connection.close()
