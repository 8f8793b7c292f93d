"""Errors that cross a border: a closed set of categories, stable codes, and one wire form.

    ApiError                 anything a caller may be told about
      .code                  an ErrorCode from a contract: stable id, category, summary

A contract declares its codes once (``NAME_TAKEN = ErrorCode("zone.name-taken", Category.EXISTS, "…")``) and code
raises ``NAME_TAKEN.error("zone 'a' exists", resource=uuid)``. Categories decide HTTP status, whether a retry can
help, and nothing else; nobody reads the text of an error.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec


class Category(StrEnum):
    INVALID = "INVALID"
    NOT_FOUND = "NOT_FOUND"
    EXISTS = "EXISTS"
    STATE = "STATE"
    NO_CAPACITY = "NO_CAPACITY"
    DENIED = "DENIED"
    UNAVAILABLE = "UNAVAILABLE"
    TIMEOUT = "TIMEOUT"
    INTERNAL = "INTERNAL"


HTTP_STATUS: dict[Category, int] = {
    Category.INVALID: 400,
    Category.NOT_FOUND: 404,
    Category.EXISTS: 409,
    Category.STATE: 409,
    Category.NO_CAPACITY: 409,
    Category.DENIED: 403,
    Category.UNAVAILABLE: 503,
    Category.TIMEOUT: 504,
    Category.INTERNAL: 500,
}
RETRYABLE = frozenset({Category.UNAVAILABLE, Category.TIMEOUT, Category.NO_CAPACITY})


class Problem(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The wire form of an error: the body of an RFC 9457 answer, of an AMQP error reply and of ``job.error``.

    ``details`` is JSON-encodable. ``cause`` is the problem below this one, if another part reported it.
    """

    code: str
    category: Category
    message: str
    resource: str | None = None
    details: dict[str, Any] = {}
    retryable: bool = False
    retry_after: float | None = None
    cause: Problem | None = None


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One stable error id, declared in a contract and never renamed."""

    id: str
    category: Category
    summary: str

    def error(
        self,
        message: str = "",
        *,
        resource: str | None = None,
        retry_after: float | None = None,
        cause: ApiError | None = None,
        **details: Any,
    ) -> ApiError:
        """An exception with this code. ``message`` says what, which resource, and what to do."""
        return ApiError(
            Problem(
                code=self.id,
                category=self.category,
                message=message or self.summary,
                resource=resource,
                details=details,
                retryable=self.category in RETRYABLE,
                retry_after=retry_after,
                cause=cause.problem if cause else None,
            )
        )


@dataclass(eq=False)
class ApiError(Exception):
    """An error with a stable code. The only exception type that crosses the bus, the API or a job row."""

    problem: Problem
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.problem.code}: {self.problem.message}"

    @property
    def code(self) -> str:
        return self.problem.code

    @property
    def category(self) -> Category:
        return self.problem.category


INTERNAL = ErrorCode(
    "core.internal", Category.INTERNAL, "an unexpected fault; the log of the node has the trace"
)
INVALID = ErrorCode("core.invalid", Category.INVALID, "the request is malformed")
NOT_FOUND = ErrorCode("core.not-found", Category.NOT_FOUND, "there is no such resource")
NAME_TAKEN = ErrorCode("core.name-taken", Category.EXISTS, "the name is in use")
DENIED = ErrorCode("core.denied", Category.DENIED, "the caller may not do this")
UNAUTHENTICATED = ErrorCode("core.unauthenticated", Category.DENIED, "the request carries no valid token")
TIMEOUT = ErrorCode("core.timeout", Category.TIMEOUT, "the deadline passed")
CANCELLED = ErrorCode("core.cancelled", Category.STATE, "the job was cancelled")
OVERLOADED = ErrorCode("core.overloaded", Category.UNAVAILABLE, "too much work is queued")
UNAVAILABLE = ErrorCode("core.unavailable", Category.UNAVAILABLE, "a part this needs cannot be reached")
DATABASE_DOWN = ErrorCode("core.database-unavailable", Category.UNAVAILABLE, "the database cannot be reached")
DATABASE_SLOW = ErrorCode(
    "core.database-slow", Category.TIMEOUT, "the database took too long, and what it had begun was undone"
)
DATABASE_DAMAGED = ErrorCode("core.database-damaged", Category.INTERNAL, "the database file is damaged")
KEY_REUSED = ErrorCode(
    "core.idempotency-key-reused", Category.INVALID, "the key was used for a different request"
)
QUEUE_FULL = ErrorCode("core.queue-full", Category.STATE, "too many jobs wait for this resource")
REENTRY = ErrorCode(
    "core.reentry", Category.INTERNAL, "a call would wait for a serial key its own caller holds"
)
NO_HANDLER = ErrorCode("core.no-handler", Category.UNAVAILABLE, "no service on this node handles the message")
NO_CAPACITY = ErrorCode("core.no-capacity", Category.NO_CAPACITY, "a pool has too little left")
CONFLICT = ErrorCode("core.conflict", Category.STATE, "the resource changed in between")
IN_USE = ErrorCode("core.in-use", Category.STATE, "other resources still need this one")
INTERRUPTED = ErrorCode(
    "core.interrupted", Category.UNAVAILABLE, "the node that ran the job died; it was rolled back"
)
POISON = ErrorCode("core.poison", Category.INTERNAL, "the job ended the node that ran it too often")


class DeclarationError(Exception):
    """A manifest declares something that cannot be loaded. Raised at boot; its text names the manifest and the part."""


def from_exception(exc: BaseException) -> ApiError:
    """What a caller is told of ``exc``: an ApiError unchanged, a timeout as TIMEOUT, the rest as INTERNAL."""
    if isinstance(exc, ApiError):
        return exc
    if isinstance(exc, TimeoutError):
        return TIMEOUT.error(str(exc))
    return INTERNAL.error(f"{type(exc).__name__}: {exc}")


def log_failure(log: logging.Logger, exc: Exception, text: str, *args: object) -> None:
    """Of something whose failure stops nothing else: a line if it was foreseen and may work the next time (the
    database is away, for instance), and a trace otherwise."""
    if isinstance(exc, ApiError) and exc.problem.retryable:
        log.warning(f"{text}: %s", *args, exc)
    else:
        log.error(text, *args, exc_info=exc)
