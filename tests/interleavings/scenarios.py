"""Who meets whom: two or three sessions, from one beginning, and what their answers must fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mgmtnode.db import tables
from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import Job
from tests.interleavings import operations as op
from tests.interleavings.operations import Operation
from tests.interleavings.scene import ME, Scene
from tests.workshop.contract import BuildGadget, MakeGadget, PolishGadget, ShineGadget, TouchGadget

Prepare = Callable[[Scene], None]
Answers = Sequence[Sequence[Any]]
Check = Callable[[Scene, Answers], Iterator[str]]


def nothing(scene: Scene, answers: Answers) -> Iterator[str]:
    return iter(())


@dataclass(frozen=True)
class Scenario:
    """``sessions``: what each does, one operation after the other. ``check``: what else must hold at the end.
    ``positions``: somebody reads the log of events, so it matters in which order transactions get their numbers."""

    prepare: Prepare
    sessions: Sequence[Sequence[Operation]]
    check: Check = nothing
    positions: bool = False


# beginnings


def _leases(scene: Scene) -> None:
    scene.marks["lease of a"], scene.marks["lease of b"] = scene.lease("a"), scene.lease("b")


def bare(scene: Scene) -> None:
    """Two nodes, and nothing else."""


def none_waits(scene: Scene) -> None:
    """A gadget of a's, one of b's, and no job."""
    scene.marks["gadget"], scene.marks["far"] = scene.gadget(), scene.gadget(1)
    _leases(scene)


def one_waits(scene: Scene) -> None:
    none_waits(scene)
    scene.accepted("first", PolishGadget(uuid=scene.marks["gadget"]))


def short_ones_wait(scene: Scene) -> None:
    """Two jobs that are done in the transaction that claims them wait for one gadget."""
    none_waits(scene)
    scene.accepted("first", TouchGadget(uuid=scene.marks["gadget"]))
    scene.accepted("second", TouchGadget(uuid=scene.marks["gadget"]))


def long_ones_wait(scene: Scene) -> None:
    """Two jobs that go on after their claim wait for one gadget."""
    none_waits(scene)
    scene.accepted("first", PolishGadget(uuid=scene.marks["gadget"]))
    scene.accepted("second", PolishGadget(uuid=scene.marks["gadget"]))


def one_runs(scene: Scene) -> None:
    """A job of a's is at its host command."""
    none_waits(scene)
    scene.running("first", ShineGadget(uuid=scene.marks["gadget"]))


def one_runs_one_waits(scene: Scene) -> None:
    one_runs(scene)
    scene.accepted("second", TouchGadget(uuid=scene.marks["gadget"]))


def one_is_late(scene: Scene) -> None:
    """The deadline of a job that waits has passed."""
    none_waits(scene)
    scene.accepted("first", PolishGadget(uuid=scene.marks["gadget"]), deadline=1.0)
    scene.clock.seconds += 2.0


def draining(prepare: Prepare) -> Prepare:
    """a is to give its slots to b."""

    def prepared(scene: Scene) -> None:
        prepare(scene)
        scene.do("b", lambda node: op.drain("a")(scene))

    return prepared


def room(scene: Scene) -> None:
    """No job, and a pool from which gadgets can be built. One that was ended meanwhile is still asked for."""
    none_waits(scene)
    scene.pool(9)
    gone = scene.accepted("gone", PolishGadget(uuid=scene.marks["gadget"]))
    scene.do("a", lambda node: node.jobs.cancel(gone.uuid, ME))


def three_up(scene: Scene) -> None:
    none_waits(scene)
    for operation in op.join("c"):
        scene.do("c", lambda node, operation=operation: operation(scene))  # type: ignore[misc]
    scene.do("b", op.hand_over_all)


def nobody(scene: Scene) -> None:
    """An empty database."""
    for table in (tables.ring_slot, tables.cluster, tables.node, tables.lease, tables.claim):
        scene.tables.do(f"DELETE FROM {table.name}")


H1, H2, H3 = (f"0190aaaa-0000-7000-8000-00000000000{n}" for n in (1, 2, 3))


def pool_of(limit: int, *held: str) -> Prepare:
    """A pool, of which some hold a unit each."""

    def prepared(scene: Scene) -> None:
        scene.pool(limit)
        for holder in held:
            assert scene.do("a", lambda node, holder=holder: op.reserve(holder)(scene))  # type: ignore[misc]

    return prepared


def address_held(scene: Scene) -> None:
    assert scene.do("a", lambda node: op.take_unit(H1)(scene))


