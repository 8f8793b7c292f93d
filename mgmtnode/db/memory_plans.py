"""Statements of an SQLite connection that are written once and run often: their SQL, and how values go in and come out,
is kept with them.

SQLAlchemy works that out anew each time, which costs more than SQLite does. A database in memory that runs hundreds of
thousands of small transactions, one after the other, does nothing else. What is kept are its own compiled statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Executable, Row
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import Select

KEPT = 4096
LISTS = (list, tuple)
Process = Callable[[Any], Any]
Value = Callable[[dict[str, Any]], Any]


class Rows:
    """What a statement found, all of it. The part of SQLAlchemy's Result that repositories use."""

    __slots__ = ("_found", "rowcount")

    def __init__(self, found: Sequence[Row[Any]], rowcount: int) -> None:
        self._found, self.rowcount = found, rowcount

    def __iter__(self) -> Iterator[Row[Any]]:
        return iter(self._found)

    def all(self) -> list[Row[Any]]:
        return list(self._found)

    fetchall = all

    def first(self) -> Row[Any] | None:
        return self._found[0] if self._found else None

    fetchone = first

    def one(self) -> Row[Any]:
        (row,) = self._found
        return row

    def scalar(self) -> Any:
        return self._found[0][0] if self._found else None

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalars(self) -> Picked:
        return Picked([row[0] for row in self._found])

    def mappings(self) -> Picked:
        return Picked([row._mapping for row in self._found])


class Picked:
    """One thing of each row."""

    __slots__ = ("_found",)

    def __init__(self, found: list[Any]) -> None:
        self._found = found

    def __iter__(self) -> Iterator[Any]:
        return iter(self._found)

    def all(self) -> list[Any]:
        return self._found

    def first(self) -> Any:
        return self._found[0] if self._found else None

    def one(self) -> Any:
        (found,) = self._found
        return found


class Plan:
    """One statement with certain parameters, which are as long as they were where they are lists."""

    def __init__(self, compiled: SQLCompiler, params: dict[str, Any], dialect: Any) -> None:
        state = compiled.construct_expanded_state(params)
        self.sql = state.statement
        processors: dict[str, Any] = {**compiled._bind_processors, **state.processors}
        elements = {
            name: (source, index)
            for source, names in state.parameter_expansion.items()
            for index, name in enumerate(names)
        }
        self._values = [
            _value(compiled, name, elements.get(name), params, processors.get(name))
            for name in state.positiontup or ()
        ]
        columns = compiled._result_columns
        self._metadata = SimpleResultMetaData([column[0] for column in columns]) if columns else None
        results = [column[3]._cached_result_processor(dialect, None) for column in columns]
        self._results: list[Any] | None = None
        if any(results):
            self._results = [process or _same for process in results]

    def run(self, raw: sqlite3.Connection, params: dict[str, Any]) -> Rows:
        cursor = raw.execute(self.sql, [value(params) for value in self._values])
        metadata = self._metadata
        if metadata is None:
            return Rows((), cursor.rowcount)
        index, results = metadata._key_to_index, self._results
        return Rows([Row(metadata, results, index, found) for found in cursor], cursor.rowcount)


class PreparedConnection:
    """Stands for ``connection`` where a Tx has one."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self.dialect = connection, connection.dialect
        self._raw: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        self._seen: dict[int, tuple[Executable, dict[Any, Plan | None]]] = {}
        self.exec_driver_sql = connection.exec_driver_sql
        self.connection = connection.connection

    def execute(self, statement: Executable, params: Any = None) -> Any:
        if params is None:
            params = {}
        elif type(params) is not dict:
            return [self.execute(statement, each) for each in params][-1]
        seen = self._seen.get(id(statement))
        if seen is None:  # perhaps written for this once
            self._remember(statement)
            return self._connection.execute(statement, params)
        key = tuple([(k, len(v)) if type(v) in LISTS else k for k, v in params.items()])
        plans = seen[1]
        if key not in plans:
            plans[key] = _plan(statement, params, self.dialect)
        plan = plans[key]
        if plan is None:
            return self._connection.execute(statement, params)
        try:
            return plan.run(self._raw, params)
        except sqlite3.Error as error:
            raise DBAPIError.instance(plan.sql, params, error, sqlite3.Error, dialect=self.dialect) from error

    def _remember(self, statement: Executable) -> None:
        """Statements are known by their identity, so each that is known is kept."""
        if len(self._seen) >= KEPT:
            self._seen = {number: seen for number, seen in self._seen.items() if seen[1]}
        self._seen[id(statement)] = statement, {}


def _plan(statement: Executable, params: dict[str, Any], dialect: Any) -> Plan | None:
    """None for what is not simple."""
    if not isinstance(statement, Select | UpdateBase):
        return None
    compiled = statement.compile(dialect=dialect, column_keys=list(params))
    assert isinstance(compiled, SQLCompiler)
    if compiled.insert_prefetch or compiled.update_prefetch or compiled.literal_execute_params:
        return None
    if isinstance(statement, Select) and not compiled._ordered_columns:
        return None
    if any(isinstance(value, set | frozenset) or _of_tuples(value) for value in params.values()):
        return None
    return Plan(compiled, params, dialect)


def _value(
    compiled: SQLCompiler,
    name: str,
    element: tuple[str, int] | None,
    params: dict[str, Any],
    process: Process | None,
) -> Value:
    """How the value of one question mark is found in the parameters."""
    source = element[0] if element else name
    bind = compiled.binds[source]
    key = bind.key if bind.key in params else source if source in params else None
    get: Value
    if key is None:
        value: Any = bind.effective_value
        value = value[element[1]] if element else value
        value = process(value) if process else value
        return lambda params: value
    if element is not None:
        index = element[1]
        get = lambda params: params[key][index]  # noqa: E731  # closes over this parameter
    else:
        get = itemgetter(key)
    return (lambda params: process(get(params))) if process else get


def _of_tuples(value: Any) -> bool:
    return type(value) in LISTS and bool(value) and type(value[0]) in LISTS


def _same(value: Any) -> Any:
    return value
