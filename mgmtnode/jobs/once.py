"""Calls that change something and are answered at once: once for each idempotency key, and rehearsed like jobs.

A call with a key leaves an ended job in its own transaction (docs/adr/0013), which answers the same request again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid5

import msgspec

from mgmtnode.bus.context import Asked, current
from mgmtnode.bus.message import ApiCall, reply_type
from mgmtnode.db.session import Tx
from mgmtnode.errors import KEY_REUSED
from mgmtnode.jobs.ending import JobEnded
from mgmtnode.jobs.job import Caller, Job, JobState, Plan
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.ports import UuidSource
from mgmtnode.ring.slots import slot_of

R = TypeVar("R")
REPEATED = UUID("6f1d3a52-8c0b-4e0e-9b8e-2f4c1b7a9d10")  # names what a repeated request makes


class Rehearsed(Exception):
    """Undoes the transaction of a dry run. The gateway answers the plan."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


class Once(Generic[R]):
    """One such call. Made by the handler of a message with ``once = True``, before its transaction, and used by it
    for that one transaction, which is the last thing it does. ``secret``: fields that are written down nowhere, and
    so not compared between requests."""

    def __init__(
        self,
        uuids: UuidSource,
        msg: ApiCall[Any],
        caller: Caller,
        resource_type: str,
        secret: Collection[str] = (),
    ) -> None:
        self._msg, self._caller, self._type, self._secret = msg, caller, resource_type, secret
        self._uuids, self._job_uuid = uuids, uuids.draw()
        self._asked = current.get().asked or Asked()
        self._jobs = JobRepository()

    @property
    def dry_run(self) -> bool:
        return self._asked.dry_run

    @property
    def replayed(self) -> bool:
        """Whether the request had been answered before, as known after ``do``."""
        return self._asked.replayed

    def uuid(self, whose: str) -> str:
        """The uuid of what the call makes: without a key a new one, with a key always the same for ``whose`` request.
        For answers with a secret, which cannot be kept: what was made before is found, and given another secret."""
        key = self._asked.key
        return self._uuids.draw() if key is None else str(uuid5(REPEATED, f"{self._type}/{whose}/{key}"))

    def do(self, tx: Tx, resource_uuid: str, work: Callable[[], R]) -> R:
        """What ``work`` returns, or has returned to the same request. Raises core.idempotency-key-reused, and
        Rehearsed in a dry run."""
        key = self._asked.key
        if key and (earlier := self._earlier(tx, key)):
            return earlier
        done = work()
        self.rehearsed(resource_uuid, done)
        if key:
            self._keep(tx, key, resource_uuid, done)
        return done

    def rehearsed(self, resource_uuid: str, done: Any) -> None:
        """The end of a dry run: raises Rehearsed with what was ``done``. Otherwise nothing."""
        if self.dry_run:
            raise Rehearsed(self._plan(resource_uuid, done))

    def seen(self, tx: Tx) -> R | None:
        """The answer given before, for handlers whose effect is not in the transaction."""
        return self._earlier(tx, self._asked.key) if self._asked.key else None

    def _earlier(self, tx: Tx, key: str) -> R | None:
        account = self._caller.account_uuid
        self._jobs.enqueue(tx, f"{account}/{key}")  # else two at once would both do it
        found = self._jobs.by_key(tx, account, key)
        if found is None:
            return None
        digest, job = found
        if digest != self._digest():
            raise KEY_REUSED.error("the idempotency key was used for a different request", resource=job.uuid)
        self._asked.replayed = True
        answer: R = msgspec.convert(job.result, reply_type(type(self._msg)))
        return answer

    def _digest(self) -> str:
        fields = msgspec.to_builtins(self._msg)
        public = {name: value for name, value in fields.items() if name not in self._secret}
        payload = msgspec.json.encode(public, order="sorted")
        return hashlib.sha256(self._msg.api.name.encode() + b"\0" + payload).hexdigest()

    def _plan(self, resource_uuid: str, done: Any) -> Plan:
        name = self._msg.api.name
        return Plan(
            api=name,
            resource_type=self._type,
            resource_uuid=resource_uuid,
            steps=[name.rpartition(".")[2]],
            context=msgspec.to_builtins(done),
        )

    def _keep(self, tx: Tx, key: str, resource_uuid: str, done: R) -> None:
        job = Job(
            uuid=self._job_uuid,
            api=self._msg.api.name,
            resource_type=self._type,
            resource_uuid=resource_uuid,
            state=JobState.SUCCEEDED,
            account_uuid=self._caller.account_uuid,
            progress=100,
            accepted_at=tx.now,
            started_at=tx.now,
            ended_at=tx.now,
            deadline_at=tx.now,
            result=msgspec.to_builtins(done),
        )
        self._jobs.insert(tx, self._row(job, key))
        ended = JobEnded(
            resource_uuid=job.uuid, state=job.state, api=job.api, target_uuid=resource_uuid, problem=None
        )
        tx.record(ended)

    def _row(self, job: Job, key: str) -> dict[str, Any]:
        shown = (
            "uuid",
            "api",
            "resource_type",
            "resource_uuid",
            "state",
            "account_uuid",
            "progress",
            "result",
        )
        times = ("accepted_at", "started_at", "ended_at", "deadline_at")
        return {name: getattr(job, name) for name in (*shown, *times)} | {
            "caller": msgspec.json.encode(self._caller).decode(),
            "idempotency_key": key,
            "request_hash": self._digest(),
            "payload": "{}",  # it may hold a password
            "slot": slot_of(job.resource_uuid),
            "steps": [],
            "cancel_requested": False,
        }
