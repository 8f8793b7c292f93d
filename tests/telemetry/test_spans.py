"""Spans: made by the parts of a node, sent over OTLP to a real receiver, in the trace that the logs name."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mgmtnode.bus.context import CallContext, current
from mgmtnode.config import core_properties as core
from mgmtnode.telemetry import trace_context
from mgmtnode.telemetry.otlp import OtlpTracer, address
from mgmtnode.telemetry.telemetry import ROOT, Telemetry
from mgmtnode.telemetry.traces import NoTraces, tracer_to
from mgmtnode.testing.cloud import Cloud, NodeThread, operator_token
from tests.bus.nodes import Answer, Ask, Nodes, vm
from tests.e2e.scene import Scene
from tests.virtual_time import run

CLIENT_TRACE, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Receiver(ThreadingHTTPServer):
    """Takes what an OpenTelemetry collector takes at ``/v1/traces``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[ExportTraceServiceRequest] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[Any]:
        resources = [resource for request in self.requests for resource in request.resource_spans]
        return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]

    def of(self, trace: str) -> dict[str, list[Any]]:
        """The spans of a trace by name."""
        found: dict[str, list[Any]] = {}
        for span in self.spans:
            if span.trace_id.hex() == trace:
                found.setdefault(span.name, []).append(span)
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces" and self.server.status == 200:
            self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def create_a_vm(directory: Path, endpoint: str, headers: dict[str, str]) -> Any:
    """The answer to the creation, by a node that has stopped since."""
    thread = NodeThread(directory)
    thread.properties.override(core.OTLP_ENDPOINT, endpoint, "the test")
    thread.start()
    cloud = Cloud(thread, operator_token(thread))
    try:
        scene = Scene(cloud)
        body = {
            "name": "web",
            "instance_offering_uuid": scene.uuids["instance_offering"],
            "l3_network_uuids": [scene.uuids["l3_network"]],
        }
        answer = cloud.http.post("/v1/vms", json=body, headers={"prefer": "wait=30", **headers})
        assert answer.status_code == 201, answer.text
        return answer
    finally:
        cloud.close()
        thread.stop()


def test_a_create_is_one_tree_from_the_request_to_the_command_to_the_host(
    receiver: Receiver, tmp_path: Path
) -> None:
    answer = create_a_vm(tmp_path, receiver.url, {})
    found = receiver.of(answer.headers["x-request-id"])
    assert len(found["POST /v1/vms"]) == len(found["accept vm.create"]) == len(found["job vm.create"]) == 1
    request, accept, job = (found[name][0] for name in ("POST /v1/vms", "accept vm.create", "job vm.create"))
    (step,) = found["step start on the host"]
    (call,) = found["call hypervisor.PerformOnHost"]
    (command,) = found["agent command"]
    assert request.parent_span_id == b""
    for child, parent in ((accept, request), (job, accept), (step, job), (call, step), (command, call)):
        assert child.parent_span_id == parent.span_id, child.name
        assert child.start_time_unix_nano >= parent.start_time_unix_nano - 1_000_000
    above = {span.span_id: span.name for spans in found.values() for span in spans}
    writes = [above[span.parent_span_id] for span in found["transaction write"]]
    assert "accept vm.create" in writes
    assert "job vm.create" in writes
    assert attributes(request)["http.route"] == "/v1/vms"
    assert attributes(request)["http.response.status_code"] == 201
    assert attributes(job)["mgmtnode.job"] == answer.headers["x-job-uuid"] == attributes(step)["mgmtnode.job"]
    assert attributes(job)["mgmtnode.outcome"] == "succeeded"


def test_the_span_of_a_client_is_the_parent_of_ours(receiver: Receiver, tmp_path: Path) -> None:
    mine = trace_context.header(CLIENT_TRACE, CLIENT_SPAN, sampled=True)
    answer = create_a_vm(tmp_path, receiver.url, {"traceparent": mine})
    found = receiver.of(CLIENT_TRACE)
    (request,) = found["POST /v1/vms"]
    assert request.parent_span_id.hex() == CLIENT_SPAN
    parent = trace_context.parse(answer.headers["traceparent"])
    assert parent == (CLIENT_TRACE, request.span_id.hex(), True)
    assert "job vm.create" in found


