"""Logs: text for a terminal, JSON lines for production; with node, job and trace, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import msgspec

from mgmtnode.bus.context import CallContext, current

MASK = "***"
WORDS = r"password|passwd|secret|token|api[_-]?key|private[_-]?key|authorization|credential"
NAMED = re.compile(
    rf"""(?ix) (\b [\w-]* (?:{WORDS}) [\w-]* ["']? \s* [:=] \s* (?:bearer\s+|basic\s+)? )
    ( "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [^\s,;&"'}}\])]+ )"""
)
BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
URL_PASSWORD = re.compile(r"(\w+://[^\s:/@]+:)[^\s@/]+(@)")
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


HINTS = ("pass", "secret", "token", "key", "authorization", "credential", "bearer", "basic", "://")


def mask(text: str) -> str:
    """``text`` without the values of what is named like a secret, bearer tokens, and passwords in URLs."""
    lower = text.lower()
    if not any(hint in lower for hint in HINTS):
        return text  # most lines; the expressions cost more than the rest of a line
    text = NAMED.sub(lambda m: m[1] + MASK, text)
    return URL_PASSWORD.sub(rf"\g<1>{MASK}\g<2>", BEARER.sub(rf"\g<1> {MASK}", text))


_about: ContextVar[tuple[str, str]] = ContextVar("mgmtnode_about", default=("", ""))


@contextmanager
def about(job: str, resource: str) -> Iterator[None]:
    """Lines inside are about this job and its resource, outside of its steps, too."""
    reset = _about.set((job, resource))
    try:
        yield
    finally:
        _about.reset(reset)


def whose(call: CallContext) -> tuple[str, str]:
    """The job that something is done for, and its resource; empty without one."""
    return (call.work.job_uuid, call.work.resource_uuid) if call.work else _about.get()


class Context(logging.Filter):
    """Puts on each record which node wrote it, and on behalf of which request, job, resource and trace. A record that
    says so itself (``extra``) is believed: it was written where the context is another's."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def filter(self, record: logging.LogRecord) -> bool:
        record.node = self._node
        call = current.get()
        job, resource = whose(call)
        own = vars(record)
        own.setdefault("request", call.request)
        own.setdefault("job", job)
        own.setdefault("resource", resource)
        own.setdefault("trace", call.trace)
        return True


CONTEXT = ("node", "request", "job", "resource", "trace")


@lru_cache(maxsize=4)
def _clock(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%H:%M:%S")


class TextFormat(logging.Formatter):
    """``12:30:01.123 WARNING mgmtnode.api.edge: what happened (node=… trace=…)``, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        second, fraction = divmod(record.created, 1)
        at = f"{_clock(int(second))}.{int(fraction * 1000):03d}"
        own = vars(record)
        context = " ".join([f"{k}={v}" for k in CONTEXT if (v := own.get(k))])
        line = f"{at} {record.levelname:<7} {record.name}: {record.getMessage()}" + (
            f" ({context})" if context else ""
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return mask(line)


class JsonFormat(logging.Formatter):
    """One object a line: at, level, logger, message, the context, ``extra`` fields, and the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        entry |= {k: v for k in CONTEXT if (v := getattr(record, k, ""))}
        for name, value in vars(record).items():
            if name not in STANDARD and name not in CONTEXT:
                entry[name] = _plain(name, value)
        if record.exc_info:
            entry["traceback"] = mask(self.formatException(record.exc_info))
        return _encode(entry)


def configure(node: str, *, json: bool = False, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sends the logs of the whole process to ``stream`` (default: standard error), and nowhere else. Where in the
    source a line was written is not looked for: no format shows it, and it costs as much as the line."""
    logging._srcfile = None  # as "Optimization" in the documentation of logging says
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(Context(node))
    handler.setFormatter(JsonFormat() if json else TextFormat())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for noisy in ("uvicorn.error", "amqp", "kombu", "httpx", "httpcore", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _plain(name: str, value: Any) -> Any:
    if re.search(WORDS, name, re.IGNORECASE):
        return MASK
    return mask(value) if isinstance(value, str) else value


def _encode(entry: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(entry, enc_hook=repr).decode()
    except UnicodeEncodeError:  # half a surrogate pair; a log line is never lost for that
        return msgspec.json.encode({k: _printable(v) for k, v in entry.items()}, enc_hook=repr).decode()


def _printable(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()
