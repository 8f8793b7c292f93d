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
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, Boolean, Connection, DateTime, Engine, Float, Integer, String, event
from sqlalchemy.types import TypeEngine

log = logging.getLogger(__name__)

OFTEN = 5  # times a statement has come on a connection before it is prepared there
MOST = 200  # prepared on one connection: each plan has some ten KiB in the server
REMEMBERED = 2000  # statements that are counted, or known not to be preparable
PARAMETER = re.compile(r"%\((\w+)\)s|%%")
PREPARABLE = re.compile(r"\s*(?:select|insert|update|delete|with)\b", re.IGNORECASE)


class Plan(NamedTuple):
    """How a statement is prepared, and how it is executed then."""

    prepare: str
    execute: str


@dataclass(slots=True)
class Session:
    """What one connection has seen, is to prepare, and has prepared, by the text of the statement. ``names``: how many
    it has given out."""

    names: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    due: dict[str, Plan] = field(default_factory=dict)
    prepared: dict[str, str] = field(default_factory=dict)


def prepare_often(engine: Engine) -> None:
    """For all connections of the engine from now on."""
    statements = PreparedStatements()
    event.listen(engine, "before_cursor_execute", statements.instead, retval=True)
    event.listen(engine, "engine_connect", statements.prepare)


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
            session.due[statement] = _plan(f"mn_{session.names}", statement, context)
            session.names += 1
        return execute or statement, parameters

    def prepare(self, connection: Connection) -> None:
        """Prepares what is due, between two transactions: should one of them fail it undoes nothing."""
        session: Session | None = connection.info.get("prepared")
        if session is None or not session.due:
            return
        due, session.due = session.due, {}
        errors: Any = connection.dialect.loaded_dbapi
        driver: Any = connection.connection.dbapi_connection
        with driver.cursor() as cursor:
            for statement, plan in due.items():
                try:
                    cursor.execute(plan.prepare)
                except errors.ProgrammingError as exc:
                    log.debug("not prepared: %s: %s", statement, exc)
                    if len(self.unfit) < REMEMBERED:
                        self.unfit.add(statement)
                except errors.Error as exc:
                    log.debug("not prepared: %s", exc)
                    return  # what comes next will say so
                else:
                    session.prepared[statement] = plan.execute

    def _is_due(self, session: Session, statement: str) -> bool:
        if len(session.seen) >= REMEMBERED:
            session.seen.clear()
        session.seen[statement] += 1
        return (
            session.seen[statement] >= OFTEN
            and len(session.prepared) + len(session.due) < MOST
            and statement not in session.due
            and statement not in self.unfit
            and PREPARABLE.match(statement) is not None
        )


def _plan(name: str, statement: str, context: Any) -> Plan:
    names = list(dict.fromkeys(name for name in PARAMETER.findall(statement) if name))
    places = {name: f"${place}" for place, name in enumerate(names, 1)}
    text = PARAMETER.sub(lambda found: places[found[1]] if found[1] else "%", statement)
    types = ", ".join(_type(context, each) for each in names)
    values = ", ".join(f"%({each})s" for each in names)
    return Plan(
        f"PREPARE {name}{f' ({types})' if types else ''} AS {text}",
        f"EXECUTE {name}{f' ({values})' if values else ''}",
    )


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
