"""What becomes of mutations: waiting with progress, detaching, and showing what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mgmtnode.client.errors import ClientError
from mgmtnode.client.mnctl import family, plan, render
from mgmtnode.client.mnctl.app import App
from mgmtnode.client.mnctl.kinds import Kind
from mgmtnode.client.mnctl.problems import STILL_RUNNING, report
from mgmtnode.client.mnctl.progress import Progress

if TYPE_CHECKING:
    from mgmtnode.client.sync import Job


@dataclass(frozen=True, slots=True)
class Waiting:
    """How to wait, from the command line. ``timeout`` None: for as long as it takes."""

    wait: bool = True
    timeout: float | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """A mutation on its way. ``label``: what it is about (``vm web-1``); ``done``: the verb's past tense.
    ``show``: how its result is shown, if not as a row of its kind."""

    label: str
    done: str
    job: Job
    show: Callable[[App, Any], None] | None = None


def options() -> list[click.Parameter]:
    return [
        click.Option(["--wait/--no-wait"], default=True, help="Wait for the job to end (default)."),
        click.Option(
            ["--timeout"], type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than this."
        ),
        click.Option(["--dry-run"], is_flag=True, help="Validate and plan, change nothing."),
    ]


def conclude(app: App, kind: Kind, sent: Sequence[Sent], waiting: Waiting) -> int:
    """Waits for each job and shows what it came to; they are all under way, so the waits overlap."""
    codes = []
    for i, one in enumerate(sent):
        try:
            codes.append(_conclude(app, kind, one, waiting))
        except KeyboardInterrupt:
            detach(app, sent[i:])
            return STILL_RUNNING
        except ClientError as exc:
            codes.append(report(exc, app, kind.noun, one.job.uuid, family.failures(app, one.job.uuid, exc)))
    return max(codes, default=0)


def _conclude(app: App, kind: Kind, sent: Sent, waiting: Waiting) -> int:
    if waiting.dry_run:
        plan.show(app, sent.label, sent.job.result())
    elif not waiting.wait and sent.job.open:
        _accepted(app, sent)
    else:
        _show(app, kind, sent, follow(sent, waiting.timeout))
    return 0


def follow(sent: Sent, timeout: float | None) -> Any:
    """The result of the job; its progress is drawn until then."""
    progress = Progress(sent.label)
    try:
        return sent.job.result(timeout, progress)
    finally:
        progress.close()


def _accepted(app: App, sent: Sent) -> None:
    if app.output in ("json", "yaml"):
        render.whole(app, sent.job.state)
    else:
        click.echo(f"{sent.label}: accepted as job {sent.job.uuid}")
        app.note(f"next: mnctl job watch {sent.job.uuid}")


def _show(app: App, kind: Kind, sent: Sent, result: Any) -> None:
    if app.output in ("json", "yaml"):
        render.whole(app, result if result is not None else sent.job.state)
        return
    app.note(f"{sent.label}: {sent.done}")
    secret = isinstance(result, dict) and any(name in result for name in ("secret", "token"))
    if secret:
        render.whole(app, result)
        app.note("keep the secret now; it is not shown again")
    elif sent.show:
        sent.show(app, result)
    elif isinstance(result, dict) and result.get("uuid") and not sent.job.accepted.gone:
        render.one(app, kind, result)


def detach(app: App, sent: Sequence[Sent]) -> None:
    """After Ctrl-C: the jobs go on, and this is how to come back to them."""
    for one in sent:
        if one.job.open:
            app.note(f"\ndetached; the job goes on. Watch it again with\n  mnctl job watch {one.job.uuid}")
            app.note(f"or stop it with\n  mnctl job cancel {one.job.uuid}")
