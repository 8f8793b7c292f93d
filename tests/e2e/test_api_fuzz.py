"""The API against generated requests: by schemathesis from the document alone, and by a stranger who knows uuids.

``FUZZ_SECONDS`` (default 12 for each) runs longer, ``FUZZ_SEED`` repeats a run.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Unsatisfiable

from mgmtnode.testing.cloud import Cloud, operator_token
from tests.e2e.fuzzer import Fuzzer
from tests.e2e.scene import Scene, book_faults

schemathesis = pytest.importorskip("schemathesis", reason="it comes with the extra 'test'")

SECONDS = float(os.environ.get("FUZZ_SECONDS", "12"))
SEED = int(os.environ.get("FUZZ_SEED", "20"))
PASSWORD = "correct horse battery"
QUIESCENT_SECONDS = 60.0
EXAMPLES = 3  # of each operation in one round, valid ones and invalid ones
ENDLESS = "/v1/events"


def caller_of(scene: Scene, who: str) -> Cloud:
    """With a token of its own: the one before may have been revoked by its own hand."""
    operator = scene.cloud.as_(operator_token(scene.cloud.turn()))
    return operator if who == "operator" else operator.tenant(f"tenant-{time.monotonic_ns()}")


@pytest.mark.slow
@pytest.mark.parametrize("who", ["operator", "tenant"])
def test_answers_to_generated_requests_are_as_documented(scene: Scene, who: str) -> None:
    caller = caller_of(scene, who)
    operations = [
        found.ok() for found in schemathesis.openapi.from_dict(scene.document.raw).get_all_operations()
    ]
    until, number = time.monotonic() + SECONDS, SEED
    while time.monotonic() < until:
        for operation in operations:
            for mode in schemathesis.GenerationMode:
                if operation.path != ENDLESS and time.monotonic() < until:
                    generated(operation, mode, caller, number)
        number += 1
    well(scene)


def generated(operation: Any, mode: Any, caller: Cloud, number: int) -> None:
    """Sends a few generated requests and checks status, content type, headers and schema of the answers."""
    from schemathesis import checks
    from schemathesis.specs.openapi import checks as openapi

    conform = [
        checks.not_a_server_error,
        openapi.status_code_conformance,
        openapi.content_type_conformance,
        openapi.response_headers_conformance,
        openapi.response_schema_conformance,
    ]

    def one(case: Any) -> None:
        headers = {"authorization": f"Bearer {caller.token}"}
        answer = case.call(base_url=caller.turn().url, headers=headers)
        case.validate_response(answer, checks=conform)
        assert PASSWORD not in answer.text

    chosen = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with contextlib.suppress(Unsatisfiable):  # some operations take nothing that could be invalid
        chosen(seeded(number)(given(operation.as_strategy(generation_mode=mode))(one)))()


@pytest.mark.slow
@pytest.mark.parametrize("who", ["operator", "tenant"])
def test_a_stranger_who_knows_uuids_finds_no_server_error_and_no_secret(scene: Scene, who: str) -> None:
    until, number, statuses = time.monotonic() + SECONDS, SEED, 0
    while (left := until - time.monotonic()) > 0:
        caller = caller_of(scene, who)
        fuzzer = Fuzzer(
            caller, scene.document, seed=number, secrets=(PASSWORD, caller.token, scene.cloud.token)
        )
        fuzzer.run(left)
        number += 1
        statuses += sum(fuzzer.statuses.values())
        print(f"{who}, seed {number - 1}: {dict(fuzzer.statuses)}")
    assert statuses > 100
    well(scene)


def well(scene: Scene) -> None:
    """Every node serves, all jobs end, no claim outlives its job, and the ledger adds up."""
    cloud = caller_of(scene, "operator")
    cloud.agrees(lambda at: at.http.get("/readyz").status_code, 200)
    until = time.monotonic() + QUIESCENT_SECONDS
    while stuck := cloud.list("jobs", "state?=Pending,Running,RollingBack", limit=5):
        assert time.monotonic() < until, f"open jobs: {stuck}"
        cloud.http.get(f"/v1/jobs/{stuck[0]['uuid']}", params={"wait": "5"})
    assert scene.cloud.read(book_faults) == []
