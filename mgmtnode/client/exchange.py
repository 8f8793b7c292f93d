"""Requests, answers, retries and failover without any input or output.

An *exchange* is a generator: it yields what it wants done (``Send`` a request, ``Pause``) and is sent what
came of it. The sync and the async client only differ in the loop that does these two things, so every rule
about paths, parsing, retries and deadlines is written once.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from mgmtnode.client.errors import ConnectionFailed, ProblemError, UnexpectedAnswer, problem_error
from mgmtnode.errors import Category

T = TypeVar("T")

USER_AGENT = "mgmtnode-client/1"
TEMPORARY = frozenset({429, 502, 503, 504})
MUTATIONS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Request:
    """One API request. ``hold``: seconds the server was asked to hold its answer back."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: float = 0.0


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``request`` to ``base_url`` and give up after ``timeout`` seconds."""

    request: Request
    base_url: str
    headers: Mapping[str, str]
    content: bytes | None
    timeout: float


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        if not self.content:
            return None
        try:
            return msgspec.json.decode(self.content)
        except msgspec.DecodeError:
            start = self.content[:80].decode("utf-8", "replace")
            raise UnexpectedAnswer(f"status {self.status}, and not JSON: {start!r}") from None

    def problem(self) -> ProblemError:
        try:
            return problem_error(self.json(), self.status)
        except UnexpectedAnswer:
            return problem_error(None, self.status)


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer came: refused, reset, or silent for too long."""

    reason: str


Exchange = Generator[Send | Pause, Reply | Lost | None, T]


def mutation(request: Request, key: str | None = None) -> Request:
    """``request`` with an Idempotency-Key, which every retry repeats."""
    if request.method not in MUTATIONS or "Idempotency-Key" in request.headers:
        return request
    return replace(request, headers={**request.headers, "Idempotency-Key": key or str(uuid.uuid4())})


@dataclass(slots=True)
class Caller:
    """Sends requests to the first base URL that works, again and again until ``retry_for`` seconds are over.

    ``timeout`` bounds each attempt; ``retry_for`` bounds all attempts of one request together. ``on_retry``
    hears why and in how many seconds an attempt follows.
    """

    urls: tuple[str, ...]
    token: str | None = None
    timeout: float = 30.0
    retry_for: float = 60.0
    on_retry: Callable[[str, float], None] | None = None
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[float, float], float] = random.uniform
    current: int = 0

    def call(self, request: Request, key: str | None = None) -> Exchange[Reply]:
        """The answer, if it is a success; else its problem, once retrying cannot help or takes too long."""
        request = mutation(request, key)
        give_up, attempt = self.clock() + self.retry_for + request.hold, 0
        while True:
            answer = yield self.attempt(request, max(1.0, give_up - self.clock()))
            assert answer is not None, "a Send is answered"
            failure = self._failure(answer)
            if failure is None:
                assert isinstance(answer, Reply)
                return answer
            if not _may_pass(answer, failure):
                raise failure
            attempt += 1
            pause = self._next(answer, attempt)
            if self.clock() + pause >= give_up:
                raise failure
            if self.on_retry:
                self.on_retry(str(failure), pause)
            if pause:
                yield Pause(pause)

    def attempt(self, request: Request, remaining: float = math.inf) -> Send:
        """``request``, complete, for the base URL whose turn it is."""
        headers = {"Accept": "application/json", "User-Agent": USER_AGENT, **request.headers}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        content = None
        if request.body is not None:
            headers.setdefault("Content-Type", "application/json")
            content = msgspec.json.encode(request.body)
        url = self.urls[self.current]
        return Send(request, url, headers, content, min(self.timeout + request.hold, remaining))

    def _failure(self, answer: Reply | Lost) -> ProblemError | ConnectionFailed | None:
        if isinstance(answer, Lost):
            return ConnectionFailed(self.urls, answer.reason)
        return answer.problem() if answer.status >= 400 else None

    def _next(self, answer: Reply | Lost, attempt: int) -> float:
        """Seconds until the next attempt; the next URL takes its turn, unless we were too fast."""
        asked = _retry_after(answer) if isinstance(answer, Reply) else None
        if not (isinstance(answer, Reply) and answer.status == 429):
            self.turn()
            if asked is None and attempt % len(self.urls):
                return 0.0
        return self.backoff(attempt // len(self.urls), asked)

    def turn(self) -> None:
        """From now on the next base URL is used."""
        self.current = (self.current + 1) % len(self.urls)

    def backoff(self, rounds: int, asked: float | None = None) -> float:
        step = min(5.0, 0.1 * 2.0 ** min(rounds, 10))
        return max(self.jitter(step / 2, step), asked or 0.0)


def _may_pass(answer: Reply | Lost, failure: ProblemError | ConnectionFailed) -> bool:
    """Whether it can succeed later. A job that failed for lack of room cannot, though it is a 503 too."""
    if isinstance(answer, Lost) or answer.status == 429:
        return True
    if answer.status not in TEMPORARY or not isinstance(failure, ProblemError):
        return False
    return failure.category is Category.UNAVAILABLE or failure.code.startswith("http.")


def _retry_after(answer: Reply) -> float | None:
    """Seconds; a date, the header's other form, is left to the backoff: two clocks would have to agree."""
    try:
        return max(0.0, float(answer.headers.get("retry-after", "")))
    except ValueError:
        return answer.problem().retry_after
