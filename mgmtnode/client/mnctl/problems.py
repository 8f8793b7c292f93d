"""What went wrong, what to do about it, and the exit code for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mgmtnode.client.errors import ClientError, ConnectionFailed, ProblemError, StillRunning, UnexpectedAnswer
from mgmtnode.errors import CANCELLED, IN_USE, UNAUTHENTICATED, Category, Problem

if TYPE_CHECKING:
    from mgmtnode.client.mnctl.app import App

OK, FAILED, USAGE, MISSING, DENIED, CONFLICT, STILL_RUNNING, NO_CAPACITY, UNREACHABLE = range(9)

CODES = {
    Category.INVALID: USAGE,
    Category.NOT_FOUND: MISSING,
    Category.EXISTS: CONFLICT,
    Category.STATE: CONFLICT,
    Category.NO_CAPACITY: NO_CAPACITY,
    Category.DENIED: DENIED,
    Category.UNAVAILABLE: UNREACHABLE,
    Category.TIMEOUT: STILL_RUNNING,
    Category.INTERNAL: FAILED,
}

ADVICE = {
    Category.INVALID: "mnctl {noun} --help",
    Category.NOT_FOUND: "mnctl {noun} list",
    Category.EXISTS: "choose another one, or look at what there is: mnctl {noun} list",
    Category.STATE: "see its state and its jobs: mnctl {noun} list; mnctl job list 'state=Running'",
    Category.NO_CAPACITY: "see what is free: mnctl capacity; or ask for less",
    Category.DENIED: "ask the administrator of the account for this permission: mnctl policy list",
    Category.UNAVAILABLE: "try again in a moment; a node tells at /readyz what it lacks",
    Category.TIMEOUT: "see whether it was done: mnctl job list --sort -accepted_at",
    Category.INTERNAL: "the log of the management node has the details; mnctl job list 'state=Failed'",
}

WITHOUT_NOUN = {
    Category.INVALID: "mnctl --help; what the API takes is at /docs",
    Category.NOT_FOUND: "mnctl --help lists the nouns",
    Category.EXISTS: "choose another one",
    Category.STATE: "see the jobs: mnctl job list 'state=Running'",
}

LOGIN = "mnctl login, or set MGMTNODE_TOKEN"


def report(
    exc: ClientError, app: App, noun: str = "", job: str | None = None, below: Sequence[str] = ()
) -> int:
    """Prints the error, the failures ``below`` it and what to do next, and gives the exit code."""
    for line in [*explain(exc, bool(below)), *(f"  {line}" for line in below)]:
        app.note(line)
    app.note(f"next: {advice(exc, noun, job)}")
    return exit_code(exc)


def explain(exc: ClientError, brief: bool = False) -> list[str]:
    """``brief``: without the details, because more is known than they tell."""
    if not isinstance(exc, ProblemError):
        return [f"error: {exc}"]
    lines = [f"error: {exc.message} ({exc.code})"]
    lines += [] if brief else [f"  {text}" for text in details(exc.problem)]
    cause = exc.cause
    while cause is not None:
        lines.append(f"  because: {cause.message} ({cause.code})")
        lines += [f"    {text}" for text in details(cause)]
        cause = cause.cause
    return lines


def details(problem: Problem) -> list[str]:
    """The details as lines: candidates and filters are what a reader decides by."""
    from mgmtnode.client.mnctl import yaml

    for name, line in (("candidates", _candidate), ("filters", _filter)):
        found = problem.details.get(name)
        if isinstance(found, list) and all(isinstance(item, dict) for item in found):
            return [line(item) for item in found]
    return yaml.dump(problem.details).splitlines() if problem.details else []


def _candidate(item: dict[str, Any]) -> str:
    return f"{item.get('uuid')}  {item.get('name')}  {item.get('state') or ''}".rstrip()


def _filter(item: dict[str, Any]) -> str:
    reason = f"  ({item['reason']})" if item.get("reason") else ""
    return f"{item.get('filter')}: {item.get('before')} hosts → {item.get('after')}{reason}"


def advice(exc: ClientError, noun: str, job: str | None) -> str:
    if isinstance(exc, StillRunning):
        return f"mnctl job watch {exc.job['uuid']}"
    if isinstance(exc, ConnectionFailed):
        return "start a node with `mgmtnode dev`, or name a running one with --url or MGMTNODE_URL"
    if isinstance(exc, UnexpectedAnswer):
        return "check --url; --debug shows what answers there"
    assert isinstance(exc, ProblemError)
    if exc.status == 401 or exc.code == UNAUTHENTICATED.id:
        return LOGIN
    if exc.category is Category.STATE and "candidates" in exc.details:
        return "say which one by its uuid"
    if job and exc.code != CANCELLED.id:
        return f"{_advice(exc, noun)}; mnctl job show {job}"
    return _advice(exc, noun)


def _advice(exc: ProblemError, noun: str) -> str:
    if exc.retry_after:
        return f"try again in {exc.retry_after:g} s"
    if exc.status is None and exc.category is Category.UNAVAILABLE:
        return "see to what it could not reach, then try again"
    if exc.code == IN_USE.id and noun:
        return (
            f"mend that and delete again; or mnctl {noun} delete … --force, which goes on without what fails"
        )
    advice = ADVICE[exc.category] if noun else WITHOUT_NOUN.get(exc.category, ADVICE[exc.category])
    return advice.format(noun=noun)


def exit_code(exc: ClientError) -> int:
    """Codes for scripts. A job that ended has failed, whatever it waited for or could not reach: only what may still
    run exits with 6, and only if no management node answered it is 8."""
    if isinstance(exc, StillRunning):
        return STILL_RUNNING
    if isinstance(exc, ConnectionFailed):
        return UNREACHABLE
    if not isinstance(exc, ProblemError):
        return FAILED
    if exc.category in (Category.TIMEOUT, Category.UNAVAILABLE) and exc.status is None:
        return FAILED
    return CODES[exc.category]
