"""The trace of a schedule for people: names instead of uuids, and one line where many slots move."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

TAIL = 6  # characters of a uuid that traces show
UUID = re.compile(r"\b(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-)?[0-9a-f]*([0-9a-f]{6})\b")
MOVED = re.compile(r"^ *(?P<at>[0-9.]+) (?P<who>\S+) +slots of (?P<of>\S+) go to (?P<to>\S+)$")
WHILE = 2.0  # seconds between moves that are told as one


def readable(trace: str, names: Mapping[str, str]) -> Iterator[str]:
    """The lines of ``trace``. ``names``: of VMs, hosts and jobs, by uuid."""
    tails = {uuid[-TAIL:]: name for uuid, name in names.items()}
    for line in _moves_together(trace.splitlines()):
        yield named(line, tails)


def named(text: str, tails: Mapping[str, str]) -> str:
    return UUID.sub(lambda found: tails.get(found[1], found[0]), text).replace("job job-", "job-")


def _moves_together(lines: Iterable[str]) -> Iterator[str]:
    """What one node gives away, or takes, in a row."""
    began, since, heirs = "", 0.0, dict[str, None]()
    for line in lines:
        moved = MOVED.match(line)
        if (
            moved
            and heirs
            and began.endswith(f"slots of {moved['of']}")
            and float(moved["at"]) - since < WHILE
        ):
            since = float(moved["at"])
            heirs[moved["to"]] = None
            continue
        if heirs:
            yield f"{began} go to {', '.join(sorted(heirs))}"
            heirs = {}
        if moved:
            began, since, heirs = line.partition(" go to ")[0], float(moved["at"]), {moved["to"]: None}
        else:
            yield line
    if heirs:
        yield f"{began} go to {', '.join(sorted(heirs))}"