def owed(hosts: int) -> Prepare:
    """A unit is kept back, and some hosts owe a clean-up for it."""

    def prepared(scene: Scene) -> None:
        pool_of(2, H1)(scene)
        for host in range(hosts):
            scene.do("a", lambda node, host=host: op.owe(H1, host)(scene))  # type: ignore[misc]

    return prepared


# what answers must fit


def one_job(scene: Scene, answers: Answers) -> Iterator[str]:
    """The same key is the same job."""
    each = (
        one
        for session in answers
        for answer in session
        for one in (answer if isinstance(answer, list) else [answer])
    )
    told = {answer.uuid if isinstance(answer, Job) else repr(answer) for answer in each}
    rows = scene.tables.rows("SELECT 1 FROM job WHERE idempotency_key = 'key'")
    if len(told) != 1 or len(rows) != 1:
        yield f"I6 one key became {len(rows)} jobs; answers: {told}"


def as_told(scene: Scene, answers: Answers) -> Iterator[str]:
    """Who says how the first job ended, says what its row says; and one of them has ended it."""
    ((state,),) = scene.tables.rows("SELECT state FROM job WHERE uuid = :u", u=scene.jobs["first"].uuid)
    for session in answers:
        for answer in session:
            if isinstance(answer, str) and answer in ("Succeeded", "Failed", "Cancelled") and answer != state:
                yield f"I2 {answer} was told, and the job is {state}"
            if isinstance(answer, Job) and answer.ended and answer.state != state:
                yield f"I2 the client was told {answer.state}, and the job is {state}"


def over(scene: Scene, answers: Answers) -> Iterator[str]:
    """As told, and the job has ended: nobody waits for it for ever."""
    yield from as_told(scene, answers)
    for seq, state in scene.tables.rows(
        "SELECT seq, state FROM job WHERE state IN ('Pending', 'Running', 'RollingBack')"
    ):
        yield f"I16 job {seq} is left {state}"


def one_did(scene: Scene, answers: Answers) -> Iterator[str]:
    if sum(session[-1] is True or isinstance(session[-1], Job) for session in answers) != 1:
        yield f"one of them should have done it: {answers}"


def dead_is_dead(scene: Scene, answers: Answers) -> Iterator[str]:
    """A node that was told that its lease holds is not evicted by who saw an earlier beat."""
    evicted, beats = answers[0][0], [answer for session in answers[1:] for answer in session]
    if evicted is True and True in beats:
        yield "a node was evicted that has beaten since"


def all_done(scene: Scene, answers: Answers) -> Iterator[str]:
    """Nothing here has a reason to be refused."""
    for session in answers:
        for answer in session:
            if isinstance(answer, ApiError):
                yield f"I18 somebody was told {answer!r}"


def got(scene: Scene, answers: Answers) -> Iterator[str]:
    """Who was told that it has the address has it."""
    told = sum(session[-1] is True for session in answers)
    held = len(scene.tables.rows("SELECT 1 FROM allocation WHERE unit IS NOT NULL"))
    if told != held:
        yield f"I9 {told} were told that they have the address, {held} have"


def fitted(scene: Scene, answers: Answers) -> Iterator[str]:
    """Who was told that it fits holds it, nobody else does, and nothing that fits is refused."""
    told = sum(answer is True for session in answers for answer in session)
    ((used, total),) = scene.tables.rows("SELECT used, total FROM pool")
    if not used == told == total:
        yield f"I8 {told} were told that they fit, {used} of {total} are used"


def nothing_kept_back(scene: Scene, answers: Answers) -> Iterator[str]:
    """Without a debt nothing is kept back."""
    for (holder,) in scene.tables.rows(
        "SELECT resource_uuid FROM allocation WHERE state = 'QUARANTINED' AND resource_uuid NOT IN"
        " (SELECT resource_uuid FROM cleanup_debt)"
    ):
        yield f"I8 what {holder} held is kept back, and nobody owes it"


def all_seen(scene: Scene, answers: Answers) -> Iterator[str]:
    """A reader that goes on from its last position misses nothing. The last session reads, and at the end once more."""
    seen = list(answers[-1][-1])
    seen += scene.do("b", lambda node: op.read_on(node, seen))
    ids = [event.id for event in seen]
    there = [row[0] for row in scene.tables.rows("SELECT xid || '-' || seq FROM event")]
    if set(ids) != set(there) or len(ids) != len(set(ids)):
        yield f"I13 a reader saw {ids} of {there}"
    for uuid in {event.resource_uuid for event in seen}:
        revisions = [event.revision for event in seen if event.resource_uuid == uuid]
        if revisions != sorted(revisions):
            yield f"I13 a reader saw the revisions {revisions} of {uuid}"


