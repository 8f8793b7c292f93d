"""Jobs as the API and the services see them: accept, watch, wait, cancel."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any, ClassVar

import msgspec

from mgmtnode.bus.bus import Bus
from mgmtnode.bus.message import ApiJob, Internal, Route, to_node
from mgmtnode.config.configs import GlobalConfigs
from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.db.session import Database, Tx
from mgmtnode.errors import INTERNAL, NOT_FOUND, OVERLOADED, ApiError
from mgmtnode.jobs.acceptance import JOB_DEADLINE, JOB_QUEUE, Acceptance, Accepted, JobSpec, Request
from mgmtnode.jobs.claim import Claimed
from mgmtnode.jobs.dry_run import plan
from mgmtnode.jobs.ending import JobEnded
from mgmtnode.jobs.job import Caller, Job, JobState, Plan, StepRecord
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.jobs.runner import Runner
from mgmtnode.ports import UuidSource
from mgmtnode.ring.slots import Slots
from mgmtnode.schema import Data

log = logging.getLogger(__name__)
POLL = 2.0  # seconds between looks at a job whose end nobody announced
MAX_WAIT = 60.0
OPEN_LIMIT = 20_000

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


class Progress(Data):
    """Where a running job is right now, as its owner knows."""

    step: str | None = None
    percent: int = 0
    steps: list[StepRecord] = []


class GetProgress(Internal[Progress], frozen=True, kw_only=True):
    route: ClassVar[Route] = to_node("node")
    timeout: ClassVar[float] = 1.0

    node: str
    job_uuid: str


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
        self._waiters: dict[str, asyncio.Event] = {}
        self.acceptance = Acceptance(repository, lambda: config.get(JOB_QUEUE))
        self.runner: Runner | None = None
        bus.subscribe(JobEnded, self._ended)
        bus.handle(GetProgress, self._progress)

    def learn_specs(self) -> None:
        """Called once the services are bound and ``specs`` is complete."""
        self._by_type = {spec.message: spec for spec in self._specs.values()}

    async def accept(
        self,
        msg: ApiJob[Any],
        caller: Caller,
        *,
        key: str | None = None,
        parent: str | None = None,
        origin: str = "",
        deadline: float | None = None,
    ) -> Job:
        """The accepted job, durable; or, for a known ``key``, the one accepted before. Raises what refuses it."""
        if parent is None and self.runner is not None and len(self.runner) >= self._config.get(JOB_OPEN):
            raise OVERLOADED.error("this node has too many open jobs", retry_after=2.0)
        request = self._request(msg, caller, key, parent, origin, deadline)
        accepted = await self._db.write(lambda tx: self.acceptance.accept(tx, request))
        if accepted.seq:
            self._announce(accepted)
        return accepted.job

    async def dry_run(self, msg: ApiJob[Any], caller: Caller) -> Plan:
        """What the job would do and decide; changes nothing."""
        request = self._request(msg, caller, None, None, "", None)
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
        event = self._waiters.setdefault(uuid, asyncio.Event())
        try:
            while True:
                job = await self._db.read(lambda tx: self._visible(tx, uuid, caller))
                left = until - loop.time()
                if job.ended or left <= 0:
                    return job if job.ended or caller is None else await self.get(uuid, caller)
                await _first(event, min(POLL, left))
        finally:
            self._waiters.pop(uuid, None)

    async def cancel(self, uuid: str, caller: Caller) -> Job:
        """Asks the job and its children to stop; an ended job is returned as it is."""

        def request(tx: Tx) -> tuple[Job, list[str]]:
            job = self._visible(tx, uuid, caller)
            family = [] if job.ended else self._jobs.family(tx, uuid)
            for member in family:
                self._jobs.request_cancel(tx, member)
            return self._visible(tx, uuid, caller), family

        job, family = await self._db.write(request)
        if self.runner is not None:
            for member in family:
                self.runner.cancel(member)
        return job

    async def sweep(self) -> None:
        """Finds open jobs of own slots that nobody announced, and running ones that somebody cancelled."""
        assert self.runner is not None
        running = list(self.runner.running)

        def look(tx: Tx) -> tuple[list[tuple[int, str, str]], set[str]]:
            slots = self._slots.own()
            found = self._jobs.open_in(tx, slots, 0, OPEN_LIMIT)
            return found, self._jobs.cancelled(tx, running) if running else set()

        found, cancelled = await self._db.read(look)
        for seq, uuid, resource_uuid in found:
            self.runner.offer(seq, uuid, resource_uuid)
        for uuid in cancelled:
            self.runner.cancel(uuid)

    async def forget(self) -> None:
        """Deletes jobs that ended before the retention period."""
        kept = timedelta(seconds=self._config.get(RETENTION))
        while await self._db.write(lambda tx: self._jobs.forget(tx, tx.now - kept, 500)):
            pass

    async def submit(self, parent: Claimed, msg: ApiJob[Any], key: str, deadline: float) -> Job:
        """Runs a child job to its end: the engine's way to work on another resource."""
        row = parent.row
        origin = row.origin or (row.resource_type if row.api.endswith(".delete") else "")
        job = await self.accept(
            msg, parent.caller, key=f"{row.uuid}/{key}", parent=row.uuid, origin=origin, deadline=deadline
        )
        while not job.ended:
            job = await self.wait(job.uuid, MAX_WAIT)
        return job

    def hinted(self, seq: int, uuid: str, resource_uuid: str) -> None:
        """Another node accepted a job for one of our slots."""
        if self.runner is not None:
            self.runner.offer(seq, uuid, resource_uuid)

    def _request(
        self,
        msg: ApiJob[Any],
        caller: Caller,
        key: str | None,
        parent: str | None,
        origin: str,
        deadline: float | None,
    ) -> Request:
        spec = self._by_type.get(type(msg))
        if spec is None:
            raise INTERNAL.error(f"no service handles {type(msg).__name__}")
        target = self._draw() if spec.message.creates else getattr(msg, spec.message.target)
        return Request(
            spec=spec,
            msg=msg,
            caller=caller,
            job_uuid=self._uuids.draw(),
            resource_uuid=target,
            key=key,
            parent=parent,
            origin=origin,
            deadline=deadline or float(self._config.get(JOB_DEADLINE)),
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
        if job is None or (caller and not caller.admin and job.account_uuid != caller.account_uuid):
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
        done = sum(record.state == "Done" for record in run.live.records)
        percent = (100 * done + run.live.percent) // max(1, len(run.live.records))
        return Progress(step=run.live.step, percent=percent, steps=run.live.records)

    async def _ended(self, event: JobEnded) -> None:
        if waiter := self._waiters.get(event.resource_uuid):
            waiter.set()


async def _first(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
