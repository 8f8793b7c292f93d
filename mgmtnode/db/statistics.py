"""What PostgreSQL's planner knows of tables that have just been filled: nothing, until autovacuum comes by, up to a
minute later. Until then it joins a hundred hosts as if there were one."""

from __future__ import annotations

import logging

from sqlalchemy import text

from mgmtnode.db.session import Database, Tx

log = logging.getLogger(__name__)

SECONDS = 5.0  # between looks
FEW = 50  # rows, of which no plan is bad
FILLED = text(
    "select cast(oid as regclass) from pg_class where relkind = 'r' and reltuples <= 0"
    " and relnamespace = cast(current_schema() as regnamespace) and pg_stat_get_live_tuples(oid) >= :few"
).bindparams(few=FEW)


async def learn(db: Database) -> list[str]:
    """Has the planner look at the tables that were empty when it last did, or that it has never seen; returns them."""
    if db.dialect != "postgresql":
        return []
    filled = await db.read(_filled)
    if filled:
        await db.write(lambda tx: tx.execute(text(f"analyze (skip_locked) {', '.join(filled)}")))
        log.info("PostgreSQL has looked at %s", ", ".join(filled))
    return filled


def _filled(tx: Tx) -> list[str]:
    return [str(name) for name in tx.execute(FILLED).scalars()]
