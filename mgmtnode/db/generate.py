"""Writes revisions from the models: what ``scripts/make-migration`` runs. Nothing of it runs on a node."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, String, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import sort_tables

from mgmtnode.db import migrate
from mgmtnode.db.base import JsonOf, UtcTime, metadata
from mgmtnode.db.engine import open_database
from mgmtnode.db.fingerprint import fingerprint
from mgmtnode.db.schema import BASE, CORE, Branch, versions_of
from mgmtnode.db.tables import CORE_TABLES, TERMINAL_GUARD
from mgmtnode.ports import SystemClock

TRIGGERS = {"job": TERMINAL_GUARD}  # what Alembic does not know
OWN_NAMES = ("JsonOf", "UtcTime", "UuidText", "words")
LINE = 110
# What the renderer writes out although it is the default, or is meant for people only.
NOISE = (", nullable=True", ", unique=False", ", schema=None")
FINAL_NAME = r"\b(?:batch_)?op\.f\(('[^']*')\)"
HEAD = '''"""{title}"""

import sqlalchemy as sa
from alembic import op

{imports}revision = "{revision}"
down_revision = {down}
branch_labels = {label}
depends_on = {depends}


def upgrade() -> None:
'''


def initial(name: str, tables: Sequence[Table]) -> str:
    """The text of a branch's first revision: all of its tables. Reads no database."""
    steps: list[Any] = []
    for table in sort_tables(tables):
        steps.append(_bare(ops.CreateTableOp.from_table(table)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        steps += [ops.CreateIndexOp.from_index(index) for index in indexes]
    body = _rendered(ops.UpgradeOps(steps))
    for table in tables:
        body += _triggers(table.name)
    return _text(name, 1, "The tables as they were at first.", body)


def change(known: Sequence[Branch], branch: Branch, tables: Sequence[Table], message: str) -> str:
    """The text of the branch's next revision, or nothing if the models ask for none.

    SQLite is what the models are compared with: see to triggers, and to indexes on expressions, by hand.
    """
    names = {table.name for table in tables}
    core = {table.name for table in CORE_TABLES} if branch.name != CORE else set()

    def ours(thing: Any, name: str | None, kind: str, reflected: bool, counterpart: Any) -> bool:
        if kind != "table":
            return True
        return name != "alembic_version" and name not in core and (reflected or name in names)

    below = [other for other in known if other.name in (CORE, branch.name)]
    with tempfile.TemporaryDirectory() as directory:
        engine = _empty(Path(directory) / "upgraded.db")
        migrate.upgrade(engine, below)
        with migrate.quiet(), engine.connect() as connection:
            options = {"include_object": ours, "compare_type": True, "compare_server_default": True}
            found = produce_migrations(
                MigrationContext.configure(connection, opts=options), metadata
            ).upgrade_ops
        engine.dispose()
    if found is None or found.is_empty():
        return ""
    found.ops = [_bare(step) for step in found.ops]
    return _text(branch.name, branch.head + 1, message, _rendered(found))


def write(package: str, number: int, message: str, text: str) -> Path:
    """Writes a revision's file, and the package around it where there is none. Returns the file."""
    versions = versions_of(package)
    versions.mkdir(parents=True, exist_ok=True)
    name = package.split(".")[-2]
    for file, content in (
        (versions.parent / "__init__.py", f'"""The revisions of the {name} service\'s tables."""\n'),
        (versions / "__init__.py", ""),
    ):
        if not file.exists():
            file.write_text(content)
    words = "_".join(re.findall(r"[a-z0-9]+", message.lower()))[:40].strip("_")
    path = versions / f"{number:04d}_{words}.py"
    path.write_text(text)
    return path


def stale(known: Sequence[Branch], tables: dict[str, Sequence[Table]]) -> list[str]:
    """What the models say and the revisions do not. Exact for a branch with one revision; the others are compared
    by what they leave on SQLite: types, defaults, constraints, indexes and triggers."""
    found = []
    for branch in known:
        if branch.head == 1:
            text = (branch.directory / branch.files[1]).read_text()
            if ast.dump(ast.parse(text)) != ast.dump(ast.parse(initial(branch.name, tables[branch.name]))):
                found.append(
                    f"{branch.name}: {branch.directory / branch.files[1]} is not what the models declare"
                )
    with tempfile.TemporaryDirectory() as directory:
        upgraded, declared = (_empty(Path(directory) / name) for name in ("upgraded.db", "declared.db"))
        migrate.upgrade(upgraded, known)
        metadata.create_all(declared, tables=[table for branch in known for table in tables[branch.name]])
        has, wants = fingerprint(upgraded), fingerprint(declared)
        upgraded.dispose()
        declared.dispose()
    found += [f"the revisions leave, and no model declares: {line}" for line in sorted(has - wants)]
    found += [f"a model declares, and no revision makes: {line}" for line in sorted(wants - has)]
    return found


def _empty(file: Path) -> Engine:
    return open_database(f"sqlite:///{file}", SystemClock()).engine


def _bare(step: Any) -> Any:
    if isinstance(step, ops.CreateTableOp):
        step.info = {}  # it tells the query engine about the model, not the database
    return step


def _rendered(steps: ops.UpgradeOps) -> str:
    context = MigrationContext.configure(dialect_name="sqlite")
    text = render_python_code(
        steps, migration_context=context, render_item=_rendered_type, render_as_batch=bool(_altering(steps))
    )
    for noise in NOISE:
        text = text.replace(noise, "")
    lines = re.sub(FINAL_NAME, r"\1", text).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def _altering(steps: ops.UpgradeOps) -> Iterable[Any]:
    """Operations on tables that exist: SQLite needs those in batches."""
    return [step for step in steps.ops if not isinstance(step, ops.CreateTableOp | ops.CreateIndexOp)]


def _rendered_type(kind: str, thing: Any, context: Any) -> str | Literal[False]:
    if kind != "type":
        return False
    if isinstance(thing, UtcTime | JsonOf):
        return f"{type(thing).__name__}()"
    if type(thing) is String:
        on_postgres = thing.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]  # untyped there
        if on_postgres == "UUID":
            return "UuidText"
        if on_postgres.endswith('COLLATE "C"'):
            return f"words({thing.length or ''})"
    return False


def _triggers(table: str) -> str:
    text = ""
    for dialect, statements in TRIGGERS.get(table, {}).items():
        text += f"\n    if op.get_context().dialect.name == {dialect!r}:"
        text += "".join(f"\n        op.execute({statement!r})" for statement in statements)
    return text


def _text(name: str, number: int, title: str, body: str) -> str:
    used = [word for word in OWN_NAMES if re.search(rf"\b{word}\b", body)]
    first = number == 1
    head = HEAD.format(
        title=title,
        imports=f"from mgmtnode.db.base import {', '.join(used)}\n\n" if used else "",
        revision=f"{name}_{number:04d}",
        down=None if first else f'"{name}_{number - 1:04d}"',
        label=f'"{name}"' if first else None,
        depends=f'"{CORE}_{BASE:04d}"' if first and name != CORE else None,
    )
    return _formatted(head + "    " + body.strip() + "\n")


def _formatted(text: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--config", f"line-length={LINE}", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30)
    return done.stdout if done.returncode == 0 else text
