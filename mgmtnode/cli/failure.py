"""From an exception to one line on standard error and an exit code (those of ``sysexits.h``, where it has
one)."""

from __future__ import annotations

import errno

import click

FAILED = 1
USAGE = 2
TEMPORARY = 75
CONFIGURATION = 78
INTERRUPTED = 130
OTHER_SCHEMA = (
    "the database lacks what this release's revisions make ({}): it was made by an unreleased build, or changed by "
    "hand; 'mgmtnode db check' lists the differences; restore a backup, or remove the database and start again"
)
WRITE_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC)


def report(exc: BaseException) -> int:
    """Prints what went wrong and returns the exit code. Usage errors come with the usage line."""
    if isinstance(exc, click.exceptions.Exit):
        return exc.exit_code
    if isinstance(exc, click.UsageError):
        exc.show()
        return USAGE
    if isinstance(exc, KeyboardInterrupt | click.Abort):
        return INTERRUPTED
    code, text = _told(exc)
    click.echo(f"mgmtnode: {' '.join(text.split())}", err=True)
    return code


def _told(exc: BaseException) -> tuple[int, str]:
    from mgmtnode.bus.choice import BadBusUrl
    from mgmtnode.cluster.solitude import NodeRuns
    from mgmtnode.config.file import ConfigFileError
    from mgmtnode.db.engine import BadUrl
    from mgmtnode.db.faults import other_schema
    from mgmtnode.db.lock import DirectoryTaken
    from mgmtnode.db.schema import SchemaError
    from mgmtnode.errors import ApiError, DeclarationError
    from mgmtnode.loader import LoadError
    from mgmtnode.shared.choice import BadRedisUrl
    from mgmtnode.telemetry.traces import NoTraces

    wrong = (
        BadBusUrl,
        BadRedisUrl,
        BadUrl,
        ConfigFileError,
        DeclarationError,
        LoadError,
        NoTraces,
        SchemaError,
    )
    if isinstance(exc, wrong):
        return CONFIGURATION, str(exc)
    if isinstance(exc, ApiError):
        return TEMPORARY if exc.problem.retryable else FAILED, exc.problem.message
    if other_schema(exc):
        return CONFIGURATION, OTHER_SCHEMA.format(str(getattr(exc, "orig", exc)).partition("\n")[0])
    if isinstance(exc, NodeRuns):
        return TEMPORARY, str(exc)
    if isinstance(exc, click.ClickException):
        return exc.exit_code, exc.message
    if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
        return FAILED, f"{exc.strerror or exc}; another program listens there: choose another api.port"
    if isinstance(exc, OSError) and exc.filename:
        hint = "; the node must be able to write there" if exc.errno in WRITE_REFUSED else ""
        return FAILED, f"{exc.filename}: {exc.strerror}{hint}"
    if isinstance(exc, OSError | TimeoutError | DirectoryTaken):
        return FAILED, str(exc) or type(exc).__name__
    return FAILED, f"{type(exc).__name__}: {exc}; run 'mgmtnode --traceback …' to see where it comes from"
