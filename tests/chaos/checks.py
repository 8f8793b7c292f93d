"""What must hold, read from the clients' history, the database and the hosts, beside what ``testing.audit`` checks."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mgmtnode.testing.audit.audit import POLL, STREAM_SECONDS
from mgmtnode.testing.audit.hosts import powers
from mgmtnode.testing.audit.records import Records
from mgmtnode.testing.local_cluster.subscriber import Subscriber
from tests.chaos.history import LOST, Answered, Asked, Ended, Entry, Saw, of

STEADY = ("Created", "Running", "Paused", "Stopped", "Crashed", "Destroyed")
ON_HOSTS = {"Running": "Running", "Paused": "Paused", "Crashed": "Crashed"}
UNFORESEEN = "core.internal"
PATIENT = ("core.internal", "core.database", "core.overloaded", "core.poison")
"""Of these no job fails that was acknowledged: it waits. (Poison: nothing here kills a node more than once a cycle.)"""


@dataclass
class Promises:
    """What clients heard, by key. ``troubled``: keys that once got a 5xx or no answer; ``settled``: those that got an
    answer that says what became of them."""

    jobs: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    asked: dict[str, Asked] = field(default_factory=dict)
    troubled: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)
    internal: list[Answered] = field(default_factory=list)

    @classmethod
    def of(cls, entries: list[Entry]) -> Promises:
        made = cls()
        for asked in of(Asked, entries):
            made.asked[asked.key] = asked
        for answer in of(Answered, entries):
            made._hear(answer)
        return made

    def _hear(self, answer: Answered) -> None:
        if answer.status == 500 or answer.code == UNFORESEEN:
            self.internal.append(answer)
        if answer.key not in self.asked:
            return
        if answer.job:
            self.jobs[answer.key].add(answer.job)
        if answer.status == LOST or answer.status >= 500:
            self.troubled.add(answer.key)
        if 200 <= answer.status < 500 and answer.status != 429:
            self.settled.add(answer.key)

    @property
    def acknowledged(self) -> dict[str, str]:
        return {key: next(iter(jobs)) for key, jobs in self.jobs.items()}


def of_history(entries: list[Entry], records: Records) -> Iterator[str]:
    promises = Promises.of(entries)
    for key, jobs in promises.jobs.items():
        if len(jobs) > 1:
            yield f"I6: the key {key} was answered with the jobs {sorted(jobs)}"
    for answer in promises.internal:
        yield f"I18: {answer.key} was answered with {answer.status} {answer.code}"
    for key in promises.troubled - promises.settled:
        yield f"I18: what became of {key} was never known"
    yield from _ends(entries, records)
    yield from _shown(entries, records)


def _ends(entries: list[Entry], records: Records) -> Iterator[str]:
    """What a client was told of the end of a job is what the database says."""
    states: dict[str, str] = dict(records.rows("SELECT uuid, state FROM job"))
    for told in of(Ended, entries):
        if states.get(told.job) != told.state:
            yield f"I4: a client was told that the job {told.job} is {told.state}, and it is {states.get(told.job)}"


def _shown(entries: list[Entry], records: Records) -> Iterator[str]:
    """A tenant is shown its own VMs only. The accounts are those of the jobs that made them."""
    owners: dict[str, str] = dict(
        records.rows(
            "SELECT j.resource_uuid, r.name FROM job j JOIN resource r ON r.uuid = j.account_uuid"
            " WHERE j.api = 'vm.create'"
        )
    )
    for saw in of(Saw, entries):
        if saw.account == "admin":
            continue
        for uuid in saw.resources:
            if owners.get(uuid) != saw.account:
                yield f"I19: {saw.account} was shown {uuid} of {owners.get(uuid)}"


def of_listeners(records: Records, listeners: Mapping[str, Subscriber]) -> Iterator[str]:
    """A tenant hears each event of its account, and none of another's."""
    told: dict[str, set[str]] = defaultdict(set)
    query = (
        "SELECT r.name, e.xid || '-' || e.seq FROM event e JOIN resource r ON r.uuid = e.account_uuid"
        " WHERE r.type = 'account'"
    )
    for account, event in records.rows(query):
        told[account].add(event)
    for account, listener in listeners.items():
        until = time.monotonic() + STREAM_SECONDS
        while (missing := listener.missing(told[account])) and time.monotonic() < until:
            time.sleep(POLL)
        yield from (f"I13: {account} did not hear its event {event}" for event in missing)
        yield from (f"I19: {account} heard the event {event}" for event in listener.seen - told[account])


def of_database(records: Records) -> Iterator[str]:
    """Of a cloud in which nothing is going on."""
    for uuid, api, code, error in records.rows(
        "SELECT uuid, api, error::json ->> 'code', error::text FROM job WHERE state = 'Failed'"
    ):
        if code.startswith(PATIENT):
            yield f"I18: the job {uuid} ({api}) failed of {error}"
    for account, key, count in records.rows(
        "SELECT account_uuid, idempotency_key, count(*) FROM job WHERE idempotency_key IS NOT NULL"
        " GROUP BY 1, 2 HAVING count(*) > 1"
    ):
        yield f"I6: the key {key} of {account} became {count} jobs"


def of_hosts(records: Records, agents_url: str) -> Iterator[str]:
    """What is recorded of a VM is what its host says of it, and only its host knows it."""
    names: dict[str, str] = dict(records.rows("SELECT uuid, management_ip FROM host"))
    found = powers(agents_url, names.values())
    owed = {resource for (resource,) in records.rows("SELECT resource_uuid FROM cleanup_debt")}
    for uuid, state, host in records.rows("SELECT uuid, state, host_uuid FROM vm"):
        there = {address: power for (address, vm), power in found.items() if vm == uuid}
        wanted = {names[host]: ON_HOSTS[state]} if state in ON_HOSTS and host else {}
        if there != wanted and uuid not in owed:
            yield f"I10: the VM {uuid} is recorded as {state} on {names.get(host)}, and hosts say {there or 'nothing'}"


def left_over(records: Records) -> Iterator[str]:
    """What is not at rest, for who looks for the reason."""
    for query in (
        "SELECT 'job', uuid, api, resource_uuid, state, owner_node, slot, fence, step, cancel_requested, deadline_at,"
        " accepted_at, started_at FROM job WHERE state IN ('Pending', 'Running', 'RollingBack')",
        "SELECT 'host', uuid, management_ip, state, status FROM host WHERE status <> 'Connected'",
        f"SELECT 'vm', uuid, state, host_uuid FROM vm WHERE state NOT IN {STEADY}",
        "SELECT 'debt', host_uuid, resource_uuid, job_uuid, reason, created_at FROM cleanup_debt",
        "SELECT 'node', name, incarnation, state FROM mn_node",
    ):
        yield from (f"  left over: {' '.join(map(str, row))}" for row in records.rows(query))


def unsettled(records: Records) -> str:
    """What may still be mended by itself; empty if nothing."""
    for query, what in (
        ("SELECT count(*) FROM host WHERE status <> 'Connected'", "hosts are not connected"),
        (f"SELECT count(*) FROM vm WHERE state NOT IN {STEADY}", "VMs are on their way to another state"),
        ("SELECT count(*) FROM cleanup_debt", "clean-ups are owed"),
        (
            "SELECT count(*) FROM mn_node WHERE state NOT IN ('UP', 'LEFT', 'EVICTED')",
            "nodes are on their way",
        ),
    ):
        if count := records.rows(query)[0][0]:
            return f"{count} {what}"
    return ""
