"""The nouns of ``mnctl`` say what the API of the installed services says."""

from __future__ import annotations

import pytest

from mgmtnode.api.operations import Operation, Operations
from mgmtnode.bus.message import ApiCall, ApiJob
from mgmtnode.client.mnctl.kinds import KINDS, Field, Kind
from mgmtnode.loader import discover, messages, values
from mgmtnode.schema import Resource


@pytest.fixture(scope="module")
def operations() -> Operations:
    modules = [module for manifest in discover() for module in manifest.contract]
    api = [m for module in modules for m in messages(module) if issubclass(m, ApiJob | ApiCall)]
    return Operations(api, [r for module in modules for r in values(module, Resource)])


def found(operations: Operations, verb: str, path: str) -> Operation | None:
    same = (o for o in operations.by_name.values() if (o.api.verb, o.api.path) == (verb, path))
    return next(same, None)


def names(fields: tuple[Field, ...]) -> set[str]:
    return {field.name.partition(".")[0] for field in fields}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_a_noun_shows_fields_that_its_resource_has(kind: Kind, operations: Operations) -> None:
    resource = operations.plurals[kind.plural]
    shown = {column.partition(".")[0] for column in (*kind.columns, *kind.wide)}
    assert shown <= set(resource.inventory.__struct_fields__)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_a_noun_sends_fields_that_its_api_takes(kind: Kind, operations: Operations) -> None:
    create = found(operations, "POST", f"/{kind.plural}")
    assert ("create" in kind.verbs) == (create is not None)
    if create is not None:
        assert names(kind.fields) <= set(create.fields)
    update = found(operations, "PATCH", f"/{kind.plural}/{{uuid}}")
    assert ("update" in kind.verbs) == (update is not None)
    if update is not None:
        assert names(tuple(field for field in kind.fields if field.patch)) <= set(update.fields)
    assert ("delete" in kind.verbs) == (found(operations, "DELETE", f"/{kind.plural}/{{uuid}}") is not None)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_a_noun_has_every_action_of_its_api_and_no_other(kind: Kind, operations: Operations) -> None:
    prefix = f"/{kind.plural}/{{uuid}}/actions/"
    actions = {
        o.api.path.removeprefix(prefix): o
        for o in operations.by_name.values()
        if o.api.path.startswith(prefix)
    }
    assert {action.name for action in kind.actions} == set(actions)
    for action in kind.actions:
        assert names(action.fields) <= set(actions[action.name].fields)


def test_every_resource_has_a_noun(operations: Operations) -> None:
    elsewhere = {"jobs", "global-configs", "tags", "sessions", "cleanup-debts"}
    assert set(operations.plurals) - elsewhere == {kind.plural for kind in KINDS}
