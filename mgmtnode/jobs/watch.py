"""What operators see of jobs: two lines each in the log, metrics, spans."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from mgmtnode.bus.context import CallContext, current
from mgmtnode.errors import Category
from mgmtnode.jobs.job import Job
from mgmtnode.telemetry import families, logs
from mgmtnode.telemetry.telemetry import Telemetry, Timing

if TYPE_CHECKING:
    from mgmtnode.jobs.claim import Claimed
    from mgmtnode.jobs.repository import JobRow

log = logging.getLogger(__name__)


class JobWatch:
    """One a node; it hears of what this node did to jobs, once that is committed. ``listeners`` hear of each job that
    this node has ended, as its row is."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._metrics, self._telemetry = telemetry.metrics, telemetry
        self._accepting = telemetry.operation("accept", ("api",), logger=log)
        self._running = telemetry.operation("job", ("api",), logger=log)
        self._steps = telemetry.operation("step", ("step", "api"), logger=log)
        self._at_work: dict[str, Timing] = {}
        self.listeners: list[Callable[[Job], None]] = []
        self.now = telemetry.now

    @contextmanager
    def accepting(self, api: str, job_uuid: str) -> Iterator[None]:
        """Around the acceptance of a job: what nobody asked for begins a trace of its own."""
        context, reset = current.get(), None
        if not context.trace:
            trace = job_uuid.replace("-", "")
            begun = msgspec.structs.replace(context, trace=trace, span=self._telemetry.first_span(trace))
            reset = current.set(begun)
        try:
            with logs.about(job_uuid, ""), self._accepting(api):
                yield
        finally:
            if reset is not None:
                current.reset(reset)

    def accepted(self, job: Job) -> None:
        if job.replayed:
            log.debug("the request was accepted before, as job %s", job.uuid)
            return
        self._metrics.count(families.JOBS_ACCEPTED, job.api)
        about = {"job": job.uuid, "resource": job.resource_uuid}
        log.info("accepted %s", job.api, extra=about)

    @contextmanager
    def working_on(self, claimed: Claimed, began: float) -> Iterator[None]:
        """Around the work on a job that this node claimed, which ``began`` with the claim: it belongs to the trace of
        who asked for the job."""
        row = claimed.row
        reset = current.set(CallContext(trace=row.trace, span=row.span))
        timing = self._at_work[row.uuid] = self._running(row.api).since(began)
        try:
            with logs.about(row.uuid, row.resource_uuid), timing:
                yield
        finally:
            del self._at_work[row.uuid]
            current.reset(reset)

    def step(self, name: str, api: str) -> Timing:
        """Around a step of a flow, or its undo."""
        return self._steps(name, api)

    def recovered(self, row: JobRow, how: str) -> None:
        """A job was taken up from its journal, and is to be resumed, rolled-back or given-up."""
        self._metrics.count(families.JOB_RECOVERIES, how)
        log.info("%s was taken over from its journal: %s", row.api, how)

    def fenced(self, uuid: str) -> None:
        self._metrics.count(families.JOBS_FENCED)
        log.info("another owner has it", extra={"job": uuid})

    def ended(self, job: Job) -> None:
        at, started, problem = job.ended_at or job.accepted_at, job.started_at, job.error
        waited = max(0.0, ((started or at) - job.accepted_at).total_seconds())
        ran = max(0.0, (at - started).total_seconds()) if started else 0.0
        self._metrics.count(families.JOBS_ENDED, job.api, job.state)
        self._metrics.observe(families.JOB_QUEUE_SECONDS, waited, job.api)
        self._metrics.observe(families.JOB_RUN_SECONDS, ran, job.api)
        if job.uuid in self._at_work:
            self._at_work[job.uuid].outcome = job.state.lower()
        why = f": {problem.code}: {problem.message}" if problem else ""
        about = {"job": job.uuid, "resource": job.resource_uuid, "trace": job.trace, "request": ""}
        ours = problem is not None and problem.category is Category.INTERNAL
        level = logging.WARNING if ours else logging.INFO
        text = "%s %s in %.3f s, after %.3f s in the queue%s"
        log.log(level, text, job.api, job.state, ran, waited, why, extra=about)
        for listener in self.listeners:
            listener(job)
