"""The guards of the protocol, each switched off: the checks must notice. Here only, never in the product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

from sqlalchemy import bindparam, literal, or_, select, text, update
from sqlalchemy.dialects import sqlite

from mgmtnode.agents.port import Command
from mgmtnode.agents.register import CommandRegister
from mgmtnode.agents.repository import Record
from mgmtnode.bus import calls, inbox
from mgmtnode.cluster import repository as cluster
from mgmtnode.cluster.gate import GatedAgents
from mgmtnode.cluster.lease import Lease
from mgmtnode.cluster.membership import Membership
from mgmtnode.cluster.records import NodeState
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import claim
from mgmtnode.errors import Problem
from mgmtnode.jobs import ledger
from mgmtnode.jobs import repository as jobs
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.jobs.runner import Runner
from mgmtnode.testing.simulation.database import DatabaseServer
from mgmtnode.workflow.engine import FlowRun
from mgmtnode.workflow.journal import JobJournal
from mgmtnode.workflow.recovery import Recovery
from mgmtnode.workflow.rollback import Rollback
from services.host import watcher
from services.host.debts import HostDebts

Change = tuple[Any, str, Any]
STALE = timedelta(seconds=3)


@dataclass(frozen=True)
class Mutant:
    """``changes`` are made anew for each schedule. ``second_line``: what it guards is guarded by something else, too,
    so that the checks cannot miss it (docs/adr/0017)."""

    what: str
    changes: Callable[[], list[Change]]
    second_line: bool = False


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """While it lasts, the guard ``name`` is off. An empty name changes nothing."""
    with ExitStack() as stack:
        for owner, attribute, value in MUTANTS[name].changes() if name else ():
            stack.enter_context(mock.patch.object(owner, attribute, value))
        yield


# agents


def _no_memory() -> list[Change]:
    async def work(self: CommandRegister, record: Record, command: Command) -> None:
        await self._save(record, order=command.order, state="STARTED", action=command.action, outcome=None)
        await self._finish(record, await self._perform(command), command.fence)

    return [(Record, "finished", property(lambda self: False)), (CommandRegister, "_work", work)]


def _no_order() -> list[Change]:
    def admit(self: CommandRegister, command: Command) -> Record:
        return self._raise_fence(self._unfenced(command.resource, command.fence), command.fence)

    return [(CommandRegister, "_admit", admit)]


def _no_fence() -> list[Change]:
    def unfenced(self: CommandRegister, resource: str, fence: int) -> Record:
        return self._records.get(resource) or Record(resource)

    return [(CommandRegister, "_unfenced", unfenced)]


# jobs


def _no_seal() -> list[Change]:
    async def seal(self: Recovery) -> None:
        return None

    return [(Recovery, "_seal", seal)]


def _rollback_not_written() -> list[Change]:
    async def back(self: FlowRun, failed: int, problem: Problem) -> None:
        from mgmtnode.jobs.ending import ended_as

        await self.undo(min(failed, len(self._flow.steps) - 1), problem, ended_as(problem))

    return [(FlowRun, "back", back), (JobJournal, "undone", lambda self, tx: None)]


def _no_cas() -> list[Change]:
    always = or_(jobs.job.c.fence == bindparam("held"), jobs.job.c.state == bindparam("was"), text("1"))
    any_ = update(jobs.job).where(jobs._THIS, always)
    write, end = any_.returning(jobs.job.c.cancel_requested), any_.returning(*jobs.VIEW)
    return [(jobs, "WRITE", write), (jobs, "END", {"sqlite": end})]


def _no_share_lock() -> list[Change]:
    """The claim reads its slot a moment before: what FOR SHARE keeps a takeover from doing in between."""
    real, seen = JobRepository.epoch, dict[tuple[int, str, int], tuple[int, datetime]]()

    def epoch(self: JobRepository, tx: Tx, slot: int, owner: str, incarnation: int) -> int | None:
        found = real(self, tx, slot, owner, incarnation)
        key = slot, owner, incarnation
        if found is not None:
            seen[key] = found, tx.now
        elif key in seen and tx.now - seen[key][1] < STALE:
            return seen[key][0]
        return found

    return [(JobRepository, "epoch", epoch)]


def _no_claim() -> list[Change]:
    row = {"resource_uuid": bindparam("here"), "job_uuid": bindparam("this"), "fence": bindparam("epoch")}
    anew = sqlite.insert(claim).values(row)
    over = {"fence": anew.excluded.fence, "job_uuid": anew.excluded.job_uuid}
    return [(jobs, "HOLD", anew.on_conflict_do_update(index_elements=["resource_uuid"], set_=over))]


def _no_turns() -> list[Change]:
    return [(jobs, "LOOK", select(*jobs.ROW, literal(False)).where(jobs._THIS))]


def _no_turns_no_claim() -> list[Change]:
    return [*_no_turns(), *_no_claim()]


def _no_key() -> list[Change]:
    """A retry is not recognised, and nothing in the database keeps it out."""
    real = JobRepository.insert

    def insert(self: JobRepository, tx: Tx, values: dict[str, Any]) -> int | None:
        return real(self, tx, values | {"idempotency_key": None})

    return [(JobRepository, "by_key", lambda self, tx, account, key: None), (JobRepository, "insert", insert)]


# the cluster


def _no_gate() -> list[Change]:
    async def gate(self: Lease) -> None:
        return None

    return [(Lease, "gate", gate)]


def _no_refencing() -> list[Change]:
    return [(cluster, "fence_open_jobs", lambda tx, slots: None)]


def _no_new_epochs() -> list[Change]:
    def give(tx: Tx, slots: list[int], name: str, incarnation: int) -> None:
        if slots:
            values = {"owner": name, "incarnation": incarnation, "target": None}
            which = cluster.ring_slot.c.slot.in_(slots)
            tx.execute(cluster.update(cluster.ring_slot).where(which).values(values))

    return [(cluster, "give", give)]


def _no_dedup() -> list[Change]:
    return [(inbox.Answered, "__contains__", lambda self, id: False)]


# the books


def _no_unique_address() -> list[Change]:
    real = DatabaseServer.restore

    def restore(self: DatabaseServer, saved: Any) -> None:
        real(self, saved)
        self.script("DROP INDEX uq_allocation_pool_unit")
        self.script("DROP INDEX uq_nic_l3_network_uuid_ip_number")

    return [(DatabaseServer, "restore", restore)]


def _no_quarantine() -> list[Change]:
    return [(ledger, "quarantine", lambda tx, holder: None)]


def _no_debts() -> list[Change]:
    return [(ledger, "owe", lambda tx, host, holder, *, job_uuid, reason: None), *_no_quarantine()]


# bugs that the simulation found, put back


def _jobs_wait_for_each_other() -> list[Change]:
    async def earlier_first(self: Runner, resource_uuid: str, uuid: str) -> None:
        for earlier in await self._parts.db.read(lambda tx: self._jobs.before(tx, resource_uuid, uuid)):
            if earlier not in self._known:
                await self._run_once(earlier, resource_uuid)

    return [(Runner, "_earlier_first", earlier_first)]


def _evicted_nodes_answer() -> list[Change]:
    async def gate(self: GatedAgents) -> None:
        await self._lease.gate()

    return [(GatedAgents, "_gate", gate)]


def _lost_replies() -> list[Change]:
    return [(calls, "REMIND_SECONDS", 100_000.0)]


def _register_again() -> list[Change]:
    async def enter(self: Membership) -> None:
        await self._change((NodeState.JOINING,), NodeState.UP)

    return [(Membership, "enter", enter)]


def _what_was_left_is_given_back() -> list[Change]:
    return [(HostDebts, "_left", lambda self, tx, resource_uuid: [])]


def _given_back_and_restored() -> list[Change]:
    return [(ledger, "FREE_UNIT", {"sqlite": ledger.Free(ledger.FREE_UNIT["sqlite"].gone)})]


def _hosts_go_while_vms_come() -> list[Change]:
    return [(ledger, "holders", lambda tx, pool_uuid: [])]


def _looked_for_again_and_again() -> list[Change]:
    return [(ledger, "HELD_STILL", ledger.HELD)]


def _attempts_begin_anew() -> list[Change]:
    return [(Rollback, "_seen", lambda self, exc, order: 0)]


def _hosts_are_taken_over_in_the_next_round() -> list[Change]:
    return [(watcher, "outlast", lambda attempt, slow_attempts: attempt())]


def _what_was_recorded_is_all() -> list[Change]:
    return [(Recovery, "_furthest", lambda self, start: start)]


def _hosts_that_are_away_count_as_asked() -> list[Change]:
    return [(FlowRun, "unsealed", property(lambda self: False, lambda self, value: None))]


MUTANTS: dict[str, Mutant] = {
    "memory": Mutant("agents do not remember results", _no_memory),
    "order": Mutant("agents do not refuse old orders", _no_order),
    "fence": Mutant("agents do not refuse stale fences", _no_fence),
    "fence+order": Mutant("neither", lambda: [*_no_fence(), *_no_order()]),
    "seal": Mutant("a takeover does not seal hosts", _no_seal),
    "rollback": Mutant("a rollback is not written down before it begins", _rollback_not_written),
    "cas": Mutant("writes of running jobs compare nothing", _no_cas),
    "share": Mutant("a claim does not lock its slot", _no_share_lock),
    "claim": Mutant("no row says which job has a resource", _no_claim, second_line=True),
    "turns": Mutant("a job does not wait for earlier ones", _no_turns),
    "turns+claim": Mutant("neither", _no_turns_no_claim),
    "key": Mutant("idempotency keys are ignored", _no_key),
    "gate": Mutant("no lease stops a node", _no_gate, second_line=True),
    "share+gate": Mutant(
        "a claim does not lock its slot, and no lease stops it", lambda: [*_no_share_lock(), *_no_gate()]
    ),
    "refence+gate": Mutant(
        "open jobs are not fenced, and no lease stops a node", lambda: [*_no_refencing(), *_no_gate()]
    ),
    "rollback+order": Mutant(
        "rollbacks not written, old orders not refused", lambda: [*_rollback_not_written(), *_no_order()]
    ),
    "refence": Mutant("a takeover does not fence open jobs", _no_refencing),
    "epoch": Mutant("slots change hands without a new epoch", _no_new_epochs),
    "dedup": Mutant("calls that come again run again", _no_dedup, second_line=True),
    "address": Mutant("no index keeps addresses unique", _no_unique_address),
    "quarantine": Mutant("what may be in use is handed out", _no_quarantine),
    "debts": Mutant("what could not be undone is forgotten", _no_debts),
    "bug 1": Mutant("two jobs announced in the wrong order wait for ever", _jobs_wait_for_each_other),
    "bug 2": Mutant("evicted nodes fail the jobs of others", _evicted_nodes_answer),
    "bug 3": Mutant("replies that got lost are not asked for again", _lost_replies),
    "bug 7": Mutant("who does not hear that it has entered takes itself for evicted", _register_again),
    "bug 10": Mutant("a VM gets back what it held of hosts it has left", _what_was_left_is_given_back),
    "bug 14": Mutant("an address given back meanwhile is held again", _given_back_and_restored),
    "bug 15": Mutant("a host may go while a VM comes to it", _hosts_go_while_vms_come),
    "bug 16": Mutant("a VM on neither of two hosts is looked for for ever", _looked_for_again_and_again),
    "bug 17": Mutant("hosts refuse the undo of who took over", _attempts_begin_anew),
    "bug 20": Mutant("who takes over undoes what is recorded only", _what_was_recorded_is_all),
    "bug 21": Mutant("hosts that are away count as asked", _hosts_that_are_away_count_as_asked),
    "bug 19": Mutant("who could not look takes hosts over later", _hosts_are_taken_over_in_the_next_round),
}
