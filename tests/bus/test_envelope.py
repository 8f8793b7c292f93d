from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmtnode.bus.envelope import MAX_BATCH, MAX_ENVELOPE, TOO_LARGE, Envelope, Kind, encode, pack, unpack
from mgmtnode.errors import ApiError

bodies = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def made(body: object, **fields: object) -> Envelope:
    return Envelope(id="1", kind=Kind.CALL, body=msgspec.Raw(msgspec.json.encode(body)), **fields)  # type: ignore[arg-type]


@given(st.lists(bodies, max_size=5), st.text(max_size=10), st.integers(0, 1023) | st.none())
def test_what_is_packed_is_unpacked_unchanged(contents: list[object], trace: str, slot: int | None) -> None:
    envelopes = [made(body, trace=trace, slot=slot, chain=("vm:1",)) for body in contents]
    read = [e for batch in pack([encode(e) for e in envelopes]) for e in unpack(batch)[0]]
    assert [(e.trace, e.slot, e.chain) for e in read] == [(trace, slot, ("vm:1",))] * len(contents)
    assert [json.loads(bytes(e.body)) for e in read] == contents


@given(st.lists(st.integers(0, MAX_ENVELOPE - 200), max_size=12))
def test_a_batch_is_json_and_never_over_its_size_however_large_its_parts(sizes: list[int]) -> None:
    data = [encode(made("x" * size)) for size in sizes]
    batches = list(pack(data))
    assert all(len(batch) <= MAX_BATCH + 2 for batch in batches)
    assert sum(len(json.loads(batch)) for batch in batches) == len(data)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_whatever_break_the_reader(data: bytes) -> None:
    unpack(data)
    unpack(b"[" + data + b"]")


def test_an_envelope_over_64_kb_is_refused_with_its_size() -> None:
    with pytest.raises(ApiError) as caught:
        encode(made("x" * MAX_ENVELOPE, type="vm.StartVm"))
    assert caught.value.code == TOO_LARGE.id and "vm.StartVm" in str(caught.value)


def test_fields_of_a_later_release_are_ignored() -> None:
    (envelope,), bad = unpack(b'[{"id": "1", "kind": "send", "colour": "red"}]')
    assert envelope.kind is Kind.SEND and not bad
