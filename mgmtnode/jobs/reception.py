"""Requests for jobs that come together are accepted in one transaction: a commit costs more than a row.

Nobody is kept waiting for others to come. A request that finds one of the ``LANES`` free goes at once, and alone; those
that come while all are in use go together as soon as one is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from mgmtnode.db.session import Database
from mgmtnode.db.workers import to_its_end
from mgmtnode.errors import ApiError
from mgmtnode.jobs.acceptance import Acceptance, Accepted, Request

log = logging.getLogger(__name__)
LANES = 4
TOGETHER = 64  # requests in one transaction at most; bounds how long the first of them waits for the last
TOGETHER_BYTES = 1 << 20  # of their payloads, beyond which no other joins: they go in one statement


@dataclass(frozen=True, slots=True, eq=False)
class Guest:
    """One request, and who waits for what comes of it."""

    request: Request
    answer: asyncio.Future[Accepted]


class Reception:
    """Requests of one resource are accepted in the order in which they came here."""

    def __init__(self, db: Database, acceptance: Acceptance) -> None:
        self._db, self._acceptance = db, acceptance
        self._in_use = 0
        self._at_work: set[str] = set()  # resources of requests that are being accepted
        self._queue: deque[Guest] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether requests wait."""
        return bool(self._queue)

    async def accept(self, request: Request) -> Accepted:
        """See Acceptance.accept; durable once it returns. Raises what refuses it, and what the database raises: whether
        it was accepted is unknown then. A caller who is cancelled goes when that is known."""
        if request.precondition is not None:
            return await self._alone(request)
        if self._in_use >= LANES or request.target in self._at_work:
            return await self._in_turn(request)
        self._enter([request])
        try:
            return await self._alone(request)
        finally:
            self._leave([request])

    async def _alone(self, request: Request) -> Accepted:
        return await self._db.write(lambda tx: self._acceptance.accept(tx, request))

    async def _in_turn(self, request: Request) -> Accepted:
        guest = Guest(request, asyncio.get_running_loop().create_future())
        self._queue.append(guest)
        try:
            return await asyncio.shield(guest.answer)
        except asyncio.CancelledError:
            if guest in self._queue:
                self._queue.remove(guest)
            else:
                with contextlib.suppress(Exception):
                    await to_its_end(guest.answer)
            raise

    def _enter(self, requests: Iterable[Request]) -> None:
        self._in_use += 1
        self._at_work.update(_targets(requests))

    def _leave(self, requests: Iterable[Request]) -> None:
        """One lane is free, and these requests are over; others take their places."""
        self._in_use -= 1
        self._at_work.difference_update(_targets(requests))
        while self._in_use < LANES and (guests := self._next()):
            self._enter(guest.request for guest in guests)
            self._begin(self._together(guests))

    def _next(self) -> list[Guest]:
        """Those who go together, first come first; of each resource the first only, and none that is at work."""
        guests: list[Guest] = []
        left: deque[Guest] = deque()
        taken = set(self._at_work)
        size = 0
        while self._queue and len(guests) < TOGETHER and size < TOGETHER_BYTES:
            guest = self._queue.popleft()
            target = guest.request.target
            if target is None or target not in taken:
                guests.append(guest)
                size += len(guest.request.payload)
            else:
                left.append(guest)
            if target is not None:
                taken.add(target)
        self._queue.extendleft(reversed(left))
        return guests

    async def _together(self, guests: list[Guest]) -> None:
        requests = [guest.request for guest in guests]
        answers: dict[str, Accepted | ApiError] = {}
        over = requests
        try:
            answers = await self._all(requests)
            over = [request for request in requests if request.job_uuid in answers]
        except BaseException:
            for guest in guests:
                guest.answer.cancel()
            raise
        finally:
            self._leave(over)
        for guest in guests:
            self._tell(guest, answers.get(guest.request.job_uuid))

    async def _all(self, requests: Sequence[Request]) -> dict[str, Accepted | ApiError]:
        """The answers, by job; without those that are still to be found, one by one."""
        try:
            return await self._db.write(lambda tx: self._acceptance.accept_together(tx, requests))
        except ApiError as error:
            if error.problem.retryable:  # the database is away, and so it is for each of them
                return {request.job_uuid: error for request in requests}
            log.debug("%d requests are accepted one by one: %s", len(requests), error)
        except Exception as exc:  # one of them did it; alone it hears of it
            log.debug("%d requests are accepted one by one: %r", len(requests), exc)
        return {}

    def _tell(self, guest: Guest, answer: Accepted | ApiError | None) -> None:
        if isinstance(answer, Accepted):
            guest.answer.set_result(answer)
        elif answer is not None:
            guest.answer.set_exception(ApiError(answer.problem, answer.headers))
        else:
            self._in_use += 1
            self._begin(self._by_itself(guest))

    async def _by_itself(self, guest: Guest) -> None:
        try:
            guest.answer.set_result(await self._alone(guest.request))
        except BaseException as exc:
            guest.answer.set_exception(exc)
        finally:
            self._leave([guest.request])

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _targets(requests: Iterable[Request]) -> set[str]:
    return {request.target for request in requests if request.target is not None}
