"""Whether, and where to, this node sends spans."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mgmtnode.telemetry.otlp import OtlpTracer

EXTRA = "otel"


class NoTraces(Exception):
    """Spans cannot be sent as configured. The text says why, and what to do."""


def tracer_to(endpoint: str, *, node: str, version: str, share: float) -> OtlpTracer | None:
    """None without an endpoint. Connects to nothing yet. Raises NoTraces."""
    if not endpoint:
        return None
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoTraces(f"telemetry.otlp_endpoint: expected http://HOST:4318 or https://…, got {endpoint!r}")
    try:
        from mgmtnode.telemetry.otlp import OtlpTracer
    except ImportError as exc:
        raise NoTraces(
            f"telemetry.otlp_endpoint is set, but the packages for it are not installed ({exc.name}): "
            f"pip install 'mgmtnode[{EXTRA}]', or leave it empty"
        ) from exc
    return OtlpTracer(endpoint, node=node, version=version, share=share)