def all_slots_owned(scene: Scene, answers: Answers) -> Iterator[str]:
    rows = scene.tables.rows("SELECT slot, owner FROM ring_slot WHERE owner IS NULL")
    count = len(scene.tables.rows("SELECT slot FROM ring_slot"))
    if count != 4 or rows:
        yield f"I1 of {count} slots these have no owner: {rows}"


def all_told(scene: Scene, answers: Answers) -> Iterator[str]:
    """Who is to hear of the end has heard of it, or is still owed it."""
    told = sum(answer for session in answers for answer in session if isinstance(answer, int))
    if not told and not scene.tables.rows("SELECT 1 FROM job_reply"):
        yield "the end of the job is told to nobody"


# messages


def build(scene: Scene) -> BuildGadget:
    return BuildGadget(name="new")


def polish(scene: Scene) -> PolishGadget:
    return PolishGadget(uuid=scene.marks["gadget"])


def touch(scene: Scene) -> TouchGadget:
    return TouchGadget(uuid=scene.marks["gadget"])


def touch_other(scene: Scene) -> TouchGadget:
    return TouchGadget(uuid=scene.marks["far"])


def make(scene: Scene) -> MakeGadget:
    return MakeGadget(name="new")


JOBS: dict[str, Scenario] = {
    "claim, claim again": Scenario(one_waits, [[op.claim("a", "first")], [op.claim("a", "first")]]),
    "claim, claim the next": Scenario(short_ones_wait, [[op.claim("a", "first")], [op.claim("a", "second")]]),
    "claim, claim the next long one": Scenario(
        long_ones_wait, [[op.claim("a", "first")], [op.claim("a", "second")]]
    ),
    "claim, claim by who does not own it": Scenario(
        one_waits, [[op.claim("a", "first")], [op.claim("b", "first")]]
    ),
    "begin, cancel": Scenario(one_waits, [[op.claim("a", "first")], [op.cancel("b", "first")]], as_told),
    "run, end as overdue": Scenario(one_is_late, [[op.run("a", "first")], [op.overdue("a")]], over),
    "run, cancel": Scenario(one_waits, [[op.run("a", "first")], [op.cancel("b", "first")]], over),
    "cancel, cancel": Scenario(one_waits, [[op.cancel("a", "first")], [op.cancel("b", "first")]], over),
    "cancel, end as overdue": Scenario(one_is_late, [[op.cancel("b", "first")], [op.overdue("a")]], over),
    "cancel, cancel, end as overdue": Scenario(
        one_is_late, [[op.cancel("a", "first")], [op.cancel("b", "first")], [op.overdue("a")]], over
    ),
    "finish, cancel": Scenario(one_runs, [[op.finish("first")], [op.cancel("b", "first")]], over),
    "finish, claim the next": Scenario(
        one_runs_one_waits, [[op.finish("first")], [op.claim("a", "second")]], as_told
    ),
    "finish, finish": Scenario(one_runs, [[op.finish("first")], [op.finish("first")]], over),
    "finish, roll back": Scenario(one_runs, [[op.finish("first")], [op.roll_back("first")]], over),
    "step end, cancel": Scenario(one_runs, [[op.step_end("first")], [op.cancel("b", "first")]]),
    "step end, roll back": Scenario(one_runs, [[op.step_end("first")], [op.roll_back("first")]], over),
    "roll back, cancel": Scenario(one_runs, [[op.roll_back("first")], [op.cancel("b", "first")]], over),
    "accept, accept under one key": Scenario(
        none_waits, [[op.accept("a", polish, "key")], [op.accept("b", polish, "key")]], one_job
    ),
    "accept, accept a create under one key": Scenario(
        none_waits, [[op.accept("a", make, "key")], [op.accept("b", make, "key")]], one_job
    ),
    "three accept under one key": Scenario(
        none_waits, [[op.accept(node, make, "key")] for node in "aab"], one_job
    ),
    "accept, accept and claim": Scenario(
        none_waits, [[op.accept("b", polish)], [op.accept_and_claim("a", polish)]]
    ),
    "accept, accept, sweep": Scenario(
        none_waits, [[op.accept("b", touch)], [op.accept("a", touch)], [op.sweep("a")]]
    ),
    "accept two together, accept and claim": Scenario(
        none_waits,
        [[op.accept_together("b", (polish, None), (make, None))], [op.accept_and_claim("a", polish)]],
    ),
    "accept two together, accept them in the other order": Scenario(
        one_waits,
        [
            [op.accept_together("b", (touch, None), (touch_other, None))],
            [op.accept_together("a", (touch_other, None), (touch, None))],
        ],
    ),
    "accept together under one key, accept": Scenario(
        none_waits,
        [[op.accept_together("b", (make, "key"), (make, "key"))], [op.accept("a", make, "key")]],
        one_job,
    ),
    "accept where nothing may wait, accept": Scenario(
        none_waits, [[op.accept_alone("a", touch)], [op.accept_alone("b", touch)]], one_did
    ),
    "owe the end, finish, tell": Scenario(
        one_runs, [[op.owe_end("b", "first")], [op.finish("first")], [op.tell_ends("a")]], all_told
    ),
    "tell the end, tell the end": Scenario(
        one_runs,
        [[op.owe_end("b", "first"), op.tell_ends("b")], [op.finish("first"), op.tell_ends("a")]],
        all_told,
    ),
}

