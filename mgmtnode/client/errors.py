"""What the client raises.

    ClientError
    ├── ConnectionFailed       no base URL answered before the deadline
    ├── StillRunning           a wait ended before the job did; the job goes on (also a TimeoutError)
    ├── UnexpectedAnswer       something answered, but not a management node
    └── ProblemError           the management plane said no, and why
        ├── Invalid  NotFound  Exists  StateConflict  NoCapacity
        └── Denied  Unavailable  Timeout  Internal

A ``ProblemError`` looks the same whether the API refused the request or the job failed later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mgmtnode.errors import Category, Problem

if TYPE_CHECKING:
    from mgmtnode.client.records import JobState


class ClientError(Exception):
    """Everything the client raises on purpose."""


class ConnectionFailed(ClientError):
    def __init__(self, urls: tuple[str, ...], reason: str) -> None:
        super().__init__(f"cannot reach {', '.join(urls)}: {reason}")
        self.urls, self.reason = urls, reason


class UnexpectedAnswer(ClientError):
    """The answer is not of this API: a wrong URL, or something else listens there."""


class StillRunning(ClientError, TimeoutError):
    """``job`` is the last state that was seen; waiting again takes up where this wait ended."""

    def __init__(self, job: JobState) -> None:
        super().__init__(f"job {job['uuid']} is still {job.get('state')}")
        self.job = job


class ProblemError(ClientError):
    """``problem`` as the server sent it; ``status`` is the HTTP status, or None if it ended a job."""

    def __init__(self, problem: Problem, status: int | None = None) -> None:
        super().__init__(f"{problem.code}: {problem.message}")
        self.problem, self.status = problem, status

    @property
    def code(self) -> str:
        return self.problem.code

    @property
    def category(self) -> Category:
        return self.problem.category

    @property
    def message(self) -> str:
        return self.problem.message

    @property
    def resource(self) -> str | None:
        return self.problem.resource

    @property
    def details(self) -> dict[str, Any]:
        return self.problem.details

    @property
    def retryable(self) -> bool:
        return self.problem.retryable

    @property
    def retry_after(self) -> float | None:
        return self.problem.retry_after

    @property
    def cause(self) -> Problem | None:
        return self.problem.cause


class Invalid(ProblemError): ...


class NotFound(ProblemError): ...


class Exists(ProblemError): ...


class StateConflict(ProblemError): ...


class NoCapacity(ProblemError): ...


class Denied(ProblemError): ...


class Unavailable(ProblemError): ...


class Timeout(ProblemError): ...


class Internal(ProblemError): ...


BY_CATEGORY: dict[Category, type[ProblemError]] = {
    Category.INVALID: Invalid,
    Category.NOT_FOUND: NotFound,
    Category.EXISTS: Exists,
    Category.STATE: StateConflict,
    Category.NO_CAPACITY: NoCapacity,
    Category.DENIED: Denied,
    Category.UNAVAILABLE: Unavailable,
    Category.TIMEOUT: Timeout,
    Category.INTERNAL: Internal,
}

BY_STATUS = {
    401: Category.DENIED,
    403: Category.DENIED,
    404: Category.NOT_FOUND,
    409: Category.STATE,
    412: Category.STATE,
    429: Category.UNAVAILABLE,
    502: Category.UNAVAILABLE,
    503: Category.UNAVAILABLE,
    504: Category.TIMEOUT,
}


def problem_error(body: object, status: int | None = None) -> ProblemError:
    """The exception for a problem object, or for the bare status of an answer that carries none.

    Lenient: an older client meets categories of a newer server, and a load balancer answers in HTML.
    """
    problem = read_problem(body if isinstance(body, Mapping) else {}, status)
    return BY_CATEGORY[problem.category](problem, status)


def read_problem(body: Mapping[str, Any], status: int | None = None) -> Problem:
    text = body.get("message") or body.get("detail") or body.get("title")
    details, cause, resource = body.get("details"), body.get("cause"), body.get("resource")
    return Problem(
        code=str(body.get("code") or (f"http.{status}" if status else "core.internal")),
        category=_category(body.get("category"), status),
        message=str(text or f"the server answered {status}"),
        resource=None if resource is None else str(resource),
        details=dict(details) if isinstance(details, Mapping) else {},
        retryable=bool(body.get("retryable", False)),
        retry_after=_seconds(body.get("retry_after")),
        cause=read_problem(cause) if isinstance(cause, Mapping) else None,
    )


def _category(word: object, status: int | None) -> Category:
    if isinstance(word, str) and word in Category.__members__:
        return Category[word]
    if status is None:
        return Category.INTERNAL
    return BY_STATUS.get(status, Category.INVALID if status < 500 else Category.INTERNAL)


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
