"""Statements that come often are prepared: PostgreSQL plans them once a connection and not each time they come.

Planning costs as much as running, for statements as short as these. Other drivers prepare by themselves; psycopg2
leaves it to PREPARE and EXECUTE (docs/adr/0036).
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ARRAY, Boolean, Connection, DateTime, Engine, Float, Integer, String, event
from sqlalchemy.types import TypeEngine

log = logging.getLogger(__name__)

OFTEN = 5  # times a statement has come on a connection before it is prepared there
MOST = 200  # prepared on one connection: each plan has some ten KiB in the server
REMEMBERED = 2000  # statements that are counted, or known not to be preparable
PARAMETER = re.compile(r"%\((\w+)\)s|%%")
PREPARABLE = re.compile(r"\s*(?:select|insert|update|delete|with)\b", re.IGNORECASE)


@dataclass(slots=True)
class Session:
    """What one connection has seen and prepared: its name, by the text of the statement."""

    seen: Counter[str] = field(default_factory=Counter)
    prepared: dict[str, str] = field(default_factory=dict)


def prepare_often(engine: Engine) -> None:
    """For all connections of the engine from now on."""
    statements = PreparedStatements()
    event.listen(engine, "before_cursor_execute", statements.instead, retval=True)


class PreparedStatements:
    """``unfit``: statements that PostgreSQL could not prepare, mostly since it cannot tell a parameter's type."""

    def __init__(self) -> None:
        self.unfit: set[str] = set()

    def instead(
        self,
        connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> tuple[str, Any]:
        """What is executed in place of a statement: an EXECUTE, or the statement."""
        if executemany or not isinstance(parameters, Mapping):
            return statement, parameters
        session: Session = connection.info.setdefault("prepared", Session())
        execute = session.prepared.get(statement)
        if execute is None and self._is_due(session, statement):
            execute = self._prepare(session, cursor, statement, context)
        return execute or statement, parameters

    def _is_due(self, session: Session, statement: str) -> bool:
        if len(session.seen) >= REMEMBERED:
            session.seen.clear()
        session.seen[statement] += 1
        return (
            session.seen[statement] > OFTEN
            and len(session.prepared) < MOST
            and statement not in self.unfit
            and PREPARABLE.match(statement) is not None
        )

    def _prepare(self, session: Session, cursor: Any, statement: str, context: Any) -> str | None:
        """The EXECUTE; None if it cannot be prepared, which undoes nothing of the transaction."""
        names = list(dict.fromkeys(name for name in PARAMETER.findall(statement) if name))
        places = {name: f"${place}" for place, name in enumerate(names, 1)}
        text = PARAMETER.sub(lambda found: places[found[1]] if found[1] else "%", statement)
        name = f"mn_{len(session.prepared)}"
        types = ", ".join(_type(context, each) for each in names)
        command = f"PREPARE {name}{f' ({types})' if types else ''} AS {text}"
        failed = context.dialect.loaded_dbapi.Error
        try:
            _in_savepoint(cursor, command, failed)
        except failed as exc:
            log.debug("not prepared: %s: %s", statement, exc)
            if len(self.unfit) < REMEMBERED:
                self.unfit.add(statement)
            return None
        values = ", ".join(f"%({each})s" for each in names)
        execute = session.prepared[statement] = f"EXECUTE {name}{f' ({values})' if values else ''}"
        return execute


def _in_savepoint(cursor: Any, command: str, failed: type[Exception]) -> None:
    """Executes it so that, if it fails, the transaction goes on."""
    cursor.flush()
    if not cursor.connection.in_transaction:
        cursor.at_once(command)
        return
    try:
        cursor.at_once(f"SAVEPOINT prepare_one; {command}; RELEASE prepare_one")
    except failed:
        cursor.at_once("ROLLBACK TO prepare_one")
        raise


def _type(context: Any, name: str) -> str:
    """The type of a parameter where SQLAlchemy knows it: PostgreSQL finds out most, but not all."""
    compiled = context.compiled
    bind = compiled.binds.get(name) if compiled is not None else None
    return "unknown" if bind is None else _named(bind.type.dialect_impl(context.dialect))


def _named(type_: TypeEngine[Any]) -> str:
    match type_:
        case ARRAY():
            return f"{_named(type_.item_type)}[]"
        case Integer():
            return "bigint"
        case Boolean():
            return "boolean"
        case DateTime():
            return "timestamptz"
        case Float():
            return "float8"
        case String():
            return "text"
        case _:
            return "unknown"