RING: dict[str, Scenario] = {
    "claim, evict": Scenario(one_waits, [[op.claim("a", "first")], [op.evict("b", "a")]]),
    "claim, evict and claim": Scenario(
        one_waits, [[op.claim("a", "first")], [op.evict("b", "a"), op.claim("b", "first")]]
    ),
    "claim, hand over": Scenario(draining(one_waits), [[op.claim("a", "first")], [op.hand_over("a")]]),
    "claim, take overdue": Scenario(draining(one_waits), [[op.claim("a", "first")], [op.take("b", "a")]]),
    "claim, restart": Scenario(one_waits, [[op.claim("a", "first")], [op.register("a")]]),
    "accept, sweep, evict": Scenario(room, [[op.accept("a", build)], [op.sweep("a")], [op.evict("b", "a")]]),
    "accept, sweep, hand over": Scenario(
        draining(room), [[op.accept("a", build)], [op.sweep("a")], [op.hand_over("a")]]
    ),
    "accept, sweep, restart": Scenario(room, [[op.accept("a", build)], [op.sweep("a")], [op.register("a")]]),
    "claim, accept and claim, evict": Scenario(
        room, [[op.claim("a", "gone")], [op.accept_and_claim("a", build)], [op.evict("b", "a")]]
    ),
    "step end, evict and claim": Scenario(
        one_runs, [[op.step_end("first")], [op.evict("b", "a"), op.claim("b", "first")]]
    ),
    "finish, evict and run": Scenario(
        one_runs, [[op.finish("first")], [op.evict("b", "a"), op.run("b", "first")]], over
    ),
    "roll back, evict and run": Scenario(
        one_runs, [[op.roll_back("first")], [op.evict("b", "a"), op.run("b", "first")]], over
    ),
    "finish, hand over and run": Scenario(
        draining(one_runs), [[op.finish("first")], [op.hand_over("a"), op.run("b", "first")]], over
    ),
    "finish, restart and run": Scenario(
        one_runs, [[op.finish("first")], [op.register("a"), op.run_again("a", "first")]], over
    ),
    "cancel, evict and run": Scenario(
        one_runs, [[op.cancel("b", "first")], [op.evict("b", "a"), op.run("b", "first")]], over
    ),
    "finish, cancel, evict and run": Scenario(
        one_runs,
        [[op.finish("first")], [op.cancel("a", "first")], [op.evict("b", "a"), op.run("b", "first")]],
        over,
    ),
    "evict, evict": Scenario(none_waits, [[op.evict("b", "a")], [op.evict("c", "a")]], one_did),
    "evict, beat": Scenario(none_waits, [[op.evict("b", "a")], [op.beat("a")]], dead_is_dead),
    "evict, beat, beat": Scenario(
        none_waits, [[op.evict("b", "a")], [op.beat("a")], [op.beat("a")]], dead_is_dead
    ),
    "evict, evict each other": Scenario(none_waits, [[op.evict("b", "a")], [op.evict("a", "b")]]),
    "evict, restart": Scenario(none_waits, [[op.evict("b", "a")], op.join("a")], all_slots_owned),
    "evict, leave": Scenario(none_waits, [[op.evict("b", "a")], [op.leave("a")]], all_slots_owned),
    "evict, hand over": Scenario(
        draining(one_waits), [[op.evict("b", "a")], [op.hand_over("a")]], all_slots_owned
    ),
    "evict, an operator's eviction": Scenario(
        none_waits, [[op.evict("b", "a")], [op.order_eviction("b", "a")]]
    ),
    "evict, its heir leaves": Scenario(three_up, [[op.evict("c", "a")], [op.leave("b")]], all_slots_owned),
    "join, evict": Scenario(none_waits, [op.join("c"), [op.evict("b", "a")]], all_slots_owned),
    "join, leave": Scenario(none_waits, [op.join("c"), [op.leave("b")]], all_slots_owned),
    "join, drain": Scenario(none_waits, [op.join("c"), [op.drain("a")]], all_slots_owned),
    "join, hand over": Scenario(draining(one_waits), [op.join("c"), [op.hand_over("a")]], all_slots_owned),
    "leave, leave": Scenario(none_waits, [[op.leave("a")], [op.leave("b")]]),
    "found, found": Scenario(nobody, [op.join("a"), op.join("b")], all_slots_owned),
    "restart, restart": Scenario(one_waits, [[op.register("a")], [op.register("a")]], all_slots_owned),
    "restart, hand over": Scenario(draining(one_waits), [[op.register("a")], [op.hand_over("a")]]),
    "restart, beat": Scenario(none_waits, [[op.register("a")], [op.beat("a")]]),
    "hand over, take overdue": Scenario(
        draining(one_runs), [[op.hand_over("a")], [op.take("b", "a")]], all_slots_owned
    ),
    "hand over, drain both": Scenario(draining(one_waits), [[op.hand_over("a")], [op.drain("b", by="a")]]),
}

