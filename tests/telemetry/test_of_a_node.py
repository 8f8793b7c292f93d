"""What a running node shows of itself, after it did something."""

from __future__ import annotations

import re

from mgmtnode.telemetry.families import AMQP_MESSAGES, FAMILIES, REDIS_UP, Gauge, Total
from mgmtnode.testing.cloud import Cloud
from tests.e2e.scene import Scene

NOT_NULL = (
    'http_requests_total{method="POST",route="/v1/vms",status="201"}',
    'http_request_seconds_count{method="POST",route="/v1/vms"}',
    'jobs_accepted_total{api="vm.create"}',
    'jobs_ended_total{api="vm.create",state="Succeeded"}',
    'job_queue_seconds_count{api="vm.create"}',
    'job_run_seconds_count{api="vm.create"}',
    'bus_call_seconds_count{message="hypervisor.PerformOnHost",outcome="ok",where="local"}',
    'db_transaction_seconds_count{kind="write",outcome="ok"}',
    'db_transaction_seconds_count{kind="read",outcome="ok"}',
    "db_connections_limit",
    'agent_request_seconds_count{action="start",kind="command",outcome="ok"}',
    "transport_healthy",
    "slots_owned",
)


def figures(cloud: Cloud) -> dict[str, float]:
    lines = cloud.http.get("/metrics").text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {_sorted(name): float(value) for name, _, value in pairs}


def _sorted(name: str) -> str:
    """With its labels in alphabetical order, which says nothing."""
    family, brace, labels = name.partition("{")
    return family + brace + ",".join(sorted(re.findall(r'\w+="[^"]*"', labels))) + ("}" if brace else "")


def test_every_family_is_there_after_a_create(cloud: Cloud) -> None:
    Scene(cloud)
    text = cloud.http.get("/metrics").text
    for family in set(FAMILIES) - {REDIS_UP, AMQP_MESSAGES}:  # neither is configured
        name = f"mgmtnode_{family.name}" + ("_total" if f"mgmtnode_{family.name}_total" in text else "")
        assert f"# TYPE {name} " in text, family
        if isinstance(family, Gauge | Total) and not family.labels:
            assert re.search(rf"^{name} ", text, re.MULTILINE), family
    found = figures(cloud)
    for name in NOT_NULL:
        assert found[f"mgmtnode_{name}"] >= 1, name
    assert found["process_resident_memory_bytes"] > 1e6


def test_labels_hold_no_uuid_however_much_is_made(cloud: Cloud) -> None:
    scene = Scene(cloud)
    seen: list[set[str]] = []
    for n in range(6):  # of a cluster, the nodes answer in turn: each has seen everything after a few rounds
        vm = cloud.create(
            "vms",
            name=f"web-{n}",
            instance_offering_uuid=scene.uuids["instance_offering"],
            l3_network_uuids=[scene.uuids["l3_network"]],
        )
        cloud.get("vms", vm["uuid"])
        cloud.request("GET", f"/vms/{vm['uuid']}x")
        names = set(figures(cloud))
        assert not [name for name in names if vm["uuid"] in name or vm["name"] in name]
        seen.append({name for name in names if "_jobs_" in name or "/v1/vms" in name})
    assert set().union(*seen[4:]) <= set().union(*seen[:4]), "more of the same makes no new series"


def test_the_trace_of_a_request_is_that_of_its_job(cloud: Cloud) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = cloud.http.post(
        "/v1/zones",
        json={"name": "west"},
        headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "prefer": "wait=30"},
    )
    assert answer.headers["traceparent"].split("-")[1] == trace
    assert cloud.get("jobs", answer.headers["x-job-uuid"])["trace"] == trace
    assert [job["api"] for job in cloud.list("jobs", f"trace={trace}")] == ["zone.create"]
