"""What must hold once everything is quiet, read from the database and from the hosts: the names are those of the
cluster protocol. What must hold always is checked as it happens (``watch``, and the rack)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from mgmtnode.agents.port import OLD, REUSED, STALE
from mgmtnode.errors import INTERNAL
from mgmtnode.testing.simulation.world import World
from tests.simulation.clients import Clients
from tests.simulation.rack import Rack

OPEN = "('Pending', 'Running', 'RollingBack')"
TERMINAL = ("Succeeded", "Failed", "Cancelled")
ALIVE = ("Running", "Paused")
COLLIDES = "the change collides with another one"  # a constraint of the database that nobody thought of
REFUSED = (STALE.id, OLD.id, REUSED.id)  # what hosts tell who is not the owner any more, and nobody else
BEHIND = " is behind "  # how they say it
ENDS = {
    "vm.create": "Running",
    "vm.start": "Running",
    "vm.reboot": "Running",
    "vm.resume": "Running",
    "vm.pause": "Paused",
    "vm.stop": "Stopped",
    "vm.recover": "Stopped",
}


class Watch:
    """Hears every committed change of a job or a slot, and says at once what is wrong with it."""

    def __init__(self, world: World) -> None:
        assert isinstance(world.hosts, Rack)
        self._world, self._hosts = world, world.hosts
        self._runs: dict[str, str] = {}
        self._last: dict[str, tuple[int, str]] = {}
        self._ended: set[str] = set()
        self.accepted = 0
        self.takeovers: list[float] = []  # seconds from a kill until others had the slots of the dead

    def __call__(self, writer: str, fact: tuple[Any, ...]) -> None:
        getattr(self, f"_{fact[0]}")(writer, *fact[1:])

    def _accepted(self, writer: str, uuid: str, resource: str, api: str, seq: int, account: str) -> None:
        self.accepted += 1
        self._world.trace("database", f"job {_short(uuid)} {api} of {_short(resource)} is accepted as {seq}")

    def _moved(self, writer: str, uuid: str, resource: str, api: str, seq: int, *change: Any) -> None:
        old, new, fence, owner = change
        self._world.trace(writer, f"job {_short(uuid)} {api} is {new}, fence {fence}")
        if uuid in self._ended:
            self._world.fail(f"I4 job {uuid} had ended and is {new} now")
        if old == "Pending" and new == "Running":
            if writer != owner:
                self._world.fail(f"I2 job {uuid} was claimed by {writer}, its slot is {owner}'s")
            self._begin(uuid, resource, seq)
        if new in TERMINAL:
            self._ended.add(uuid)
            self._hosts.check_holdings()
            if self._runs.get(resource) == uuid:
                del self._runs[resource]

    def _begin(self, uuid: str, resource: str, seq: int) -> None:
        other = self._runs.get(resource)
        if other is not None:
            self._world.fail(f"I7 job {uuid} begins while {other} runs on {resource}")
        last = self._last.get(resource)
        if last is not None and last[0] > seq:
            self._world.fail(f"I7 job {uuid} ({seq}) begins after {last[1]} ({last[0]}) on {resource}")
        self._runs[resource] = uuid
        self._last[resource] = (seq, uuid)

    def _wrote(self, writer: str, uuid: str, fence: int, epoch: int, owner: str) -> None:
        if writer != owner or fence < epoch:
            self._world.fail(
                f"I2 job {uuid}: {writer} writes under fence {fence}, its slot is {owner}'s at {epoch}"
            )

    def _gave(self, writer: str, slot: int, owner: str, heir: str) -> None:
        world = self._world
        world.trace.once(writer, f"slots of {owner} go to {heir}")
        machine = world.machines.get(owner)
        if machine is not None and machine.life is None and machine.killed_at is not None:
            self.takeovers.append(world.loop.time() - machine.killed_at)

    def _owed(self, writer: str, host: str, resource: str, reason: str) -> None:
        self._world.trace(writer, f"{_short(host)} owes to clean up {_short(resource)}: {reason}")
        if BEHIND in reason:
            self._world.fail(f"I17 the owner of a job on {resource} was refused by {host}: {reason}")

    def _paid(self, writer: str, host: str, resource: str) -> None:
        self._world.trace(writer, f"{_short(host)} owes nothing more for {_short(resource)}")

    def _slot(self, writer: str, slot: int, *change: Any) -> None:
        self._world.fail(f"I1 {writer} changed slot {slot} from (owner, epoch) {change[:2]} to {change[2:]}")


class Books:
    """Everything as it is now."""

    def __init__(self, world: World) -> None:
        assert isinstance(world.hosts, Rack)
        rows = world.server.rows
        self.hosts = dict(rows("SELECT resource.uuid, name FROM host JOIN resource USING (uuid)"))
        self.vms = {
            row[0]: row[1:]
            for row in rows("SELECT uuid, state, host_uuid, cpu, memory FROM vm ORDER BY uuid")
        }
        self.nics = rows("SELECT vm_uuid, l3_network_uuid, ip FROM nic")
        self.held = rows("SELECT resource_uuid, pool_uuid, kind, unit, amount, state FROM allocation")
        self.pools = rows("SELECT resource_uuid, kind, used, total FROM pool")
        self.debts = rows("SELECT host_uuid, resource_uuid, reason FROM cleanup_debt")
        self.resized_in_vain = {
            row[0]
            for row in rows(
                "SELECT resource_uuid FROM job WHERE api = 'vm.resize' AND state IN ('Failed', 'Cancelled')"
            )
        }
        self.excused = world.hosts.excused
        known = {name: uuid for uuid, name in self.hosts.items()}
        self.there = [
            (known.get(name, name), vm.uuid, str(vm.power), vm.cpu, vm.memory)
            for name in world.hosts.names
            for vm in world.hosts.agent(name).host.inventory()
        ]

    def wrong(self) -> Iterator[str]:
        yield from self._ledger()
        yield from self._sums()
        yield from self._hosts()

    def unsettled(self) -> Iterator[str]:
        """What may still be mended by itself."""
        for host, resource, reason in self.debts:
            yield f"I8 {self.hosts.get(host, host)} owes to clean up {resource}: {reason}"
        for uuid, (state, *_) in self.vms.items():
            if state not in (*ALIVE, "Stopped", "Crashed", "Created", "Destroyed"):
                yield f"I10 VM {uuid} is left {state}"

    def _ledger(self) -> Iterator[str]:
        live = [
            (r[0], r[1], r[2], r[4]) for r in self.held if r[2] in ("memory", "cpu") and r[1] in self.hosts
        ]
        right = [
            (uuid, host, kind, amount)
            for uuid, (_, host, cpu, memory) in self.vms.items()
            if host
            for kind, amount in (("cpu", cpu), ("memory", memory))
        ]
        yield from _differences("I8 reserved on hosts", _sum(live), _sum(right))
        addresses = [(r[0], r[1], r[3], 1) for r in self.held if r[2] == "ip"]
        yield from _differences("I8 addresses", _sum(addresses), _sum([(*nic, 1) for nic in self.nics]))
        quotas = [(r[0], r[2], r[4]) for r in self.held if r[2].startswith("vm.")]
        owned = [
            (uuid, kind, amount)
            for uuid, (_, _, cpu, memory) in self.vms.items()
            for kind, amount in (("vm.num", 1), ("vm.cpu", cpu), ("vm.memory", memory))
        ]
        if quotas:
            yield from _differences("I8 quotas", _sum(quotas), _sum(owned))
        units = [(r[1], r[3]) for r in self.held if r[3] is not None]
        if len(units) != len(set(units)):
            yield f"I9 an address is held twice: {sorted(units)}"
        for row in self.held:
            if row[5] == "QUARANTINED" and not any(debt[1] == row[0] for debt in self.debts):
                yield f"I8 {row} is kept back and nobody owes it"

    def _sums(self) -> Iterator[str]:
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for _, pool, kind, unit, amount, _ in self.held:
            if unit is None:
                sums[pool, kind] += amount
        for pool, kind, used, total in self.pools:
            if used != sums.pop((pool, kind), 0):
                yield f"I8 pool {pool} {kind} says {used} are used"
            if used > total:
                yield f"I14 pool {pool} {kind}: {used} of {total}"

    def _hosts(self) -> Iterator[str]:
        """I10: each VM that lives is on its host, and only there; what does not live is nowhere."""
        there: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for host, uuid, power, cpu, memory in self.there:
            there[uuid].append((host, power, cpu, memory))
        for uuid, (state, host, *size) in self.vms.items():
            if uuid in self.excused:
                continue
            found = there.pop(uuid, [])
            wanted = [(host, state)] if state in (*ALIVE, "Crashed") else []
            if [entry[:2] for entry in found] != wanted:
                yield f"I10 VM {uuid} is recorded as {wanted or state}, hosts say {found}"
            elif found and state in ALIVE and not self._fits(uuid, size, found[0][2:]):
                yield f"I10 VM {uuid} is recorded with {size}, its host gave it {found[0][2:]}"
        for uuid in sorted(there.keys() - self.excused):
            found = there[uuid]
            yield f"I10 VM {uuid} is nobody's and runs: {found}"

    def _fits(self, uuid: str, recorded: list[int], real: tuple[int, int]) -> bool:
        """A resize that failed may leave the record, and what is held, above what the VM has: never below."""
        if uuid in self.resized_in_vain:
            return all(mine >= its for mine, its in zip(recorded, real, strict=True))
        return tuple(recorded) == real


def at_the_end(world: World, clients: Clients) -> Iterator[str]:
    """What is wrong, now that all is quiet."""
    rows = world.server.rows
    for uuid, api, state in rows(f"SELECT uuid, api, state FROM job WHERE state IN {OPEN}"):
        yield f"I16 job {uuid} {api} is still {state}"
    for resource, job in rows("SELECT resource_uuid, job_uuid FROM claim"):
        yield f"I15 {resource} is still claimed by {job}"
    for resource, count, last in rows(
        "SELECT resource_uuid, count(*), max(revision) FROM event GROUP BY resource_uuid"
        " HAVING count(*) <> max(revision)"
    ):
        yield f"I12 {resource} has {count} events up to revision {last}"
    for job, ends in rows(
        f"SELECT uuid, (SELECT count(*) FROM event WHERE resource_uuid = job.uuid AND name = 'job.ended')"
        f" FROM job WHERE state NOT IN {OPEN}"
    ):
        if ends != 1:
            yield f"I12 the end of job {job} was told {ends} times"
    for job, api, error in rows("SELECT uuid, api, error FROM job WHERE error IS NOT NULL"):
        code = msgspec.json.decode(error)["code"]
        if code in REFUSED:
            yield f"I17 job {job} {api}, though its owner's to run, was refused by its host: {error}"
        if code == INTERNAL.id or COLLIDES in error:
            yield f"I18 job {job} {api} ended in {error}"
    yield from _changes(world)
    yield from _promises(world, clients)
    books = Books(world)
    yield from books.unsettled()
    yield from books.wrong()
    yield from _results(books, clients, world)


def _changes(world: World) -> Iterator[str]:
    """I12: each change of a VM's state goes on from where the one before led to."""
    state: dict[str, str] = {}
    for vm, body in world.server.rows(
        "SELECT resource_uuid, body FROM event WHERE name = 'vm.state-changed' ORDER BY resource_uuid, revision"
    ):
        change = msgspec.json.decode(body)
        if state.get(vm, change["before"]) != change["before"]:
            yield f"I12 VM {vm} went from {change['before']}, and was {state[vm]}"
        state[vm] = change["after"]
    for vm, recorded in world.server.rows("SELECT uuid, state FROM vm"):
        if state.get(vm, recorded) != recorded:
            yield f"I12 VM {vm} is {recorded}, and its events say {state[vm]}"