BOOKS: dict[str, Scenario] = {
    "take an address, take it": Scenario(bare, [[op.take_unit(H1)], [op.take_unit(H2)]], got),
    "three take one address": Scenario(bare, [[op.take_unit(h)] for h in (H1, H2, H3)], got),
    "free an address, take it, take it": Scenario(
        address_held, [[op.free_unit(H1)], [op.take_unit(H2)], [op.take_unit(H3)]], got
    ),
    "reserve, reserve the last": Scenario(pool_of(1), [[op.reserve(H1)], [op.reserve(H2)]], fitted),
    "three reserve the last two": Scenario(pool_of(2), [[op.reserve(h)] for h in (H1, H2, H3)], fitted),
    "reserve, free": Scenario(pool_of(1, H1), [[op.reserve(H2)], [op.free(H1)]]),
    "free, free": Scenario(pool_of(2, H1, H2), [[op.free(H1)], [op.free(H1)]]),
    "reserve, shrink the pool": Scenario(pool_of(3, H1), [[op.reserve(H2)], [op.resize_pool(1)]]),
    "reserve by force, shrink the pool": Scenario(
        pool_of(1, H1), [[op.reserve(H2, force=True)], [op.resize_pool(1)]]
    ),
    "make the pool, make the pool": Scenario(bare, [[op.resize_pool(2)], [op.resize_pool(3)]]),
    "drop the pool, reserve": Scenario(pool_of(2, H1), [[op.drop_pool()], [op.reserve(H2)]]),
    "drop the pool, free": Scenario(pool_of(2, H1), [[op.drop_pool()], [op.free(H1)]]),
    "owe, free": Scenario(pool_of(2, H1), [[op.owe(H1)], [op.free(H1)]], nothing_kept_back),
    "owe, owe": Scenario(pool_of(2, H1), [[op.owe(H1)], [op.owe(H1)]], nothing_kept_back),
    "owe, settle": Scenario(owed(1), [[op.owe(H1)], [op.settle(H1)]], nothing_kept_back),
    "settle, settle": Scenario(owed(1), [[op.settle(H1)], [op.settle(H1)]], nothing_kept_back),
    "two hosts settle": Scenario(owed(2), [[op.settle(H1, 0)], [op.settle(H1, 1)]], nothing_kept_back),
    "event, event": Scenario(none_waits, [[op.touch("gadget")], [op.touch("gadget", "b")]], all_done),
    "three events": Scenario(none_waits, [[op.touch("gadget", node)] for node in "aab"], all_done),
    "two events, event, read": Scenario(
        none_waits,
        [[op.touch("far", "a", "gadget")], [op.touch("gadget", "b")], [op.read_events("b")]],
        all_seen,
        positions=True,
    ),
    "event, event, read": Scenario(
        none_waits,
        [[op.touch("gadget")], [op.touch("gadget", "b")], [op.read_events("b")]],
        all_seen,
        positions=True,
    ),
    "event, event elsewhere, read": Scenario(
        none_waits,
        [[op.touch("gadget")], [op.touch("far", "b")], [op.read_events("b")]],
        all_seen,
        positions=True,
    ),
}

SCENARIOS: dict[str, Scenario] = JOBS | RING | BOOKS
