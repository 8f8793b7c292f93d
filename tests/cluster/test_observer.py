"""Who is evicted: only who stood still, long enough, before an observer that was well itself."""

from __future__ import annotations

from collections.abc import Iterable

from mgmtnode.cluster.observer import Observer
from mgmtnode.cluster.records import Beat, LeaseRow, NodeState

OLD_SERVER = 1e6


def lease(name: str, hb_seq: int, *, locked: bool = True, incarnation: int = 1) -> LeaseRow:
    return LeaseRow(name, incarnation, hb_seq, NodeState.UP, 0, 0, locked)


def beat(*leases: LeaseRow, server_age: float = OLD_SERVER) -> Beat:
    return Beat(True, 1, list(leases), server_age)


def judged(observer: Observer, beats: Iterable[tuple[float, Beat]]) -> dict[float, list[str]]:
    """The names of the evicted, by the time they were."""
    found = {now: [row.name for row in observer.seen(now, each)] for now, each in beats}
    return {now: names for now, names in found.items() if names}


def test_a_node_whose_heartbeat_stands_still_is_evicted_after_six_seconds_and_not_before() -> None:
    observer = Observer("a")
    moving = [(float(t), beat(lease("a", t), lease("b", t))) for t in range(10)]
    still = [(float(t), beat(lease("a", t), lease("b", 9))) for t in range(10, 20)]
    assert judged(observer, [*moving, *still]) == {t: ["b"] for t in map(float, range(15, 20))}


def test_a_node_whose_lock_is_free_is_evicted_after_two_seconds() -> None:
    observer = Observer("a")
    moving = [(float(t), beat(lease("a", t), lease("b", t))) for t in range(10)]
    gone = [(float(t), beat(lease("a", t), lease("b", 9, locked=False))) for t in range(10, 13)]
    assert min(judged(observer, [*moving, *gone])) == 11.0


def test_a_free_lock_proves_nothing_just_after_the_database_server_has_started() -> None:
    observer = Observer("a")
    moving = [(float(t), beat(lease("a", t), lease("b", t))) for t in range(10)]
    gone = [
        (float(t), beat(lease("a", t), lease("b", 9, locked=False), server_age=t - 8)) for t in range(10, 14)
    ]
    assert judged(observer, [*moving, *gone]) == {}


def test_whoever_was_cut_off_itself_judges_nobody_for_six_seconds() -> None:
    observer = Observer("a")
    before = [(float(t), beat(lease("a", t), lease("b", t))) for t in range(10)]
    outage_over = [(float(t), beat(lease("a", t), lease("b", 9))) for t in range(40, 60)]
    assert min(judged(observer, [*before, *outage_over])) == 46.0


def test_when_most_nodes_look_dead_it_waits_twice_as_long() -> None:
    observer = Observer("a")
    moving = [(float(t), beat(*(lease(n, t) for n in "abc"))) for t in range(10)]
    still = [(float(t), beat(lease("a", t), lease("b", 9), lease("c", 9))) for t in range(10, 30)]
    assert judged(observer, [*moving, *still])[21.0] == ["b", "c"]
    assert 20.0 not in judged(Observer("a"), [*moving, *still])


def test_a_restart_under_the_same_name_counts_as_movement() -> None:
    observer = Observer("a")
    moving = [(float(t), beat(lease("a", t), lease("b", t))) for t in range(10)]
    restarted = [(float(t), beat(lease("a", t), lease("b", 0, incarnation=2))) for t in range(10, 16)]
    assert judged(observer, [*moving, *restarted]) == {}
    assert observer.age(16.0, "b") == 6.0
