"""What nouns tell beside themselves is there in the API, and what updates alone take."""

from __future__ import annotations

import pytest

from mgmtnode.bus.message import ApiCall, ApiJob
from mgmtnode.client.mnctl.kinds import KINDS, Kind, named_by
from mgmtnode.loader import discover, messages


@pytest.fixture(scope="module")
def apis() -> dict[tuple[str, str], set[str]]:
    """(verb, path) → fields."""
    found = (m for manifest in discover() for module in manifest.contract for m in messages(module))
    calls = [m for m in found if issubclass(m, ApiJob | ApiCall)]
    return {(m.api.verb, m.api.path): set(m.__struct_fields__) for m in calls}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.readings], ids=lambda kind: kind.noun)
def test_a_noun_reads_what_the_api_tells(kind: Kind, apis: dict[tuple[str, str], set[str]]) -> None:
    for reading in kind.readings:
        assert ("GET", f"/{kind.plural}/{{uuid}}/{reading.path}") in apis


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.patches], ids=lambda kind: kind.noun)
def test_a_noun_patches_fields_that_its_api_takes(kind: Kind, apis: dict[tuple[str, str], set[str]]) -> None:
    assert {field.name for field in kind.patches} <= apis["PATCH", f"/{kind.plural}/{{uuid}}"]


def test_columns_that_hold_uuids_say_of_what() -> None:
    columns = {column for kind in KINDS for column in (*kind.columns, *kind.wide)}
    unknown = {c for c in columns if c.endswith(("_uuid", "_uuids")) and named_by(c) is None}
    assert unknown == set()
