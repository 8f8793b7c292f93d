"""Whether the database's schema is the one this release needs; boot asks here before anything heavier is imported.

Every service has its own branch of numbered revisions, ``services/<id>/migrations/versions/0001_initial.py`` holding
``<id>_0001``; the core's is in ``mgmtnode/db/migrations``. Branches are linear, so the file names say all that a boot
must know. Alembic's table ``alembic_version`` says what was applied (docs/adr/0007).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from mgmtnode.db.faults import convert
from mgmtnode.db.session import SqlDatabase
from mgmtnode.errors import ApiError

if TYPE_CHECKING:
    from mgmtnode.service import ServiceManifest

CORE = "core"
CORE_PACKAGE = "mgmtnode.db.migrations"
BASE = 1  # the core's revision that every service's first one depends on
FILE_NAME = re.compile(r"(\d{4})_\w+\.py")
WRITE_REFUSED = re.compile("readonly database|unable to open database|permission denied", re.IGNORECASE)
NAME_LENGTH = 27  # Alembic keeps revisions in 32 characters

SERVER = {
    "sqlite": "select 'SQLite ' || sqlite_version(), null",
    "postgresql": "select 'PostgreSQL ' || current_setting('server_version'), extract(epoch from clock_timestamp())",
}
HAS_VERSIONS = {
    "sqlite": "select 1 from sqlite_master where type = 'table' and name = 'alembic_version'",
    "postgresql": "select 1 where to_regclass('alembic_version') is not null",
}


class SchemaError(Exception):
    """The schema cannot be brought to what this release needs. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Branch:
    """The revisions of the core or of one service, and where they are."""

    name: str
    directory: Path
    files: dict[int, str]

    @property
    def head(self) -> int:
        return max(self.files)

    def revision(self, number: int) -> str:
        return f"{self.name}_{number:04d}"


def upgrade(db: SqlDatabase, manifests: Iterable[ServiceManifest]) -> list[str]:
    """Applies what is missing, all of it or nothing, and returns the revisions. Blocks; run it in a thread.

    Any number of nodes may call it at once. Costs a query where nothing is to be done. Raises SchemaError, and
    ``core.database-unavailable``.
    """
    known = branches(manifests)
    with told(db), db.engine.connect() as connection:
        if not pending(connection, known):
            return []
    from mgmtnode.db import migrate  # Alembic costs a tenth of a second and most boots do without

    with told(db):
        return migrate.upgrade(db.engine, known)


def branches(manifests: Iterable[ServiceManifest]) -> list[Branch]:
    """The core's branch, then those of the services in their order. Raises SchemaError for a malformed one."""
    services = [
        (branch_name(manifest.id), manifest.migrations) for manifest in manifests if manifest.migrations
    ]
    return [_branch(name, package) for name, package in ((CORE, CORE_PACKAGE), *services)]


def branch_name(service: str) -> str:
    """A service's id as Alembic can have it."""
    name = service.replace("-", "_")
    if name == CORE or len(name) > NAME_LENGTH:
        raise SchemaError(
            f"service {service!r}: a service with tables needs another id, of at most {NAME_LENGTH} letters"
        )
    return name


def _branch(name: str, package: str) -> Branch:
    directory = versions_of(package)
    files: dict[int, str] = {}
    for file in sorted(directory.iterdir()) if directory.is_dir() else ():
        if not (match := FILE_NAME.fullmatch(file.name)):
            continue
        number = int(match[1])
        if number in files:
            raise SchemaError(
                f"{directory}: {files[number]} and {file.name} have one number; renumber the later one"
            )
        files[number] = file.name
    if sorted(files) != list(range(1, len(files) + 1)) or not files:
        fault = (
            "has no revisions"
            if not files
            else f"must be numbered from 0001 without gaps, not {sorted(files)}"
        )
        raise SchemaError(f"{directory}: {fault}; scripts/make-migration makes them")
    return Branch(name, directory, files)


def versions_of(package: str) -> Path:
    """The directory with a package's revisions, whether it exists or not. Imports only what is above the package."""
    above, _, last = package.rpartition(".")
    try:
        spec = find_spec(above)
    except ImportError as exc:
        raise SchemaError(f"package {package!r} of migrations cannot be found: {exc}") from exc
    if spec is None or not spec.submodule_search_locations:
        raise SchemaError(f"package {package!r} of migrations cannot be found: there is no package {above!r}")
    return Path(spec.submodule_search_locations[0]) / last / "versions"


def applied(connection: Connection) -> dict[str, int]:
    """The number of the last applied revision by branch, of services that are not enabled, too."""
    if connection.execute(text(HAS_VERSIONS[connection.dialect.name])).first() is None:
        return {}
    return numbers(connection.execute(text("select version_num from alembic_version")).scalars())


def numbers(listed: Iterable[str]) -> dict[str, int]:
    """What Alembic lists, by branch. It leaves out a revision that a listed one depends on: the core's first."""
    parted = (revision.rpartition("_") for revision in listed)
    found = {name: int(number) for name, _, number in parted if number.isdigit()}
    return {CORE: BASE} | found if found else {}


def pending(connection: Connection, known: Sequence[Branch]) -> list[str]:
    """The revisions that are to be applied. Raises SchemaError if the database is ahead of this release."""
    done = applied(connection)
    for branch in known:
        if done.get(branch.name, 0) > branch.head:
            raise SchemaError(
                f"the database is newer than this release: it has revision {branch.revision(done[branch.name])}, the "
                f"latest known here is {branch.revision(branch.head)}; start the release that upgraded it, or a later "
                "one, or restore a backup from before the upgrade"
            )
    return [
        branch.revision(number)
        for branch in known
        for number in sorted(branch.files)
        if number > done.get(branch.name, 0)
    ]


def server(db: SqlDatabase) -> tuple[str, float | None]:
    """Name and version of the database, and the seconds since 1970 by its own clock if it has one. Blocks."""
    with told(db), db.engine.connect() as connection:
        version, clock = connection.execute(text(SERVER[db.dialect])).one()
    return str(version), None if clock is None else float(clock)


@contextmanager
def told(db: SqlDatabase) -> Iterator[None]:
    """Errors of the driver as those that callers are told, with the name of the database."""
    try:
        yield
    except DBAPIError as exc:
        raise _named(db, convert(exc)) from exc
    except ApiError as exc:
        raise _named(db, exc) from exc


def _named(db: SqlDatabase, error: ApiError | DBAPIError) -> ApiError | DBAPIError:
    if not isinstance(error, ApiError):
        return error
    url = db.engine.url
    name = url.database or "" if db.dialect == "sqlite" else f"database.url ({url.render_as_string()})"
    problem = error.problem
    if problem.message.startswith(name):
        return error
    hint = "; the node must be able to write it" if WRITE_REFUSED.search(problem.message) else ""
    return ApiError(msgspec.structs.replace(problem, message=f"{name}: {problem.message}{hint}"))
