"""The messages that clients get: the result, the problem, the accepted job, its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mgmtnode.api.amqp.outlet import Outgoing
from mgmtnode.api.amqp.request import JSON, Address
from mgmtnode.api.gateway import Answer, Done, Planned
from mgmtnode.api.problems import encode, status_of
from mgmtnode.api.rest import failure
from mgmtnode.jobs.job import Job, JobState

PROBLEM_JSON = "application/problem+json"
RESULT, PROBLEM, ACCEPTED, ENDED = "result", "problem", "job.accepted", "job.ended"


@dataclass(frozen=True, slots=True)
class Reply:
    """``kind`` goes as the message's type, ``status`` is the one that HTTP has for the same."""

    kind: str
    status: int
    content: Any
    message_id: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)

    def to(self, address: Address, request_id: str = "") -> Outgoing:
        properties = {
            "type": self.kind,
            "correlation_id": address.correlation_id or None,
            "message_id": self.message_id,
        }
        headers = {"status": self.status, **self.headers}
        if request_id:
            headers["x-request-id"] = request_id
        kind = PROBLEM_JSON if self.kind == PROBLEM else JSON
        return Outgoing(address.reply_to, encode(self.content), properties, kind, headers)


def result(content: Any, status: int = 200) -> Reply:
    return Reply(RESULT, status, content)


def problem(document: dict[str, Any], status: int) -> Reply:
    return Reply(PROBLEM, status, document)


def accepted(job: Job) -> Reply:
    headers = {"idempotent-replay": "true"} if job.replayed else {}
    return Reply(ACCEPTED, 202, job, f"{job.uuid}.accepted", headers)


def ended(job: Job) -> Reply:
    status = 200 if job.state is JobState.SUCCEEDED else status_of(failure(job, {}).problem)
    return Reply(ENDED, status, job, f"{job.uuid}.ended")


def of_answer(answer: Answer) -> list[Reply]:
    """Of a job that had ended already (its key was used before), both messages."""
    if isinstance(answer, Done):
        return [result(answer.reply, answer.operation.api.status)]
    if isinstance(answer, Planned):
        return [result(answer.plan)]
    found = [accepted(answer.job)]
    return [*found, ended(answer.job)] if answer.job.ended else found
