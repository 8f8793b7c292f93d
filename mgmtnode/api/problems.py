"""What the outside is told when something is wrong: codes of the gateway, and errors as RFC 9457 problems."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import msgspec

from mgmtnode import errors
from mgmtnode.errors import HTTP_STATUS, ApiError, Category, ErrorCode, Problem

MALFORMED_JSON = ErrorCode("api.malformed-json", Category.INVALID, "the body is not JSON")
DUPLICATE_KEY = ErrorCode("api.duplicate-key", Category.INVALID, "an object has the same key twice")
TOO_DEEP = ErrorCode("api.too-deep", Category.INVALID, "the body is nested too deeply")
BAD_TEXT = ErrorCode("api.bad-text", Category.INVALID, "a text holds what is no character")
NOT_AN_OBJECT = ErrorCode("api.not-an-object", Category.INVALID, "the body is not a JSON object")
TOO_LARGE = ErrorCode("api.too-large", Category.INVALID, "the body is too large")
TOO_SLOW = ErrorCode("api.too-slow", Category.INVALID, "the body did not arrive in time")
WRONG_TYPE = ErrorCode("api.wrong-content-type", Category.INVALID, "the body must be JSON")
INVALID_FIELD = ErrorCode("api.invalid-field", Category.INVALID, "a field does not fit its type")
UNKNOWN_PARAMETER = ErrorCode("api.unknown-parameter", Category.INVALID, "there is no such query parameter")
INVALID_PARAMETER = ErrorCode("api.invalid-parameter", Category.INVALID, "a parameter does not fit its type")
INVALID_HEADER = ErrorCode("api.invalid-header", Category.INVALID, "a header does not fit its form")
MALFORMED_REQUEST = ErrorCode("api.malformed-request", Category.INVALID, "the request is not HTTP/1.1")
HEAD_TOO_LARGE = ErrorCode("api.head-too-large", Category.INVALID, "the head of the request is too large")
UNKNOWN_PATH = ErrorCode("api.unknown-path", Category.NOT_FOUND, "there is no such path")
UNKNOWN_API = ErrorCode("api.unknown-api", Category.NOT_FOUND, "there is no API of this name")
WRONG_METHOD = ErrorCode("api.wrong-method", Category.INVALID, "the path does not have this method")
PRECONDITION = ErrorCode("api.precondition-failed", Category.STATE, "the resource changed since it was read")
NO_DRY_RUN = ErrorCode("api.no-dry-run", Category.INVALID, "this API cannot be tried dry")
PORT_TAKEN = ErrorCode("api.port-taken", Category.STATE, "the port of the API cannot be bound")
STOPPING = ErrorCode("api.stopping", Category.UNAVAILABLE, "the node is stopping; another one answers")
TOO_MANY_REPLIES = ErrorCode(
    "api.too-many-replies", Category.STATE, "too many reply queues wait for the end of this job"
)
TOO_MANY_STREAMS = ErrorCode("api.stream-limit", Category.UNAVAILABLE, "the node serves no more streams")

STATUS_OF_CODE = {
    errors.UNAUTHENTICATED.id: 401,
    WRONG_METHOD.id: 405,
    TOO_SLOW.id: 408,
    PRECONDITION.id: 412,
    TOO_LARGE.id: 413,
    WRONG_TYPE.id: 415,
    HEAD_TOO_LARGE.id: 431,
    errors.KEY_REUSED.id: 422,
}
TOO_MANY = "too-many-"


def status_of(problem: Problem) -> int:
    """The HTTP status of a problem: its category's, but for a few codes.

    A code named ``….too-many-…`` is 429, whoever declares it: one account asks too often, the node is well.
    """
    status = STATUS_OF_CODE.get(problem.code)
    if status is None and problem.code.rpartition(".")[2].startswith(TOO_MANY):
        return 429
    return status or HTTP_STATUS[problem.category]


def headers_of(exc: ApiError) -> dict[str, str]:
    """What goes beside a problem: Retry-After, the challenge of a 401, and headers the error brings along."""
    headers = dict(exc.headers)
    if exc.problem.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(exc.problem.retry_after)))
    if exc.code == errors.UNAUTHENTICATED.id:
        headers.setdefault("www-authenticate", 'Bearer realm="mgmtnode"')
    return headers


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?``, or nothing if no known word is near."""
    near = get_close_matches(word[:100], list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class Catalogue:
    """The declared error codes by id, which give a problem its title."""

    def __init__(self, codes: Iterable[ErrorCode] = ()) -> None:
        found = [*vars(errors).values(), *globals().values(), *codes]
        self.codes = {c.id: c for c in found if isinstance(c, ErrorCode)}

    def document(self, problem: Problem, instance: str = "", request_id: str = "") -> dict[str, Any]:
        """``problem`` as an RFC 9457 object."""
        known = self.codes.get(problem.code)
        body: dict[str, Any] = {
            "type": f"/docs/errors#{problem.code}",
            "title": known.summary if known else problem.category.replace("_", " ").capitalize(),
            "status": status_of(problem),
            "detail": problem.message,
            "instance": instance,
            "code": problem.code,
            "category": problem.category,
            "resource": problem.resource,
            "details": problem.details,
            "retryable": problem.retryable,
            "retry_after": problem.retry_after,
            "request_id": request_id,
        }
        if problem.cause:
            body["cause"] = self.document(problem.cause)
        return {key: value for key, value in body.items() if value not in (None, "", {})}


def encode(body: Any) -> bytes:
    """JSON of anything that contracts hold; what is strange in an error's details becomes text."""
    return msgspec.json.encode(body, enc_hook=str)
