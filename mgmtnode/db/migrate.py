"""Runs revisions with Alembic, configured here and by no file: one transaction for everything that is to be done."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Table, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mgmtnode.db.base import metadata
from mgmtnode.db.schema import BASE, CORE, Branch, SchemaError, applied, numbers, pending
from mgmtnode.db.tables import CORE_TABLES

if TYPE_CHECKING:
    from alembic.runtime.migration import RevisionStep, StampStep

log = logging.getLogger(__name__)
ALEMBIC_LOG = logging.getLogger("alembic.runtime")

ONE_AT_A_TIME = 0x6D6E5343  # the advisory lock's key: "mnSC"
WAIT_FOR_ANOTHER = "60s"
# A statement that waits for a lock on a table makes all later users of the table wait behind it.
WHILE_UPGRADING = {
    "lock_timeout": "5s",
    "statement_timeout": "15min",
    "idle_in_transaction_session_timeout": "60s",
}

Steps = Iterator["RevisionStep | StampStep"]
Plan = Callable[[Any, MigrationContext], Steps]


def upgrade(engine: Engine, known: Sequence[Branch]) -> list[str]:
    """Applies what is missing and returns the revisions. Raises SchemaError; then nothing was changed."""
    scripts = _scripts(known)
    ALEMBIC_LOG.setLevel(logging.WARNING)  # it would say, of SQLite, that it assumes DDL without transactions
    with _alone(engine) as connection:
        due = pending(connection, known)  # another node may have done it while we waited
        if due:
            _refuse_unversioned(connection)
            begun: list[str] = []
            context = MigrationContext.configure(connection, opts={"fn": _plan(scripts, known, begun)})
            try:
                with Operations.context(context):
                    context.run_migrations()
            except SQLAlchemyError as exc:
                raise _failed(begun, exc) from exc
    if due:
        log.info("schema upgraded: %s", ", ".join(due))
    return due


def statements(engine: Engine, known: Sequence[Branch]) -> str:
    """The SQL of what is missing, as one transaction, for an administrator to read and run."""
    scripts, out = _scripts(known), io.StringIO()
    with engine.connect() as connection:
        if not pending(connection, known):
            return ""
        heads = _listed(connection)
    begun: list[str] = []
    options = {
        "fn": _plan(scripts, known, begun),
        "as_sql": True,
        "starting_rev": heads or None,
        "output_buffer": out,
        "literal_binds": True,
        "transactional_ddl": True,
    }
    context = MigrationContext.configure(dialect=engine.dialect, opts=options)
    try:
        with Operations.context(context), context.begin_transaction():
            context.run_migrations()
    except (SQLAlchemyError, AttributeError) as exc:
        raise SchemaError(
            f"revision {begun[-1]} cannot be printed: it must read the database ({exc})"
        ) from exc
    return out.getvalue()


def differences(engine: Engine, tables: Iterable[Table]) -> list[str]:
    """How the core's and the given tables in the database differ from what the models declare."""
    declared = {table.name for table in (*CORE_TABLES, *tables)}

    def ours(thing: Any, name: str | None, kind: str, reflected: bool, counterpart: Any) -> bool:
        if kind == "table":
            return name in declared
        return True

    options = {"include_object": ours, "compare_type": True}
    with quiet(), engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    return sorted(_in_words(entry) for entry in _flat(found))


@contextmanager
def quiet() -> Iterator[None]:
    """SQLite cannot reflect an index on an expression; SQLAlchemy and Alembic say so of each. For tools: warnings are
    a matter of the whole process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based index")
        warnings.filterwarnings("ignore", "autogenerate skipping metadata-specified expression-based index")
        yield


def _scripts(known: Sequence[Branch]) -> ScriptDirectory:
    """The revisions of the branches, each where this release's rules want it. Raises SchemaError."""
    scripts = ScriptDirectory(
        known[0].directory.parent, version_locations=[branch.directory for branch in known]
    )
    try:
        for branch in known:
            for number, file in branch.files.items():
                script = scripts.get_revision(branch.revision(number))
                if (said := _said(script.module)) != (wanted := _wanted(branch, number)):
                    raise SchemaError(f"{branch.directory / file}: must say {wanted}, not {said}")
    except (CommandError, RevisionError) as exc:
        raise SchemaError(f"the revisions do not fit together: {exc}") from exc
    return scripts


