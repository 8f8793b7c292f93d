"""Names instead of uuids: what tables show of the resources that a row refers to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mgmtnode.client.errors import ProblemError
from mgmtnode.client.mnctl.kinds import TYPES, named_by

if TYPE_CHECKING:
    from mgmtnode.client.mnctl.app import App

FEW = 50
MOST = 1000


def lookup(app: App, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """uuid → name of what is in ``columns``: one request of at most 1000 rows for each kind that occurs there.

    What the caller may not read, or what is gone, is left out.
    """
    wanted: dict[str, set[str]] = {}
    for column in columns:
        for row in rows:
            plural = _plural(column, row)
            if plural:
                wanted.setdefault(plural, set()).update(_uuids(pick(row, column)))
    return {
        uuid: name for plural, uuids in wanted.items() if uuids for uuid, name in _ask(app, plural, uuids)
    }


def _plural(column: str, row: Mapping[str, Any]) -> str | None:
    """``resource_uuid`` stands beside its type; other columns say the kind in their name."""
    kind = TYPES.get(str(row.get("resource_type"))) if column == "resource_uuid" else named_by(column)
    return kind.plural if kind and column.endswith(("_uuid", "_uuids")) else None


def _uuids(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _uuids(item)


def _ask(app: App, plural: str, uuids: set[str]) -> Iterable[tuple[str, str]]:
    few = f"uuid?={','.join(sorted(uuids))}" if len(uuids) <= FEW else ()
    try:
        found = app.client.collection(plural).list(few, fields=("uuid", "name"), limit=MOST, page_size=MOST)
        return [(item["uuid"], item["name"]) for item in found if item.get("name")]
    except ProblemError:
        return []


def pick(value: Any, path: str) -> Any:
    """What ``path`` leads to; a list on the way becomes the list of what it leads to in each item."""
    for word in path.split("."):
        if isinstance(value, list):
            value = [item.get(word) for item in value if isinstance(item, dict)]
        else:
            value = value.get(word) if isinstance(value, dict) else None
    return value
