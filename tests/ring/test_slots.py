from __future__ import annotations

import hashlib
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgmtnode.ring.hash_ring import propose
from mgmtnode.ring.slots import SLOTS, SlotOwner, Slots, slot_of

names = st.lists(
    st.text("abcdefgh0123456789-.", min_size=1, max_size=12), min_size=1, max_size=6, unique=True
)


@given(st.uuids())
def test_a_slot_is_the_md5_of_the_uuid_modulo_1024(value: uuid.UUID) -> None:
    assert slot_of(str(value)) == int(hashlib.md5(str(value).encode()).hexdigest(), 16) % 1024


@settings(deadline=None, max_examples=30)
@given(names)
def test_a_proposal_gives_every_slot_to_a_node_whatever_the_order(nodes: list[str]) -> None:
    proposal = propose(nodes)
    assert len(proposal) == SLOTS and set(proposal) <= set(nodes)
    assert propose(reversed(nodes)) == proposal


@settings(deadline=None, max_examples=30)
@given(names, st.text("xyz", min_size=1, max_size=5))
def test_what_moves_when_a_node_joins_goes_to_that_node_and_is_about_its_share(
    nodes: list[str], new: str
) -> None:
    before, after = propose(nodes), propose([*nodes, new])
    moved = [b for a, b in zip(before, after, strict=True) if a != b]
    assert set(moved) == {new}
    share = SLOTS / (len(nodes) + 1)
    assert 0.5 * share < len(moved) < 1.6 * share


@settings(deadline=None, max_examples=30)
@given(names.filter(lambda n: len(n) > 1))
def test_only_the_slots_of_a_node_that_leaves_move(nodes: list[str]) -> None:
    gone = nodes[0]
    for before, after in zip(propose(nodes), propose(nodes[1:]), strict=True):
        assert after == before or before == gone


def test_no_node_is_no_proposal() -> None:
    with pytest.raises(ValueError, match="no node"):
        propose([])


def test_a_view_says_who_owns_what_and_which_slots_are_mine() -> None:
    slots = Slots("a")
    assert slots.owner(5) is None and slots.own() == () and slots.version == 0
    mine = str(uuid.UUID(int=1))
    assert slots.replace(
        {slot_of(mine): SlotOwner("a", 7), (slot_of(mine) + 1) % SLOTS: SlotOwner("b", 2)}, 3
    )
    assert slots.mine(mine) and slots.own() == (slot_of(mine),)
    assert slots.epoch(slot_of(mine)) == 7 and slots.owner((slot_of(mine) + 1) % SLOTS) == "b"
    assert dict(slots.nodes) == {"a": 0, "b": 0} and slots.version == 3


def test_owning_all_slots_needs_no_list_of_them() -> None:
    slots = Slots("a")
    slots.replace(dict.fromkeys(range(SLOTS), SlotOwner("a", 1)), 1)
    assert slots.own() is None


def test_an_older_view_changes_nothing_and_tells_nobody() -> None:
    slots, told = Slots("a"), []
    slots.on_change(lambda: told.append(slots.version))
    assert slots.replace({0: ("b", 1)}, 2, {"b": 4})
    assert not slots.replace({0: ("c", 9)}, 1)
    assert slots.owner(0) == "b" and slots.nodes["b"] == 4 and told == [2]
