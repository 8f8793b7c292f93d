"""The journal of a running job: where it is, and what must be written down before it may go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from mgmtnode.db.patience import EVER, SLOW_ATTEMPTS, outlast
from mgmtnode.db.session import Database, Tx
from mgmtnode.errors import Problem
from mgmtnode.jobs import ledger
from mgmtnode.jobs.claim import Claimed
from mgmtnode.jobs.ending import finish
from mgmtnode.jobs.job import TERMINAL, JobState, Journal, StepRecord
from mgmtnode.jobs.repository import Fenced, JobRepository, JobRow
from mgmtnode.ports import Clock

Landed = Callable[[JobRow], bool]


@dataclass(kw_only=True)
class Live:
    """Where a running job is, for who watches it."""

    step: str = ""
    percent: int = 0
    text: str = ""
    records: list[StepRecord] = field(default_factory=list)


class JobJournal:
    """Everything one run of a job writes to its row. Each write is a compare-and-set and raises Fenced when another
    owner took the job over. ``cancelled``: the last one saw that somebody asked the job to stop."""

    def __init__(self, db: Database, jobs: JobRepository, clock: Clock, claimed: Claimed) -> None:
        assert claimed.flow is not None
        self._db, self._jobs, self._clock, self._claimed = db, jobs, clock, claimed
        self._flow = claimed.flow
        self.watch = jobs.watch
        self.cancelled = False
        self.live = Live(records=[StepRecord(name=step.name, state="Waiting") for step in self._flow.steps])

    async def write(
        self, work: Callable[[Tx], None], landed: Landed = lambda row: False, *, back: bool = False
    ) -> None:
        """Commits ``work``, waiting for the database as long as it is away; and as long as it is slow, if this is part
        of the way ``back`` or of any other that leads nowhere else.

        The reply of a COMMIT may be lost: before ``work`` runs again, ``landed`` says from the row whether it was
        committed after all. Each time, ``work`` begins with the context as it was.
        """
        claimed, runs = self._claimed, 0
        before = msgspec.json.encode(claimed.context)

        def once(tx: Tx) -> None:
            nonlocal runs
            runs += 1
            if runs > 1:
                row = self._reread(tx)
                done = row.state in TERMINAL or landed(row)
                written = (
                    msgspec.json.decode(row.journal, type=Journal).context if done and row.journal else before
                )
                claimed.context = msgspec.json.decode(written, type=claimed.spec.context)
                if done:
                    return
            work(tx)

        try:
            await outlast(lambda: self._db.write(once), EVER if back else SLOW_ATTEMPTS)
        except Fenced:
            raise
        except Exception:
            # Who was fenced off works on what may be no more: that is no failure of the step.
            await outlast(lambda: self._db.read(self._reread), EVER)
            raise

    def _reread(self, tx: Tx) -> JobRow:
        row = self._jobs.get(tx, self._claimed.row.uuid)
        if row is None or row.fence != self._claimed.fence:
            raise Fenced
        return row

    def enter(self, index: int, at: datetime | None = None) -> None:
        """Step ``index`` begins."""
        step = self._flow.steps[index]
        self.live.step, self.live.percent, self.live.text = step.name, 0, ""
        self.live.records[index] = StepRecord(
            name=step.name, state="Running", started_at=at or self._clock.now()
        )

    def leave(self, index: int, state: str, error: str | None = None, at: datetime | None = None) -> None:
        """Step ``index`` came to ``state``: Done, Failed, Undone or UndoFailed."""
        ended = at or self._clock.now()
        record = msgspec.structs.replace(self.live.records[index], state=state, ended_at=ended, error=error)
        self.live.records[index] = record

    def skip(self, index: int) -> None:
        """Step ``index`` has nothing to do this time."""
        self.live.records[index] = StepRecord(name=self._flow.steps[index].name, state="Skipped")

    def done_up_to(self, tx: Tx, step_no: int) -> None:
        """The steps before ``step_no`` are done, and the context is as it is now."""
        values = {
            "step_no": step_no,
            "step": self._flow.steps[min(step_no, len(self._flow.steps) - 1)].name,
            "steps": self.live.records,
            "progress": 100 * step_no // max(1, len(self._flow.steps)),
            "journal": self._encoded(),
        }
        self.cancelled = self._write(tx, JobState.RUNNING, values)

    def rolling_back(self, tx: Tx, failed: int, outcome: JobState, problem: Problem) -> None:
        """Written ahead of the first undo; there is no way back from it."""
        journal = self._encoded(failed_step=failed, outcome=outcome, problem=problem)
        values = {"state": JobState.ROLLING_BACK, "journal": journal, "steps": self.live.records}
        self._write(tx, JobState.RUNNING, values)

    def undone(self, tx: Tx) -> None:
        self._write(tx, JobState.ROLLING_BACK, {"steps": self.live.records})

    def end(self, tx: Tx, state: JobState, *, result: Any = None, problem: Problem | None = None) -> bool:
        """Whether somebody has asked the job to stop."""
        steps = self.live.records
        return finish(tx, self._jobs, self._claimed, state, steps=steps, result=result, problem=problem)

    def quarantine(self, tx: Tx, reason: str) -> None:
        """Something may be left on a host: keeps what the resource holds from being handed out, and owes a clean-up."""
        row, context = self._claimed.row, self._claimed.context
        hosts: list[str] = []
        if self._flow.hosts is not None and context is not None:
            hosts = self._flow.hosts(context)
            if not hosts:
                return  # nothing of it is on any host, and nobody would ever be asked
        ledger.quarantine(tx, row.resource_uuid)
        for host in hosts:
            ledger.owe(tx, host, row.resource_uuid, job_uuid=row.uuid, reason=reason)

    def _write(self, tx: Tx, state: JobState, values: dict[str, Any]) -> bool:
        return self._jobs.write(tx, self._claimed.row.uuid, self._claimed.fence, state, values)

    def _encoded(self, **undo: Any) -> str:
        context = msgspec.Raw(msgspec.json.encode(self._claimed.context))
        journal = Journal(flow=self._flow.name, version=self._flow.version, context=context, **undo)
        return msgspec.json.encode(journal).decode()