def test_a_client_that_records_nothing_is_not_recorded_here(receiver: Receiver, tmp_path: Path) -> None:
    mine = trace_context.header(CLIENT_TRACE, CLIENT_SPAN, sampled=False)
    create_a_vm(tmp_path, receiver.url, {"traceparent": mine})
    assert receiver.spans
    assert receiver.of(CLIENT_TRACE) == {}


def test_a_receiver_that_is_away_or_refuses_changes_nothing(receiver: Receiver, tmp_path: Path) -> None:
    receiver.status = 400
    create_a_vm(tmp_path / "refused", receiver.url, {})
    create_a_vm(tmp_path / "away", "http://127.0.0.1:9", {})
    assert receiver.spans == []


def test_a_call_goes_on_with_its_span_on_the_node_that_serves_it(receiver: Receiver) -> None:
    async def answer(node: str, msg: Ask) -> Answer:
        return Answer(text="")

    async def story() -> None:
        telemetry = [Telemetry(tracer=OtlpTracer(receiver.url, node=name, version="1")) for name in "ab"]
        async with Nodes(telemetry=telemetry) as nodes:
            nodes.handle(Ask, answer)
            current.set(CallContext(trace=CLIENT_TRACE, span=ROOT))
            await nodes["a"].call(Ask(vm_uuid=vm("b")))
        for each in telemetry:
            assert isinstance(each.tracer, OtlpTracer)
            each.tracer._provider.force_flush()

    run(story)
    found = receiver.of(CLIENT_TRACE)
    (call,), (serve,) = found["call nodes.Ask"], found["serve nodes.Ask"]
    assert call.parent_span_id == b""
    assert serve.parent_span_id == call.span_id
    names = [
        attribute.value.string_value
        for request in receiver.requests
        for resource in request.resource_spans
        for attribute in resource.resource.attributes
        if attribute.key == "service.instance.id"
    ]
    assert sorted(names) == ["a", "b"]


def test_every_node_decides_alike_which_traces_are_recorded() -> None:
    traces = [f"{n:016x}{n * 0x9E3779B97F4A7C15 % 2**64:016x}" for n in range(1, 2000)]

    async def taken(node: str, share: float) -> list[bool]:
        tracer = OtlpTracer("http://127.0.0.1:9", node=node, version="1", share=share)
        recorded = [tracer.begins(trace) for trace in traces]
        await tracer.stop()
        return recorded

    async def decide() -> None:
        quarter = await taken("a", 0.25)
        assert quarter == await taken("b", 0.25)
        assert 0.2 < sum(quarter) / len(traces) < 0.3
        assert all(await taken("a", 1.0))
        assert not any(await taken("a", 0.0))

    asyncio.run(decide())


def test_the_path_of_the_receiver_is_added_where_it_is_left_out() -> None:
    assert address("http://h:4318") == address("http://h:4318/") == "http://h:4318/v1/traces"
    assert address("https://h/otlp/v1/traces") == "https://h/otlp/v1/traces"


@pytest.mark.parametrize("wrong", ["localhost:4318", "grpc://h:4317", "http://"])
def test_an_address_that_is_none_is_refused_at_boot(wrong: str) -> None:
    with pytest.raises(NoTraces, match=r"telemetry\.otlp_endpoint"):
        tracer_to(wrong, node="a", version="1", share=1.0)


def test_without_its_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mgmtnode.telemetry.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(NoTraces, match=r"pip install 'mgmtnode\[otel\]'"):
        tracer_to("http://127.0.0.1:4318", node="a", version="1", share=1.0)


def test_nothing_of_opentelemetry_is_loaded_where_traces_are_off() -> None:
    code = "import sys, mgmtnode.serve; assert not [m for m in sys.modules if m.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
