"""What a statement touches, and which steps of two sessions may change places without anybody noticing.

At READ COMMITTED a statement sees what is committed when it begins, and waits only for locks that writes and locking
reads have taken. So two steps of different sessions are independent unless both lock something in one table, or one
commits what the other looks at. Counted by tables, not by rows: too careful, never too bold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from mgmtnode.db.base import metadata
from mgmtnode.db.tables import CORE_TABLES

NAMES = sorted((table.name for table in CORE_TABLES), key=len, reverse=True)
TABLE = re.compile(rf"\b({'|'.join(NAMES)})\b")
# Wherever it stands: a WITH may write, too. Not «do update set», nor «for update of».
TARGET = re.compile(r"\b(?:insert\s+into\s+(\w+)|update\s+(\w+)\s+set|delete\s+from\s+(\w+))\b")
ADVISORY = "advisory locks"
ADVISORY_LOCK = re.compile(r"\bpg_(try_)?advisory_")
NUMBERS = "numbers of transactions"
PARENTS = {
    table.name: frozenset(key.column.table.name for key in table.foreign_keys)
    for table in metadata.sorted_tables
}
CHILDREN = {
    parent: frozenset(child for child, parents in PARENTS.items() if parent in parents) for parent in PARENTS
}


@dataclass(frozen=True, slots=True)
class Access:
    """``reads`` with a snapshot; ``locks``, also by writing; ``ends``: what a COMMIT or ROLLBACK shows and lets go.
    ``kills``: it ends other sessions, which may be at anything."""

    what: str
    reads: frozenset[str] = frozenset()
    locks: frozenset[str] = frozenset()
    ends: frozenset[str] = frozenset()
    kills: bool = False

    def __or__(self, other: Access) -> Access:
        return Access(
            self.what,
            self.reads | other.reads,
            self.locks | other.locks,
            self.ends | other.ends,
            self.kills or other.kills,
        )


def independent(one: Access, other: Access) -> bool:
    """Whether it makes no difference which of two sessions' steps comes first."""
    if one.kills or other.kills or one.locks & other.locks:
        return False
    return not (one.ends & (other.reads | other.locks) or other.ends & (one.reads | one.locks))


@cache
def of_statement(sql: str) -> Access:
    text = sql.lower()
    assert not text.startswith("execute"), "nobody can see what that does"
    tables = frozenset(TABLE.findall(text))
    if ADVISORY_LOCK.search(text):
        return Access(sql, tables, frozenset({ADVISORY}))
    if "pg_terminate_backend" in text:
        return Access(sql, tables, kills=True)
    if targets := {name for found in TARGET.findall(text) for name in found if name}:
        return Access(sql, tables, frozenset().union(*map(_written_with, targets)))
    if re.search(r"\bfor (update|share|no key update|key share)\b", text):
        return Access(sql, tables, tables)
    return Access(sql, tables)


def _written_with(name: str) -> frozenset[str]:
    """The table, and those whose rows the database looks at for it."""
    return frozenset({name}) | PARENTS.get(name, frozenset()) | CHILDREN.get(name, frozenset())


def of_end(how: str, locked: frozenset[str]) -> Access:
    """``how``: COMMIT or ROLLBACK of a transaction that has locked or written these tables."""
    return Access(how, ends=locked)


def in_the_log(access: Access, *, first: bool) -> Access:
    """As a reader of the event log sees it: a transaction gets its number with its ``first`` write, and the log is
    read up to the lowest one that is still open."""
    if (first and access.locks) or "event" in access.reads:
        return access | Access(access.what, locks=frozenset({NUMBERS}))
    return access
