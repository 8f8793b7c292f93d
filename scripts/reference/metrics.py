"""metrics.md: every metric of a node, from its declaration."""

from __future__ import annotations

from mgmtnode.telemetry.families import FAMILIES, Counter, Family, Gauge, Histogram, Total
from mgmtnode.telemetry.metrics import PREFIX
from scripts.reference.installation import Installation
from scripts.reference.words import HEAD, code, listed, table

INTRO = """\
# Metrics

`GET /metrics` of each node, without a token, in the text format of Prometheus. [How to
monitor](../how-to/monitor.md) says what to watch. Labels are closed sets: no uuid, no name that a user
chose. `outcome` is `ok`, the category of an error in small letters (`invalid`, `not_found`, `exists`,
`state`, `no_capacity`, `denied`, `unavailable`, `timeout`, `internal`), `cancelled`, or `error` for what
was not foreseen. A histogram has `_bucket`, `_sum` and `_count`; the upper bounds of its buckets are in
seconds. Beside these there are the usual `process_…` metrics: memory, CPU, descriptors, start.

"""
KINDS = {Counter: "counter", Total: "counter", Gauge: "gauge", Histogram: "histogram"}


def page(here: Installation) -> str:
    rows = [
        (
            code(_name(family)),
            KINDS[type(family)],
            listed(code(label) for label in family.labels),
            _text(family),
        )
        for family in sorted(FAMILIES, key=lambda family: family.name)
    ]
    return (HEAD + INTRO + table(("metric", "kind", "labels", "meaning"), rows)).rstrip() + "\n"


def _name(family: Family) -> str:
    return PREFIX + family.name + ("_total" if isinstance(family, Counter | Total) else "")


def _text(family: Family) -> str:
    bounds = f". Buckets: {listed(f'{b:g}' for b in family.buckets)}" if isinstance(family, Histogram) else ""
    return family.text + bounds
