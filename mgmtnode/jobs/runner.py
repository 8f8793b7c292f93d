"""Running jobs on their owner: one worker a resource, in accepted order, as many resources at once as there are."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Collection
from contextvars import Context
from typing import Any

from mgmtnode.db import resource
from mgmtnode.db.patience import outlast
from mgmtnode.db.session import Tx
from mgmtnode.errors import NOT_FOUND, ApiError, Problem, from_exception, log_failure
from mgmtnode.jobs.claim import Begin, Claimed, Claims, Outcome, Verdict, refuse_unfit
from mgmtnode.jobs.ending import ended_as, finish
from mgmtnode.jobs.job import JobState
from mgmtnode.jobs.pace import Pace
from mgmtnode.jobs.repository import Fenced, JobRepository
from mgmtnode.ring.slots import slot_of
from mgmtnode.workflow.engine import EngineParts, FlowRun
from mgmtnode.workflow.recovery import Recovery

log = logging.getLogger(__name__)
RETRY_PAUSE = 0.2  # seconds before a job that waits for an earlier one is looked at again
LONGEST_RETRY = 2.0
STUBBORN = 5.0  # seconds a cancelled worker has to go


class Runner:
    """Holds what this node works on. Memory only: all of it is found again from the database. ``gate`` returns when
    this node may claim, see Lease."""

    def __init__(
        self,
        parts: EngineParts,
        jobs: JobRepository,
        claims: Claims,
        gate: Callable[[], Awaitable[None]],
        pace: Pace,
    ) -> None:
        self._parts, self._jobs, self._claims, self._gate, self._pace = parts, jobs, claims, gate, pace
        self._held: set[int] = set()
        self._waiting: dict[str, list[tuple[int, str]]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._known: set[str] = set()
        self.running: dict[str, FlowRun] = {}
        self.closing = False

    def __len__(self) -> int:
        """Open jobs this node knows of."""
        return len(self._known)

    def __contains__(self, uuid: object) -> bool:
        """Whether the job waits or runs here."""
        return uuid in self._known

    def offer(self, seq: int, uuid: str, resource_uuid: str) -> None:
        """Says that a job of an own slot waits. Offering it again does nothing."""
        if uuid in self._known or self.closing or self._is_held(resource_uuid):
            return
        self._known.add(uuid)
        heapq.heappush(self._waiting.setdefault(resource_uuid, []), (seq, uuid))
        if resource_uuid not in self._workers:
            # A context of its own: it works on one job after the other, and not on behalf of who offered the first.
            task = asyncio.get_running_loop().create_task(self._work(resource_uuid), context=Context())
            self._workers[resource_uuid] = task

    def cancel(self, uuid: str) -> None:
        """Interrupts a running job; what it does next is roll back."""
        if run := self.running.get(uuid):
            run.cancel()

    def hold(self, slots: Collection[int]) -> bool:
        """Begins nothing more in these slots: they are about to move. Whether there is work in them."""
        self._held.update(slots)
        return any(self._is_held(uuid) for uuid in self._workers)

    def release(self, slots: Collection[int]) -> None:
        """The slots have moved, or stay after all; the next sweep finds what waits in those that stay."""
        self._held.difference_update(slots)

    async def suspend(self, slots: Collection[int], patience: float) -> list[str]:
        """Lets what runs in these slots end within ``patience`` seconds and stops the rest where it stands. Returns
        the jobs that do not stop: whoever takes them over must count on them, as after a crash."""
        wanted = set(slots)
        workers = {uuid: task for uuid, task in self._workers.items() if slot_of(uuid) in wanted}
        if not workers:
            return []
        _, left = await asyncio.wait(workers.values(), timeout=patience)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=STUBBORN)
        stubborn = {uuid for uuid, task in workers.items() if not task.done()}
        return [run.uuid for run in self.running.values() if run.resource_uuid in stubborn]

    def load(self) -> tuple[int, int]:
        """(jobs that run, jobs that wait) on this node."""
        running = len(self.running)
        return running, max(0, len(self._known) - running)

    async def drain(self, seconds: float) -> None:
        """Takes no more, waits for the workers, and hands those that take longer over to the next owner."""
        self.closing = True
        workers = list(self._workers.values())
        if workers:
            await asyncio.wait(workers, timeout=seconds)
        held = [run.held for run in self.running.values()]
        for task in workers:
            task.cancel()
        if workers:
            _, stubborn = await asyncio.wait(workers, timeout=STUBBORN)
            if stubborn:
                log.warning("%d jobs do not stop; they are left as after a crash", len(stubborn))
                held = []
        if held:
            await self._hand_over(held)

    async def _hand_over(self, held: list[tuple[str, int]]) -> None:
        log.info("%d running jobs are handed over", len(held))
        try:
            await self._parts.db.write(lambda tx: self._jobs.hand_over(tx, held))
        except ApiError as error:
            log.warning("they will be taken over as after a crash: %s", error)

    def snapshot(self) -> dict[str, Any]:
        return {
            "running": {uuid: run.live.step for uuid, run in self.running.items()},
            "waiting": {resource: len(queue) for resource, queue in self._waiting.items() if queue},
        }

    async def _work(self, resource_uuid: str) -> None:
        queue = self._waiting[resource_uuid]
        try:
            while queue and not self._barred(resource_uuid):
                _, uuid = heapq.heappop(queue)
                try:
                    await self._run(uuid, resource_uuid)
                except Fenced:
                    self._jobs.watch.fenced(uuid)
                except Exception as exc:
                    log_failure(log, exc, "job %s is dropped; it is taken up again from its row", uuid)
                finally:
                    self._known.discard(uuid)
        finally:
            del self._workers[resource_uuid]
            for _, uuid in self._waiting.pop(resource_uuid):
                self._known.discard(uuid)

    async def _run(self, uuid: str, resource_uuid: str) -> None:
        pause = RETRY_PAUSE
        while not self._barred(resource_uuid) and await self._run_once(uuid, resource_uuid) is Verdict.WAIT:
            await self._earlier_first(resource_uuid, uuid)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_RETRY)

    def _is_held(self, resource_uuid: str) -> bool:
        return bool(self._held) and slot_of(resource_uuid) in self._held

    def _barred(self, resource_uuid: str) -> bool:
        return self.closing or self._is_held(resource_uuid)

    async def _earlier_first(self, resource_uuid: str, uuid: str) -> None:
        """Runs the earlier jobs of the resource: those this node had not heard of, and those it heard of too late,
        which are in the queue of this very worker."""
        for earlier in await self._parts.db.read(lambda tx: self._jobs.before(tx, resource_uuid, uuid)):
            await self._run_once(earlier, resource_uuid)

    async def _run_once(self, uuid: str, resource_uuid: str) -> Verdict:
        began = self._jobs.watch.now()
        try:
            outcome = await self._claim(uuid, resource_uuid, self._begin)
        except Fenced:
            raise
        except Exception as exc:
            outcome = await self._claim(uuid, resource_uuid, self._refusing(exc))
        if outcome.claimed is not None:
            with self._jobs.watch.working_on(outcome.claimed, began):
                await self._go_on(outcome.claimed, outcome.verdict)
        return outcome.verdict

    async def _claim(self, uuid: str, resource_uuid: str, begin: Begin) -> Outcome:
        """A claim whose COMMIT went unanswered is found to be held, and taken up from its journal."""
        db, claims = self._parts.db, self._claims
        await self._gate()
        async with self._pace:
            if self._barred(resource_uuid):  # by now: it has waited for its turn
                return Outcome(Verdict.GONE)
            return await outlast(lambda: db.write(lambda tx: claims.claim(tx, uuid, resource_uuid, begin)))

    async def _go_on(self, claimed: Claimed, verdict: Verdict) -> None:
        if verdict not in (Verdict.RUN, Verdict.RECOVER):
            return
        run = claimed.run or FlowRun(self._parts, claimed)
        self.running[run.uuid] = run
        try:
            if verdict is Verdict.RUN:
                await run.go(run.first_step)
            else:
                await Recovery(claimed, run).go()
        finally:
            del self.running[run.uuid]

    def _begin(self, tx: Tx, claimed: Claimed) -> bool:
        refuse_unfit(tx, claimed)
        spec = claimed.spec
        if spec.flow is not None:
            claimed.context = spec.run(claimed.msg, claimed.token(0))
            claimed.run = FlowRun(self._parts, claimed)
            return claimed.run.begin(tx)
        result = spec.run(tx, claimed.msg)
        self._parts.created(tx, claimed)
        finish(tx, self._jobs, claimed, JobState.SUCCEEDED, steps=[], result=result)
        return True

    def _refusing(self, exc: Exception) -> Begin:
        def begin(tx: Tx, claimed: Claimed) -> bool:
            problem = from_exception(exc).problem
            if not isinstance(exc, ApiError):
                problem = self._gone(tx, claimed, exc) or problem
            finish(tx, self._jobs, claimed, ended_as(problem), steps=[], problem=problem)
            return True

        return begin

    def _gone(self, tx: Tx, claimed: Claimed, exc: Exception) -> Problem | None:
        """A job that waited for the deletion of its resource stumbles over what is not there; anything else that
        failed is a bug, and logged."""
        spec, uuid = claimed.spec, claimed.row.resource_uuid
        if spec.message.creates or spec.may_be_gone or resource.known(tx, [uuid]):
            log.error("job %s: its first step failed", claimed.row.uuid, exc_info=exc)
            return None
        return NOT_FOUND.error(f"there is no {spec.resource_type} {uuid} any more", resource=uuid).problem
