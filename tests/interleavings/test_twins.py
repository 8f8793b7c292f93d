"""What the simulation stands on does what production stands on does: operation by operation, and row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import bindparam
from sqlalchemy.dialects import sqlite

from mgmtnode.bus.message import ApiJob
from mgmtnode.cluster import repository as cluster
from mgmtnode.db.tables import claim
from mgmtnode.errors import ApiError
from mgmtnode.jobs import repository as jobs
from mgmtnode.jobs.job import Job
from mgmtnode.ring.slots import slot_of
from mgmtnode.testing.servers import PostgresServer
from tests.interleavings import operations as op
from tests.interleavings.operations import Operation
from tests.interleavings.scene import Scene, small_ring
from tests.interleavings.twins import Twin, on_postgresql, on_sqlite
from tests.workshop.contract import BuildGadget, MakeGadget, PolishGadget, ShineGadget, TouchGadget

NODE = st.sampled_from("abc")
WORKER = st.sampled_from("oooabc")
MOVES = ("start", "start", "leave", "evict", "order", "drain", "hand over", "hand over", "take")
BOOKS = ("take", "free it", "reserve", "reserve", "resize", "free", "owe", "settle", "restore", "touch")
HOLDER = st.sampled_from([f"0190aaaa-0000-7000-8000-00000000000{n}" for n in range(1, 5)])
EXAMPLES, STEPS = 12, 40
WANTED = {
    "run",
    "done",
    "wait",
    "gone",
    "recover",
    "fenced",
    "True",
    "False",
    "Succeeded",
    "Pending",
    "Cancelled",
}
pytestmark = pytest.mark.integration


async def seen_and_evicted(scene: Scene, by: str, node: str) -> Any:
    """By who looks now, and acts on it."""
    look = await scene.nodes[by].db.read(lambda tx: cluster.look(tx.execute, tx.dialect))
    for lease in look.leases:
        if lease.name == node:
            return await scene.nodes[by].membership.evict(lease)
    return None


def message(kind: str, gadget: int, name: str, scene: Scene) -> ApiJob[Any]:
    uuid = scene.marks[f"gadget {gadget}"]
    match kind:
        case "T":
            return TouchGadget(uuid=uuid)
        case "P":
            return PolishGadget(uuid=uuid)
        case "S":
            return ShineGadget(uuid=uuid)
        case "B":
            return BuildGadget(name=f"built {name}")
    return MakeGadget(name=f"made {name}")


class Both(RuleBasedStateMachine):
    """Each rule is one operation, on both. Jobs and gadgets go by numbers, the newest first."""

    twins: ClassVar[tuple[Twin, Twin]]
    answers: ClassVar[Counter[str]]

    @initialize()
    def begin(self) -> None:
        for twin in self.twins:
            twin.clock.seconds = 0.0
            twin.begin()
        self.jobs: list[str] = []
        self.gadgets = 0
        self.make(0)
        self.make(1)
        self.both(op.resize_pool(3))
        for kind, gadget in (("S", 0), ("T", 0), ("P", 1), ("B", 0)):
            self.accept_one("a", kind, gadget, "")
        self.claim_one("o", 3)
        self.claim_one("o", 1)

    def both(self, operation: Operation | Callable[[Twin], Operation]) -> Any:
        """The answer, which is the same."""
        return self.alike([twin.ask(operation) for twin in self.twins])

    def alike(self, answers: list[Any]) -> Any:
        mine, its = answers
        assert mine == its
        self.answers[mine["state"] if isinstance(mine, dict) else str(mine)] += 1
        return mine

    def alike_each(self, answers: list[list[Any]]) -> None:
        for one in zip(*answers, strict=True):
            self.alike(list(one))

    def make(self, slot: int) -> None:
        for twin in self.twins:
            twin.marks[f"gadget {self.gadgets}"] = twin.gadget(slot)
        self.gadgets += 1

    def job(self, number: int) -> str:
        return self.jobs[-1 - number % len(self.jobs)]

    # jobs

    @rule(
        node=NODE,
        kind=st.sampled_from("TPSBM"),
        gadget=st.integers(0, 1),
        key=st.sampled_from(["", "", "k1", "k2"]),
    )
    def accept(self, node: str, kind: str, gadget: int, key: str) -> None:
        self.accept_one(node, kind, gadget, key)

    def accept_one(self, node: str, kind: str, gadget: int, key: str) -> None:
        name = f"job {len(self.jobs)}"

        async def accepting(scene: Scene) -> Any:
            wanted = partial(message, kind, gadget, name)
            job = scene.jobs[name] = await op.accept(node, wanted, key or None)(scene)
            return job

        self.both(accepting)
        if all(name in twin.jobs for twin in self.twins):
            self.jobs.append(name)

    @rule(
        node=NODE,
        kinds=st.tuples(st.sampled_from("TP"), st.sampled_from("SBM")),
        key=st.sampled_from(["", "k1"]),
    )
    def accept_two(self, node: str, kinds: tuple[str, str], key: str) -> None:
        """In one transaction; under one key, if they have one."""
        names = [f"job {len(self.jobs)}", f"job {len(self.jobs) + 1}"]

        async def accepting(scene: Scene) -> Any:
            wanted = [
                (partial(message, kind, number, name), key or None)
                for number, (kind, name) in enumerate(zip(kinds, names, strict=True))
            ]
            answers = await op.accept_together(node, *wanted)(scene)
            scene.jobs.update({name: a for name, a in zip(names, answers, strict=True) if isinstance(a, Job)})
            return [a.code if isinstance(a, ApiError) else a for a in answers]

        self.alike_each([twin.ask(accepting) for twin in self.twins])
        self.jobs += [name for name in names if all(name in twin.jobs for twin in self.twins)]

    def worker(self, node: str, job: str) -> str:
        """``o`` stands for the owner of the job's slot."""
        twin = self.twins[0]
        owner = twin.nodes["a"].slots.owner(slot_of(twin.jobs[job].resource_uuid))
        return owner or "a" if node == "o" else node

    @precondition(lambda self: self.jobs)
    @rule(node=WORKER, number=st.integers(0, 5))
    def claim(self, node: str, number: int) -> None:
        self.claim_one(node, number)

    def claim_one(self, node: str, number: int) -> None:
        job = self.job(number)
        node = self.worker(node, job)
        self.alike([twin.ask(twin.claim(node, job)) for twin in self.twins])

    @precondition(lambda self: self.jobs)
    @rule(node=WORKER, number=st.integers(0, 5))
    def run(self, node: str, number: int) -> None:
        job = self.job(number)
        self.both(op.run(self.worker(node, job), job))

    def held(self) -> list[str]:
        return sorted(self.twins[0].held)

    @precondition(lambda self: self.held())
    @rule(number=st.integers(0, 5), what=st.sampled_from([op.finish, op.finish, op.step_end, op.roll_back]))
    def go_on(self, number: int, what: Callable[[str], Operation]) -> None:
        held = self.held()
        self.both(what(held[-1 - number % len(held)]))

    @precondition(lambda self: self.jobs)
    @rule(
        node=NODE, number=st.integers(0, 5), sweeps=st.booleans(), seconds=st.sampled_from([1.0, 1.0, 2000.0])
    )
    def end_or_sweep(self, node: str, number: int, sweeps: bool, seconds: float) -> None:
        """What ends jobs from outside: a cancel, or time."""
        if not sweeps:
            self.both(op.cancel(node, self.job(number)))
            return
        for twin in self.twins:
            twin.clock.seconds += seconds
        self.both(op.overdue(node))
        self.both(op.sweep(node))

    # nodes

    @rule(how=st.sampled_from(MOVES), node=NODE, by=NODE)
    def nodes(self, how: str, node: str, by: str) -> None:
        match how:
            case "start":
                self.both(op.register(node))
                self.both(op.enter(node))
                for twin in self.twins:
                    twin.nodes[node].wake(twin.nodes[node].newest.incarnation)
            case "leave":
                self.both(op.leave(node))
            case "evict":
                self.both(lambda scene: seen_and_evicted(scene, by, node))
            case "order":
                self.both(op.order_eviction(by, node))
            case "drain":
                self.both(op.drain(node, by))
            case "hand over":
                self.both(op.hand_over(node))
            case "take":
                self.both(op.take(node, by))
        for twin in self.twins:
            twin.look()

    # the books

    @rule(holder=HOLDER, of=st.integers(0, 3), force=st.booleans(), what=st.sampled_from(BOOKS))
    def books(self, holder: str, of: int, force: bool, what: str) -> None:
        operations = {
            "take": lambda: op.take_unit(holder, f"10.0.0.{of}"),
            "free it": lambda: op.free_unit(holder, f"10.0.0.{of}"),
            "reserve": lambda: op.reserve(holder, of, force=force),
            "resize": lambda: op.resize_pool(of),
            "free": lambda: op.free(holder),
            "owe": lambda: op.owe(holder, of % 2),
            "settle": lambda: op.settle(holder, of % 2),
            "restore": lambda: op.restore(holder),
            "touch": lambda: op.touch(f"gadget {of % 2}", "ab"[of // 2]),
        }
        self.both(operations[what]())

    # the outcome

    def teardown(self) -> None:
        mine, its = (twin.tables() for twin in self.twins)
        assert mine == its


@pytest.fixture(scope="module")
def twins(postgres_server: PostgresServer) -> Iterator[tuple[Twin, Twin]]:
    with small_ring():
        yield on_postgresql(postgres_server.create_database("twins")), on_sqlite()
    postgres_server.drop_database("twins")


def play(twins: tuple[Twin, Twin], examples: int, **options: Any) -> None:
    Both.twins, Both.answers = twins, Counter()
    options = {"derandomize": True, "suppress_health_check": list(HealthCheck), "database": None} | options
    run_state_machine_as_test(
        Both, settings=settings(max_examples=examples, stateful_step_count=STEPS, deadline=None, **options)
    )


def test_both_databases_answer_alike_and_end_alike(twins: tuple[Twin, Twin]) -> None:
    play(twins, EXAMPLES)
    assert Both.answers.keys() >= WANTED, "too little happens for the comparison to mean anything"


def test_a_difference_is_noticed(twins: tuple[Twin, Twin], monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"resource_uuid": bindparam("here"), "job_uuid": bindparam("this"), "fence": bindparam("epoch")}
    keeps = sqlite.insert(claim).values(row).on_conflict_do_nothing()  # so its next owner cannot claim a job
    monkeypatch.setattr(jobs, "HOLD", keeps)
    with pytest.raises(AssertionError):
        play(twins, 50, phases=[Phase.generate])
