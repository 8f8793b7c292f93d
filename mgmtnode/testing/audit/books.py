"""What must be true of the database and the hosts of a cloud in which nothing is going on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mgmtnode.testing.audit.records import Records

OPEN = "('Pending', 'Running', 'RollingBack')"
UNDONE = "('Failed', 'Cancelled')"


def open_jobs(records: Records) -> int:
    """How many jobs have not ended; the rest of this module is about a cloud in which there are none."""
    return int(records.rows(f"SELECT count(*) FROM job WHERE state IN {OPEN}")[0][0])


def findings(records: Records) -> list[str]:
    return [finding for check in CHECKS for finding in check(records)]


def acknowledged(records: Records, jobs: Mapping[str, str]) -> Iterator[str]:
    """``jobs``: what clients were promised, as Idempotency-Key → uuid of the job."""
    known = {
        uuid: (key, state)
        for uuid, key, state in records.rows("SELECT uuid, idempotency_key, state FROM job")
    }
    for key, uuid in jobs.items():
        kept, state = known.get(uuid, (None, None))
        if state is None:
            yield f"I5: the job {uuid} (key {key}) was acknowledged and is not there"
        elif state in OPEN:
            yield f"I5: the job {uuid} (key {key}) was acknowledged and is still {state}"
        elif kept != key:
            yield f"I6: the key {key} was answered with the job {uuid}, which has the key {kept}"


def _jobs_ended(records: Records) -> Iterator[str]:
    for uuid, api, state in records.rows(f"SELECT uuid, api, state FROM job WHERE state IN {OPEN}"):
        yield f"I5: the job {uuid} ({api}) is still {state}"


def _ledger(records: Records) -> Iterator[str]:
    sums = "SELECT pool_uuid, kind, sum(amount), count(*) FROM allocation WHERE unit IS NULL GROUP BY 1, 2"
    held = {(pool, kind): (int(amount), int(number)) for pool, kind, amount, number in records.rows(sums)}
    for pool, kind, *said in records.rows("SELECT resource_uuid, kind, used, allocations FROM pool"):
        if tuple(said) != (counted := held.pop((pool, kind), (0, 0))):
            yield f"I8: the pool {kind} of {pool} says {tuple(said)} (used, allocations), and it is {counted}"
    for (pool, kind), (amount, _) in held.items():
        yield f"I8: {amount} {kind} are allocated from {pool}, which has no such pool"
    for holder, kind, state in records.rows(ORPHANS):
        yield f"I8: {kind} is {state} for {holder}, which does not exist"
    for holder, kind in records.rows("SELECT resource_uuid, kind FROM allocation WHERE state = 'HELD'"):
        yield f"I8: {kind} is still HELD for {holder}, though no job runs"
    for holder, kind in records.rows(UNEXPLAINED):
        yield f"I8: {kind} is quarantined for {holder} without a cleanup debt"


ORPHANS = (
    "SELECT a.resource_uuid, a.kind, a.state FROM allocation a LEFT JOIN resource r ON r.uuid = a.resource_uuid"
    " WHERE r.uuid IS NULL AND a.state <> 'QUARANTINED'"
)
UNEXPLAINED = (
    "SELECT a.resource_uuid, a.kind FROM allocation a LEFT JOIN cleanup_debt d ON d.resource_uuid = a.resource_uuid"
    " WHERE d.uuid IS NULL AND a.state = 'QUARANTINED'"
)


def _memory(records: Records) -> Iterator[str]:
    needed = dict[str, int](
        records.rows("SELECT host_uuid, sum(memory) FROM vm WHERE host_uuid IS NOT NULL GROUP BY host_uuid")
    )
    allocated = dict[str, int](
        records.rows(
            "SELECT pool_uuid, sum(amount) FROM allocation WHERE kind = 'memory' AND state <> 'QUARANTINED'"
            " GROUP BY pool_uuid"
        )
    )
    for host in sorted(needed.keys() | allocated.keys()):
        if needed.get(host, 0) != allocated.get(host, 0):
            yield (
                f"I8: the VMs of host {host} have {needed.get(host, 0)} bytes of memory,"
                f" and {allocated.get(host, 0)} are allocated"
            )


def _addresses(records: Records) -> Iterator[str]:
    for ip, nics in records.rows(
        "SELECT ip, count(*) FROM nic WHERE ip IS NOT NULL GROUP BY ip HAVING count(*) > 1"
    ):
        yield f"I9: {nics} network cards have the address {ip}"
    used = {ip for (ip,) in records.rows("SELECT ip FROM nic WHERE ip IS NOT NULL")}
    taken = dict[str, str](
        records.rows("SELECT unit, state FROM allocation WHERE kind = 'ip' AND unit IS NOT NULL")
    )
    for ip in sorted(used - taken.keys()):
        yield f"I9: the address {ip} is in use and not allocated"
    for ip in sorted(taken.keys() - used):
        if taken[ip] != "QUARANTINED":
            yield f"I9: the address {ip} is {taken[ip]} and no network card has it"
    for ip in sorted(used & {ip for ip, state in taken.items() if state == "QUARANTINED"}):
        yield f"I9: the address {ip} was handed out while it is quarantined"


def hosts(records: Records) -> Iterator[str]:
    """VMs that are not where the database has them. A report of the host may still put that right."""
    recorded = set(
        records.rows("SELECT host.management_ip, vm.uuid FROM vm JOIN host ON host.uuid = vm.host_uuid")
    )
    there = records.on_hosts()
    owed = set(
        records.rows(
            "SELECT host.management_ip, d.resource_uuid FROM cleanup_debt d JOIN host ON host.uuid = d.host_uuid"
        )
    )
    for host, vm in sorted(recorded - there):
        yield f"I10: the database has the VM {vm} on {host}, where it is not"
    for host, vm in sorted(there - recorded - owed):
        yield f"I10: the VM {vm} is on {host}, and the database knows nothing of it"


def _undone(records: Records) -> Iterator[str]:
    """Only creations of what exists nowhere else; of an undone one everything has to be gone."""
    for table, column in (
        ("resource", "uuid"),
        ("vm", "uuid"),
        ("nic", "vm_uuid"),
        ("allocation", "resource_uuid"),
    ):
        kept = " AND t.state <> 'QUARANTINED'" if table == "allocation" else ""
        query = (
            f"SELECT j.uuid, j.state, j.resource_uuid FROM job j JOIN {table} t ON t.{column} = j.resource_uuid"
            f" WHERE j.api LIKE '%%.create' AND j.state IN {UNDONE}{kept}"
        )
        for job, state, resource in records.rows(query):
            yield f"I11: the job {job} is {state}, and left {resource} in the table {table}"


def _revisions(records: Records) -> Iterator[str]:
    query = (
        "SELECT resource_uuid, count(*), min(revision), max(revision) FROM event GROUP BY resource_uuid"
        " HAVING min(revision) <> 1 OR count(*) <> max(revision)"
    )
    for resource, count, low, high in records.rows(query):
        yield f"I12: the events of {resource} are {count} with the revisions {low} to {high}"


def _pools(records: Records) -> Iterator[str]:
    for pool, kind, used, total in records.rows(
        "SELECT resource_uuid, kind, used, total FROM pool WHERE used > total OR used < 0"
    ):
        yield f"I14: {used} of {total} {kind} of {pool} are used"


def _claims(records: Records) -> Iterator[str]:
    query = (
        "SELECT c.resource_uuid, c.job_uuid, j.state FROM claim c LEFT JOIN job j ON j.uuid = c.job_uuid"
        f" WHERE j.uuid IS NULL OR j.state NOT IN {OPEN}"
    )
    for resource, job, state in records.rows(query):
        yield f"I15: {resource} is claimed by the job {job}, which is {state or 'not there'}"


def _slots(records: Records) -> Iterator[str]:
    query = (
        "SELECT s.slot, s.owner, n.state FROM ring_slot s LEFT JOIN mn_node n"
        " ON n.name = s.owner AND n.incarnation = s.incarnation WHERE n.name IS NULL OR n.state <> 'UP'"
    )
    for slot, owner, state in records.rows(query):
        yield f"I1: slot {slot} is owned by {owner or 'nobody'}, which is {state or 'not there'}"


Check = Callable[[Records], Iterator[str]]
CHECKS: tuple[Check, ...] = (
    _jobs_ended, _ledger, _memory, _addresses, hosts, _undone, _revisions, _pools, _claims,
)  # fmt: skip


def slots(records: Records) -> list[str]:
    """That every slot belongs to a node that is up: true of a cluster at rest, and not of one that was stopped."""
    return list(_slots(records))


def moving(records: Records) -> list[str]:
    """The slots that are still to be handed to another node."""
    query = "SELECT slot, owner, target FROM ring_slot WHERE target IS NOT NULL AND target <> owner"
    return [f"slot {slot} of {owner} is to go to {target}" for slot, owner, target in records.rows(query)]
