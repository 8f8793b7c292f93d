"""Jobs as the API and the services see them: accept, watch, wait, cancel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypedDict, Unpack

import msgspec

from mgmtnode.bus.bus import Bus
from mgmtnode.bus.context import current
from mgmtnode.bus.message import NOTHING, ApiJob, Nothing
from mgmtnode.config.configs import GlobalConfigs
from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.db.patience import EVER, outlast
from mgmtnode.db.session import Database, Tx
from mgmtnode.errors import CANCELLED, INTERNAL, NOT_FOUND, OVERLOADED, TIMEOUT, ApiError
from mgmtnode.jobs.acceptance import JOB_DEADLINE, JOB_QUEUE, Acceptance, Accepted, JobSpec, Request
from mgmtnode.jobs.claim import Claimed
from mgmtnode.jobs.dry_run import plan
from mgmtnode.jobs.ending import JobEnded, end_waiting
from mgmtnode.jobs.ends import Ends
from mgmtnode.jobs.floor import RunFloor
from mgmtnode.jobs.job import Caller, Job, JobState, Plan
from mgmtnode.jobs.messages import GetProgress, Progress, StopJob
from mgmtnode.jobs.reception import Reception
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.jobs.runner import Runner
from mgmtnode.ports import UuidSource
from mgmtnode.ring.slots import Slots
from mgmtnode.workflow.engine import UNDO_KEY

log = logging.getLogger(__name__)
POLL = 2.0  # seconds between looks at a job whose end nobody announced
MAX_WAIT = 60.0
OPEN_LIMIT = 20_000
OVERDUE_AT_ONCE = 200

JOB_OPEN = GlobalConfig(
    "job.open_per_node", 20_000, "Open jobs a node takes before it answers 503", low=10, high=1_000_000
)
UNDO_SECONDS = GlobalConfig(
    "job.undo_seconds",
    120,
    "How long a failed job tries to undo a step before it leaves a debt",
    unit="seconds",
    low=1,
)
RETENTION = GlobalConfig("job.retention", 30 * 86400, "Ended jobs are kept this long", unit="seconds", low=60)
JOB_CONFIGS = (JOB_DEADLINE, JOB_QUEUE, JOB_OPEN, UNDO_SECONDS, RETENTION)


Started = tuple[str, str]
"""A job that somebody has begun, and its resource."""


class Options(TypedDict, total=False):
    """Of a request for a job, see ``Jobs.accept``. ``deadline``: seconds from now."""

    key: str | None
    parent: str | None
    origin: str
    deadline: float | None
    precondition: Callable[[Tx], None] | None
    beside: Callable[[Tx, Job], None] | None


class Jobs:
    """``specs`` by API name. ``runner`` is set once this node has an incarnation to claim with."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        slots: Slots,
        *,
        uuids: UuidSource,
        config: GlobalConfigs,
        specs: dict[str, JobSpec],
        repository: JobRepository,
        node: str,
    ) -> None:
        self._db, self._bus, self._slots = db, bus, slots
        self._uuids, self._config, self._node = uuids, config, node
        self._specs, self._jobs = specs, repository
        self._by_type: dict[type[ApiJob[Any]], JobSpec] = {}
        self._ends = Ends()
        self.floor = RunFloor(db, repository)
        self.acceptance = Acceptance(repository, lambda: config.get(JOB_QUEUE))
        self.reception = Reception(db, self.acceptance)
        self.runner: Runner | None = None
        repository.watch.listeners.append(lambda job: self._ends.tell(job.uuid, job))
        bus.listen(JobEnded, self._ended)
        bus.handle(GetProgress, self._progress)
        bus.handle(StopJob, self._stop_here)

    def learn_specs(self) -> None:
        """Called once the services are bound and ``specs`` is complete."""
        self._by_type = {spec.message: spec for spec in self._specs.values()}

    async def accept(self, msg: ApiJob[Any], caller: Caller, **options: Unpack[Options]) -> Job:
        """The accepted job, durable; or, for a known ``key``, the one accepted before. Raises what refuses it, and
        what ``precondition`` raises; with one, nothing may be about to change the resource. ``beside`` writes what
        has to be durable together with the job, new or known."""
        if (
            options.get("parent") is None
            and self.runner is not None
            and len(self.runner) >= self._config.get(JOB_OPEN)
        ):
            raise OVERLOADED.error("this node has too many open jobs", retry_after=2.0)
        uuid = self._uuids.draw()
        with self._jobs.watch.accepting(msg.api.name, uuid):
            request = self.request(uuid, msg, caller, **options)
            accepted = await self.reception.accept(request)
            self._jobs.watch.accepted(accepted.job)
        if accepted.seq:
            self._announce(accepted)
        return accepted.job

    async def dry_run(self, msg: ApiJob[Any], caller: Caller) -> Plan:
        """What the job would do and decide; changes nothing."""
        request = self.request(self._uuids.draw(), msg, caller)
        return await plan(self._db, self.acceptance, request)

    async def get(self, uuid: str, caller: Caller) -> Job:
        """The job with its live progress. Raises core.not-found, also for another account's."""
        job = await self._db.read(lambda tx: self._visible(tx, uuid, caller))
        if job.state in (JobState.RUNNING, JobState.ROLLING_BACK) and job.owner_node:
            return await self._with_progress(job)
        return job

    async def wait(self, uuid: str, seconds: float, caller: Caller | None = None) -> Job:
        """The job once it has ended, or as it is after ``seconds`` (at most 60)."""
        loop = asyncio.get_running_loop()
        until = loop.time() + min(seconds, MAX_WAIT)
        with self._ends.of(uuid) as end:
            await self._until_told(uuid, end, until)
            while True:
                job = self._ended_here(uuid, caller)
                if job is None:
                    job = await self._db.read(lambda tx: self._visible(tx, uuid, caller))
                left = until - loop.time()
                if job.ended or left <= 0:
                    return job if job.ended or caller is None else await self.get(uuid, caller)
                await _first(end, min(POLL, left))

    async def _until_told(self, uuid: str, end: asyncio.Event, until: float) -> None:
        """Spares looking at a job that runs here before its end is told."""
        loop = asyncio.get_running_loop()
        while self.runner is not None and uuid in self.runner and not end.is_set():
            left = until - loop.time()
            if left <= 0 or uuid in self._ends:  # told before we listened, and the runner forgets it next
                return
            await _first(end, min(POLL, left))

    def _ended_here(self, uuid: str, caller: Caller | None) -> Job | None:
        job = self._ends.job(uuid)
        return job if job is not None and _may_see(job, caller) else None

    async def cancel(self, uuid: str, caller: Caller) -> Job:
        """Asks the job and its children to stop; an ended job is returned as it is."""

        def request(tx: Tx) -> tuple[Job, list[Started]]:
            job = self._visible(tx, uuid, caller)
            running = [] if job.ended else self._stop(tx, self._jobs.family(tx, uuid))
            return self._visible(tx, uuid, caller), running

        job, running = await self._db.write(request)
        self._interrupt(running)
        return job

    def _stop(self, tx: Tx, uuids: Iterable[str]) -> list[Started]:
        """Ends those that nobody has begun, asks the others to stop, and returns these."""
        running: list[Started] = []
        for uuid in uuids:
            row = self._jobs.request_cancel(tx, uuid)
            if row is None:
                continue
            problem = CANCELLED.error("cancelled before it began", resource=row.resource_uuid).problem
            if row.state != JobState.PENDING or not end_waiting(tx, self._jobs, row, problem):
                running.append((uuid, row.resource_uuid))
        return running

    def _interrupt(self, started: Iterable[Started]) -> None:
        """Their owners hear of it now, if the message arrives; else their sweep finds it."""
        for uuid, resource_uuid in started:
            try:
                self._bus.send(StopJob(resource_uuid=resource_uuid, job_uuid=uuid))
            except ApiError as error:
                log.info("job %s will find out by itself that it is to stop: %s", uuid, error)

    async def _stop_here(self, msg: StopJob) -> Nothing:
        if self.runner is not None:
            self.runner.cancel(msg.job_uuid)
        return NOTHING

    async def sweep(self) -> None:
        """Finds open jobs of own slots that nobody announced, and running ones that somebody cancelled."""
        assert self.runner is not None
        running = list(self.runner.running)

        def look(tx: Tx) -> tuple[list[tuple[int, str, str, bool]], set[str]]:
            found = self._jobs.open_in(tx, self._slots.own(), OPEN_LIMIT)
            return found, self._jobs.cancelled(tx, running) if running else set()

        found, cancelled = await self._db.read(look)
        for seq, uuid, resource_uuid, _ in found:
            self.runner.offer(seq, uuid, resource_uuid)
        for uuid in cancelled:
            self.runner.cancel(uuid)
        if any(overdue for *_, overdue in found):
            await self._end_overdue()

    async def _end_overdue(self) -> None:
        """A deadline holds for jobs that wait for their turn, too."""

        def end(tx: Tx) -> None:
            for row in self._jobs.overdue(tx, self._slots.own(), OVERDUE_AT_ONCE):
                error = TIMEOUT.error("its deadline passed before it began", resource=row.resource_uuid)
                end_waiting(tx, self._jobs, row, error.problem)

        await self._db.write(end)

    async def forget(self) -> None:
        """Deletes jobs that ended before the retention period."""
        kept = timedelta(seconds=self._config.get(RETENTION))
        while await self._db.write(lambda tx: self._jobs.forget(tx, tx.now - kept, 500)):
            pass

    async def submit(self, parent: Claimed, msg: ApiJob[Any], key: str, deadline: float) -> Job:
        """Runs a child job to its end: the engine's way to work on another resource. The key makes it safe to
        accept it again after an outage of the database."""
        row = parent.row
        origin = row.origin or (row.resource_type if row.api.endswith(".delete") else "")
        ours = f"{row.uuid}/{key}"
        job = await outlast(
            lambda: self.accept(
                msg, parent.caller, key=ours, parent=row.uuid, origin=origin, deadline=deadline
            )
        )
        return await self._until_ended(job)

    async def stop_children(self, parent_uuid: str) -> None:
        """Cancels the open children of a job and returns when they have ended. Those of its undo are left alone."""
        but = f"{parent_uuid}/{UNDO_KEY}"

        def stop(tx: Tx) -> tuple[list[str], list[Started]]:
            children = self._jobs.children(tx, parent_uuid, but=but)
            below = [uuid for child in children for uuid in self._jobs.family(tx, child)]
            return children, self._stop(tx, below)

        def look(tx: Tx) -> list[str]:
            return self._jobs.children(tx, parent_uuid, but=but)

        if not await outlast(lambda: self._db.read(look), EVER):
            return
        children, running = await outlast(lambda: self._db.write(stop), EVER)
        self._interrupt(running)
        for uuid in children:
            await self._until_ended(await outlast(lambda uuid=uuid: self.wait(uuid, 0), EVER))  # type: ignore[misc]

    async def _until_ended(self, job: Job) -> Job:
        """Every job ends: by itself, or by its deadline."""
        while not job.ended:
            job = await outlast(lambda uuid=job.uuid: self.wait(uuid, MAX_WAIT), EVER)  # type: ignore[misc]
        return job

    def hinted(self, seq: int, uuid: str, resource_uuid: str) -> None:
        """Another node accepted a job for one of our slots."""
        if self.runner is not None:
            self.runner.offer(seq, uuid, resource_uuid)

    def request(self, job_uuid: str, msg: ApiJob[Any], caller: Caller, **options: Unpack[Options]) -> Request:
        """What ``accept`` is asked for; nothing is accepted yet."""
        spec = self._by_type.get(type(msg))
        if spec is None:
            raise INTERNAL.error(f"no service handles {type(msg).__name__}")
        context = current.get()
        return Request(
            spec=spec,
            msg=msg,
            caller=caller,
            job_uuid=job_uuid,
            resource_uuid=self._draw() if spec.message.creates else getattr(msg, spec.message.target),
            key=options.get("key"),
            parent=options.get("parent"),
            origin=options.get("origin", ""),
            deadline=options.get("deadline") or float(self._config.get(JOB_DEADLINE)),
            trace=context.trace,
            span=context.span,
            precondition=options.get("precondition"),
            beside=options.get("beside"),
        )

    def _draw(self) -> str:
        """A uuid of one of our own slots, so that the new resource's first job needs no hop."""
        for _ in range(4096):
            uuid = self._uuids.draw()
            if self._slots.mine(uuid):
                break
        return uuid

    def _announce(self, accepted: Accepted) -> None:
        job = accepted.job
        if self._slots.mine(job.resource_uuid):
            self.hinted(accepted.seq, job.uuid, job.resource_uuid)
        else:
            self._bus.hint(accepted.seq, job.uuid, job.resource_uuid)

    def _visible(self, tx: Tx, uuid: str, caller: Caller | None) -> Job:
        job = self._jobs.view(tx, uuid)
        if job is None or not _may_see(job, caller):
            raise NOT_FOUND.error(f"there is no job {uuid}", resource=uuid)
        if job.state is JobState.PENDING:
            return msgspec.structs.replace(job, queue_position=self._jobs.position(tx, uuid))
        return job

    async def _with_progress(self, job: Job) -> Job:
        try:
            live = await self._bus.call(GetProgress(node=str(job.owner_node), job_uuid=job.uuid))
        except ApiError:
            return job  # the row is the truth; progress is a courtesy
        if live.step is None:
            return job
        return msgspec.structs.replace(job, step=live.step, progress=live.percent, steps=live.steps)

    async def _progress(self, msg: GetProgress) -> Progress:
        run = self.runner.running.get(msg.job_uuid) if self.runner is not None else None
        if run is None:
            return Progress()
        done = sum(record.state in ("Done", "Skipped") for record in run.live.records)
        percent = (100 * done + run.live.percent) // max(1, len(run.live.records))
        return Progress(step=run.live.step, percent=percent, steps=run.live.records)

    def _ended(self, event: JobEnded) -> None:
        self._ends.tell(event.resource_uuid)


def _may_see(job: Job, caller: Caller | None) -> bool:
    return caller is None or caller.admin or job.account_uuid == caller.account_uuid


async def _first(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
