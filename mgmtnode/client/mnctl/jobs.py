"""``mnctl job``: what the management plane is doing and did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mgmtnode.client.errors import StateConflict
from mgmtnode.client.mnctl import family, listing, outcome, render
from mgmtnode.client.mnctl.app import App, Leaf, pass_app
from mgmtnode.client.mnctl.kinds import Kind
from mgmtnode.client.mnctl.outcome import Sent, Waiting
from mgmtnode.client.mnctl.problems import STILL_RUNNING
from mgmtnode.errors import CANCELLED

if TYPE_CHECKING:
    from mgmtnode.client.sync import Job

JOB = Kind(
    "job", "jobs", "Jobs",
    columns=("api", "state", "progress", "step", "resource_uuid", "accepted_at", "uuid"),
    wide=("resource_type", "owner_node", "queue_position", "started_at", "ended_at"),
)  # fmt: skip


CHILDREN = ("api", "state", "resource_uuid", "error", "uuid")


@click.group("job", help="Jobs: list, show, watch, cancel.")
def group() -> None: ...


group.add_command(listing.command(JOB))


@group.command("show", cls=Leaf, help="Show all of one, with its steps and its children.")
@click.argument("uuid")
@pass_app
def show(app: App, uuid: str) -> None:
    job = app.client.job(uuid).state
    below = family.children(app, uuid)
    if app.output in ("json", "yaml"):
        return render.whole(app, {**(job or {}), "children": below} if below else job)
    render.whole(app, job)
    if below:
        app.note("its children:")
        rows = [{**child, "error": family.reason(child) if child.get("error") else None} for child in below]
        render.many(app, CHILDREN, rows)
    return None


@group.command("watch", cls=Leaf, help="Follow jobs to their end; the exit code is that of the job.")
@click.argument("uuids", metavar="UUID…", nargs=-1, required=True)
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than this.")
@pass_app
def watch(app: App, uuids: tuple[str, ...], timeout: float | None) -> int:
    sent = []
    for uuid in uuids:
        job = app.client.job(uuid)
        sent.append(Sent(f"{seen(job, 'api')} {uuid}", "succeeded", job))
    return outcome.conclude(app, JOB, sent, Waiting(timeout=timeout))


@group.command("cancel", cls=Leaf, help="Stop a job and undo what it did; waits until that is done.")
@click.argument("uuid")
@click.option("--wait/--no-wait", default=True, help="Wait for it to end (default).")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than this.")
@pass_app
def cancel(app: App, uuid: str, wait: bool, timeout: float | None) -> int:
    """Exit code 0 if it was cancelled; else what the job itself came to."""
    job = app.client.job(uuid)
    if not job.open:
        app.note(f"job {uuid} had ended before: {seen(job, 'state')}")
        return 0
    job.cancel()
    sent = Sent(f"job {uuid}", "succeeded before it could be cancelled", job)
    if not wait:
        app.note(f"next: mnctl job watch {uuid}")
        return 0
    return _settle(app, sent, timeout)


def seen(job: Job, field: str) -> str:
    return str(job.state.get(field)) if job.state else ""


def _settle(app: App, sent: Sent, timeout: float | None) -> int:
    try:
        outcome.follow(sent, timeout)
        app.note(f"{sent.label}: {sent.done}")
    except StateConflict as exc:
        if exc.code != CANCELLED.id and seen(sent.job, "state") != "Cancelled":
            raise
        app.note(f"{sent.label}: cancelled")
    except KeyboardInterrupt:
        outcome.detach(app, [sent])
        return STILL_RUNNING
    return 0
