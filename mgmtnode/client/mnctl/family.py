"""The jobs below a job: which of them failed, on what, and why."""

from __future__ import annotations

from typing import Any

from mgmtnode.client.errors import ClientError, ProblemError, problem_error
from mgmtnode.client.mnctl import naming
from mgmtnode.client.mnctl.app import App
from mgmtnode.client.records import Record

DEPTH = 6
MOST = 20


def children(app: App, uuid: str, *conditions: str, limit: int = 1000) -> list[Record]:
    """The jobs that this one began, oldest first."""
    jobs = app.client.collection("jobs")
    return list(jobs.list((f"parent_uuid={uuid}", *conditions), sort="accepted_at", limit=limit))


def failures(app: App, uuid: str | None, exc: ClientError) -> list[str]:
    """One line for each job at the bottom that kept this one from succeeding; nothing if it began none."""
    if uuid is None or not isinstance(exc, ProblemError) or exc.status is not None:
        return []
    try:
        found = _leaves(app, uuid, DEPTH)
        names = naming.lookup(app, ("resource_uuid",), found)
    except ClientError:
        return []  # the failure itself is what matters, and it is told without them
    lines = {
        (job["resource_uuid"], reason(job)): _line(job, names) for job in found
    }  # two ways down may lead to it
    return [*lines.values()][:MOST] + (["…"] if len(lines) > MOST else [])


def _leaves(app: App, uuid: str, depth: int) -> list[Record]:
    found: list[Record] = []
    for job in children(app, uuid, "state?=Failed,Cancelled", limit=MOST + 1):
        if len(found) > MOST:
            break
        found += (_leaves(app, job["uuid"], depth - 1) if depth else []) or [job]
    return found


def _line(job: Record, names: dict[str, str]) -> str:
    uuid = job["resource_uuid"]
    return f"{job['api']} {names.get(uuid, uuid)}: {reason(job)}; mnctl job show {job['uuid']}"


def reason(job: dict[str, Any]) -> str:
    if not job.get("error"):
        return str(job.get("state"))
    error = problem_error(job["error"])
    return f"{error.message} ({error.code})"
