"""``--debug``: an HTTP exchange as text, with everything that opens doors masked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from mgmtnode.client.exchange import Lost, Reply, Send

SECRET = re.compile(r"password|secret|token|authorization|cookie|private_?key|^key$", re.IGNORECASE)
MASK = "••••••"
LONGEST = 4000


def describe(step: Send, answer: Reply | Lost, seconds: float) -> str:
    request = step.request
    query = f"?{urlencode(request.query)}" if request.query else ""
    lines = [f"> {request.method} {step.base_url}{request.path}{query}"]
    lines += [f"> {name}: {value}" for name, value in _headers(step.headers)]
    if step.content:
        lines.append(f"> {body(step.content)}")
    if isinstance(answer, Lost):
        return "\n".join([*lines, f"< no answer after {seconds * 1000:.0f} ms: {answer.reason}"])
    lines.append(f"< {answer.status} after {seconds * 1000:.0f} ms")
    lines += [f"< {name}: {value}" for name, value in _headers(answer.headers)]
    return "\n".join([*lines, f"< {body(answer.content)}"] if answer.content else lines)


def _headers(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, MASK if SECRET.search(name) else value) for name, value in headers.items()]


def body(content: bytes) -> str:
    try:
        text = msgspec.json.encode(masked(msgspec.json.decode(content))).decode()
    except msgspec.DecodeError:
        text = content.decode("utf-8", "replace")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: MASK if SECRET.search(k) and isinstance(v, str) else masked(v) for k, v in value.items()}
    return [masked(item) for item in value] if isinstance(value, list) else value