def _heads(done: dict[str, int], known: Sequence[Branch]) -> set[str]:
    """What Alembic is to take as applied: of the services that are enabled only, and without what that implies."""
    heads = {branch.revision(done[branch.name]) for branch in known if branch.name in done}
    implied = known[0].revision(BASE)
    return heads - {implied} if len(heads) > 1 else heads


def _wanted(branch: Branch, number: int) -> dict[str, Any]:
    """The first revision of a branch is labelled with its name and depends on the core's; the others follow on."""
    first = number == 1
    return {
        "revision": branch.revision(number),
        "down_revision": None if first else branch.revision(number - 1),
        "branch_labels": branch.name if first else None,
        "depends_on": f"{CORE}_{BASE:04d}" if first and branch.name != CORE else None,
    }


def _said(module: Any) -> dict[str, Any]:
    names = ("revision", "down_revision", "branch_labels", "depends_on")
    return {name: getattr(module, name, None) for name in names}


def _plan(scripts: ScriptDirectory, known: Sequence[Branch], begun: list[str]) -> Plan:
    """The core's revisions first, so that services may rely on all of the core; ``begun`` gets each one's name."""

    def steps(heads: Any, context: MigrationContext) -> Steps:
        ours = _heads(numbers(heads), known)
        core_head = known[0].revision(known[0].head)
        plan: Any = scripts._upgrade_revs  # it takes several heads, and its annotation says one
        first = list(plan(core_head, tuple(ours)))
        if first:
            ours = {head for head in ours if not head.startswith(f"{CORE}_")} | {core_head}
        for step in (*first, *plan("heads", tuple(ours))):
            begun.append(step.to_revisions_no_deps[0])
            yield step

    return steps


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction that changes the schema while no other one does."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            with connection.begin():
                for name, value in WHILE_UPGRADING.items():
                    connection.execute(text(f"set local {name} = '{value}'"))
                connection.execute(text(f"set local lock_timeout = '{WAIT_FOR_ANOTHER}'"))
                connection.execute(text(f"select pg_advisory_xact_lock({ONE_AT_A_TIME})"))
                connection.execute(text(f"set local lock_timeout = '{WHILE_UPGRADING['lock_timeout']}'"))
                yield connection
            return
        # SQLite changes a table by copying and dropping it, and a drop would delete what refers to it. The pragma
        # does nothing inside a transaction, and so needs to come before SQLAlchemy begins one (BEGIN IMMEDIATE).
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                _refuse_dangling(connection)
        finally:
            driver.execute("PRAGMA foreign_keys=ON")


def _refuse_dangling(connection: Connection) -> None:
    if lost := connection.execute(text("PRAGMA foreign_key_check")).first():
        raise SchemaError(
            f"the upgrade left rows of {lost[0]} that refer to rows of {lost[2]} which are gone; undone"
        )


def _refuse_unversioned(connection: Connection) -> None:
    """A development version made tables without saying which: nothing can tell what they lack."""
    if not applied(connection) and inspect(connection).has_table(CORE_TABLES[0].name):
        raise SchemaError(
            "the database has tables but no alembic_version: it was made before migrations were kept; "
            "remove it (the file, or the schema's tables) and start again"
        )


def _failed(begun: list[str], exc: Exception) -> SchemaError:
    cause = str(exc.orig if isinstance(exc, DBAPIError) else exc).strip().splitlines() or [type(exc).__name__]
    return SchemaError(
        f"revision {begun[-1] if begun else '?'} could not be applied, and the database is as it was: {cause[0]}"
    )


def _listed(connection: Connection) -> tuple[str, ...]:
    if not applied(connection):
        return ()
    return tuple(connection.execute(text("select version_num from alembic_version")).scalars())


def _flat(found: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    for entry in found:
        if isinstance(entry, list):
            yield from _flat(entry)
        else:
            yield entry


def _in_words(entry: tuple[Any, ...]) -> str:
    """``add_column vm.cpu``: what a revision would have to do."""
    thing = entry[-1]
    if entry[0].startswith("modify_"):
        return f"{entry[0]} {entry[2]}.{entry[3]}: {entry[-2]!r} to {entry[-1]!r}"
    table = getattr(thing, "table", None)
    name = getattr(thing, "name", None) or thing
    return f"{entry[0]} {f'{table.name}.' if table is not None else ''}{name}"