def _promises(world: World, clients: Clients) -> Iterator[str]:
    known = dict(world.server.rows("SELECT uuid, state FROM job"))
    by_key = dict(world.server.rows("SELECT idempotency_key, count(*) FROM job GROUP BY idempotency_key"))
    for promise in clients.promises:
        if len(promise.jobs) > 1 or by_key.get(promise.key, 0) > 1:
            yield f"I6 {promise.key} became the jobs {sorted(promise.jobs)}"
        for uuid in promise.jobs:
            if uuid not in known:
                yield f"I5 job {uuid} of {promise.key} was acknowledged and is not there"


def _results(books: Books, clients: Clients, world: World) -> Iterator[str]:
    """What a client was told last of a VM is what there is, unless something happened to the VM from below."""
    rows = world.server.rows(
        "SELECT resource_uuid, api, state, payload FROM job"
        " WHERE resource_type = 'vm' AND state <> 'Cancelled' ORDER BY seq"
    )
    last = {resource: (api, state, msgspec.json.decode(payload)) for resource, api, state, payload in rows}
    for resource, (api, state, asked) in last.items():
        found = books.vms[resource][0] if resource in books.vms else None
        if api == "vm.create" and state == "Failed" and found:
            yield f"I11 the create of {resource} failed and it is there"
        if api in ("vm.delete", "vm.expunge") and state == "Succeeded" and found not in (None, "Destroyed"):
            yield f"I11 {resource} was destroyed and is {found}"
        wanted = "Stopped" if asked.get("start") is False else ENDS.get(api)
        if state == "Succeeded" and wanted and found != wanted:
            yield f"I10 the {api} of {resource} succeeded and it is {found}"


def _sum(rows: list[Any]) -> dict[Any, int]:
    sums: dict[Any, int] = defaultdict(int)
    for *key, amount in rows:
        sums[tuple(key)] += amount
    return {key: amount for key, amount in sums.items() if amount}


def _differences(what: str, found: dict[Any, int], right: dict[Any, int]) -> Iterator[str]:
    for key in sorted({*found, *right}, key=repr):
        if found.get(key) != right.get(key):
            yield f"{what}: {key} holds {found.get(key, 0)}, {right.get(key, 0)} is right"


def _short(uuid: str) -> str:
    return uuid[-6:]
