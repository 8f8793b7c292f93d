"""events.md: what happened, as clients and services hear it."""

from __future__ import annotations

from mgmtnode.bus.message import Event
from mgmtnode.jobs.ending import JobEnded
from mgmtnode.loader import events
from scripts.reference.installation import Installation
from scripts.reference.words import HEAD, code, field_rows, prose, table

INTRO = """\
# Events

An event is a fact about one resource, committed together with it. `GET /v1/events` streams them (see
[How to use the API](../how-to/use-the-api.md#events)); services hear them with `@subscribe`. Around the
fields below, each event says `id` (its place in the log), `name`, `resource_type`, `resource_uuid`,
`revision` (1, 2, 3 … for one resource, without gaps), `account_uuid` and `at`.

"""


def page(here: Installation) -> str:
    parts = [HEAD, INTRO, "## The node\n\n", _table([JobEnded])]
    for manifest in here.manifests:
        if found := [event for module in manifest.contract for event in events(module)]:
            parts += [f"## {manifest.id}\n\n", _table(found)]
    return "".join(parts).rstrip() + "\n"


def _table(found: list[type[Event]]) -> str:
    rows = [(code(event.name), _fields(event), prose(event)) for event in sorted(found, key=lambda e: e.name)]
    return table(("event", "fields", "meaning"), rows)


def _fields(event: type[Event]) -> str:
    rows = field_rows(event, ["resource_uuid"])
    return ", ".join(f"{name} ({words.partition('](')[0].strip('[')})" for name, words, _ in rows)
