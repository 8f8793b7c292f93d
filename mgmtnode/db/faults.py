"""What an error of the database means for who asked, whichever database it is."""

from __future__ import annotations

from enum import Enum, auto

from sqlalchemy.exc import DBAPIError

from mgmtnode.errors import CONFLICT, DATABASE_DAMAGED, DATABASE_DOWN, DATABASE_SLOW, IN_USE, ApiError


class Fault(Enum):
    """``BUG``: the statement is wrong; no retry and no operator will help."""

    COLLISION = auto()  # with another transaction: run it again
    UNREACHABLE = auto()  # the database is away, full, or does not write: wait for it
    DAMAGED = auto()  # the file is no database, or not a whole one
    SLOW = auto()  # one statement, or the work between two, took longer than it may
    REFERENCE = auto()
    UNIQUE = auto()
    CHECK = auto()
    BUG = auto()


# SQLSTATE, the whole or its class: https://www.postgresql.org/docs/current/errcodes-appendix.html
POSTGRESQL = {
    "40001": Fault.COLLISION,  # serialization_failure
    "40P01": Fault.COLLISION,  # deadlock_detected
    "55P03": Fault.COLLISION,  # lock_not_available: lock_timeout
    "57014": Fault.SLOW,  # query_canceled: statement_timeout
    "25P03": Fault.SLOW,  # idle_in_transaction_session_timeout
    "25006": Fault.UNREACHABLE,  # read_only_sql_transaction: we talk to a standby
    "55000": Fault.UNREACHABLE,  # object_not_in_prerequisite_state: recovery is in progress, it is a standby
    "08": Fault.UNREACHABLE,  # connection exception
    "28": Fault.UNREACHABLE,  # invalid authorization
    "3D": Fault.UNREACHABLE,  # invalid catalog name: the database is not there
    "53": Fault.UNREACHABLE,  # insufficient resources: disk, memory, connections
    "57": Fault.UNREACHABLE,  # operator intervention: it shuts down
    "58": Fault.UNREACHABLE,  # system error
    "23503": Fault.REFERENCE,
    "23001": Fault.REFERENCE,  # restrict_violation
    "23505": Fault.UNIQUE,
    "23P01": Fault.UNIQUE,  # exclusion_violation
    "23514": Fault.CHECK,
}
SQLITE = {
    "SQLITE_BUSY": Fault.COLLISION,
    "SQLITE_LOCKED": Fault.COLLISION,
    "SQLITE_CONSTRAINT_FOREIGNKEY": Fault.REFERENCE,
    # What ON DELETE RESTRICT is reported as; our own triggers say what they refuse in their text.
    "SQLITE_CONSTRAINT_TRIGGER": Fault.REFERENCE,
    "SQLITE_CONSTRAINT_PRIMARYKEY": Fault.UNIQUE,
    "SQLITE_CONSTRAINT_UNIQUE": Fault.UNIQUE,
    "SQLITE_CONSTRAINT_ROWID": Fault.UNIQUE,
    "SQLITE_CONSTRAINT_CHECK": Fault.CHECK,
    "SQLITE_READONLY": Fault.UNREACHABLE,
    "SQLITE_IOERR": Fault.UNREACHABLE,
    "SQLITE_FULL": Fault.UNREACHABLE,
    "SQLITE_CANTOPEN": Fault.UNREACHABLE,
    "SQLITE_CORRUPT": Fault.DAMAGED,
    "SQLITE_NOTADB": Fault.DAMAGED,
    "SQLITE_NOMEM": Fault.UNREACHABLE,
    "SQLITE_PROTOCOL": Fault.UNREACHABLE,
}


def fault_of(exc: DBAPIError) -> Fault:
    """Read from the code, never from the text, except for our own trigger."""
    state = getattr(exc.orig, "pgcode", None)
    if state:
        return POSTGRESQL.get(state) or POSTGRESQL.get(state[:2], Fault.BUG)
    name = getattr(exc.orig, "sqlite_errorname", None)
    if name:
        if name == "SQLITE_CONSTRAINT_TRIGGER" and "FOREIGN KEY" not in str(exc.orig):
            return Fault.BUG
        return SQLITE.get(name) or next(
            (f for known, f in SQLITE.items() if name.startswith(known)), Fault.BUG
        )
    # libpq gives no code when the connection itself broke; a wrong use of the driver has none either.
    lost = exc.connection_invalidated or type(exc.orig).__name__ in ("OperationalError", "InterfaceError")
    return Fault.UNREACHABLE if lost else Fault.BUG


def other_schema(exc: BaseException) -> bool:
    """Whether a table or column is missing, so that the revisions the database has are not those of this release."""
    if not isinstance(exc, DBAPIError):
        return False
    undefined = getattr(exc.orig, "pgcode", None) in ("42P01", "42703")
    return undefined or str(exc.orig).startswith(("no such table", "no such column"))


def convert(exc: DBAPIError) -> ApiError | DBAPIError:
    """The error a caller is told for a database error; a bug is returned as it is."""
    match fault_of(exc):
        case Fault.REFERENCE:
            return IN_USE.error("another resource still refers to it, or what it refers to is gone")
        case Fault.UNIQUE | Fault.CHECK:
            return CONFLICT.error("the change collides with another one")
        case Fault.DAMAGED:
            return DATABASE_DAMAGED.error(f"{_said(exc)}; restore the database from a backup")
        case Fault.SLOW:
            return DATABASE_SLOW.error("the database took too long and was told to stop", retry_after=1.0)
        case Fault.UNREACHABLE | Fault.COLLISION:
            return DATABASE_DOWN.error(f"the database did not do it: {_said(exc)}", retry_after=1.0)
        case Fault.BUG:
            return exc


def _said(exc: DBAPIError) -> str:
    """The first line of what the database said."""
    return (str(exc.orig).splitlines() or ["no reason given"])[0][:200]
