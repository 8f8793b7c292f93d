"""Spans for OpenTelemetry, sent with OTLP over HTTP. The only import of its packages, which are an extra: whoever
sends no spans needs none of them."""

from __future__ import annotations

import asyncio
import logging
import time
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode

from mgmtnode.bus.context import CallContext
from mgmtnode.telemetry.logs import mask, whose
from mgmtnode.telemetry.telemetry import GOOD, ROOT

TRACES = "/v1/traces"
EXPORT_SECONDS = 5
STOP_SECONDS = 5.0
QUEUE, BATCH = 8192, 512  # spans that wait to be sent; what comes beyond them is dropped
KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
# The names of OpenTelemetry's semantic conventions, where it has one.
NAMES = {"method": "http.request.method", "route": "http.route", "status": "http.response.status_code"}
RANDOM_BITS = 56  # at the end of a trace id, as W3C trace context has it


class OtlpTracer:
    """``endpoint``: an OTLP/HTTP receiver, ``http://HOST:4318``. ``share``: of the traces that begin here, how many are
    recorded; the nodes of a cluster decide alike. What cannot be sent is dropped, and never waited for."""

    def __init__(self, endpoint: str, *, node: str, version: str, share: float = 1.0) -> None:
        logging.getLogger("urllib3").setLevel(logging.WARNING)
        resource = {"service.name": "mgmtnode", "service.instance.id": node, "service.version": version}
        self._ids, self._share = _Ids(), share
        self._provider = TracerProvider(
            resource=Resource.create(resource),
            sampler=ALWAYS_ON,
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=address(endpoint), timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=QUEUE, max_export_batch_size=BATCH)
        )
        self._tracer = self._provider.get_tracer("mgmtnode", version)

    def begins(self, trace: str) -> bool:
        random = int(trace[-RANDOM_BITS // 4 :], 16)
        return random < self._share * (1 << RANDOM_BITS)

    def start(self, name: str, kind: str, context: CallContext, ago: float) -> OtlpSpan:
        parent = None
        if context.span == ROOT:
            self._ids.trace = int(context.trace, 16)
        else:
            flags = TraceFlags(TraceFlags.SAMPLED)
            above = SpanContext(
                int(context.trace, 16), int(context.span, 16), is_remote=True, trace_flags=flags
            )
            parent = set_span_in_context(NonRecordingSpan(above))
        begun = time.time_ns() - int(ago * 1e9)
        span = self._tracer.start_span(name, context=parent, kind=KINDS[kind], start_time=begun)
        for key, uuid in zip(("mgmtnode.job", "mgmtnode.resource"), whose(context), strict=True):
            if uuid:
                span.set_attribute(key, uuid)
        return OtlpSpan(span)

    async def stop(self) -> None:
        """Sends what waits, for STOP_SECONDS at most."""
        loop = asyncio.get_running_loop()
        flushed = loop.run_in_executor(None, self._provider.force_flush, int(STOP_SECONDS * 1000))
        await asyncio.wait([flushed], timeout=STOP_SECONDS)
        await asyncio.wait([loop.run_in_executor(None, self._provider.shutdown)], timeout=STOP_SECONDS)


class OtlpSpan:
    def __init__(self, span: Span) -> None:
        self._span = span
        self.id = f"{span.get_span_context().span_id:016x}"

    def describe(self, name: str, attributes: dict[str, str]) -> None:
        self._span.update_name(name)
        for key, value in attributes.items():
            known = NAMES.get(key)
            typed = int(value) if key == "status" else value
            self._span.set_attribute(known or f"mgmtnode.{key}", typed)

    def end(self, outcome: str, error: BaseException | None) -> None:
        self._span.set_attribute("mgmtnode.outcome", outcome)
        if outcome not in GOOD:
            why = None if error is None else mask(str(error))[:500]
            self._span.set_status(Status(StatusCode.ERROR, why))
        self._span.end()


class _Ids(RandomIdGenerator):
    """A trace that begins here has an id already: that of its request, in the logs."""

    trace = 0

    def generate_trace_id(self) -> int:
        return self.trace


def address(endpoint: str) -> str:
    """The whole URL of what may be given without its usual path."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + TRACES
