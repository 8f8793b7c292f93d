"""What a client sees of jobs: acceptance, waiting, replays, dry runs, preconditions, cancelling."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mgmtnode.contracts.zone import CreateZone
from mgmtnode.errors import NAME_TAKEN, OVERLOADED, Category, ErrorCode
from mgmtnode.jobs.job import JobState


def ended(state: JobState, **changes: Any) -> Any:
    return lambda job: msgspec.structs.replace(job, state=state, **changes)


def test_a_create_is_answered_202_with_the_job_and_where_it_is(world, run) -> None:
    async def story() -> None:
        async with world.client() as client:
            answer = await client.post("/v1/zones", json={"name": "west"}, headers={"x-request-id": "r-1"})
        assert answer.status_code == 202
        job = answer.json()
        assert answer.headers["location"] == f"/v1/jobs/{job['uuid']}"
        assert answer.headers["x-request-id"] == "r-1"
        assert job["state"] == "Pending" and job["resource_uuid"]
        msg, caller, key = world.jobs.accepted[0]
        assert msg == CreateZone(name="west") and caller.account_name == "admin" and key is None

    run(story())


def test_who_prefers_to_wait_gets_the_new_resource(world, run) -> None:
    async def story() -> None:
        result = {"uuid": "u", "name": "west", "updated_at": "2026-01-02T03:04:05Z"}
        world.jobs.end = ended(JobState.SUCCEEDED, result=result)
        async with world.client() as client:
            answer = await client.post("/v1/zones", json={"name": "west"}, headers={"prefer": "wait=300"})
        assert (answer.status_code, answer.json()) == (201, result)
        assert answer.headers["location"] == "/v1/zones/0190bbbb-0000-7000-8000-0000000003e9"
        assert answer.headers["etag"] == 'W/"20260102T030405Z"'
        assert world.jobs.waits == [60.0]

    run(story())


def test_a_job_that_fails_in_time_is_answered_with_its_problem(world, run) -> None:
    async def story() -> None:
        problem = NAME_TAKEN.error("a zone named 'west' exists", resource="u").problem
        world.jobs.end = ended(JobState.FAILED, error=problem)
        async with world.client() as client:
            answer = await client.post("/v1/zones", json={"name": "west"}, headers={"prefer": "wait=5"})
        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-job-uuid"]
        body = answer.json()
        assert (body["code"], body["detail"]) == ("core.name-taken", "a zone named 'west' exists")

    run(story())


def test_a_job_that_does_not_end_in_time_is_answered_202(world, run) -> None:
    async def story() -> None:
        world.jobs.end = lambda job: job
        async with world.client() as client:
            answer = await client.post("/v1/zones", json={"name": "west"}, headers={"prefer": "wait=1"})
        assert answer.status_code == 202

    run(story())


def test_a_deletion_that_is_waited_for_answers_an_empty_object(world, run) -> None:
    async def story() -> None:
        zone = world.add_zone()
        world.jobs.end = ended(JobState.SUCCEEDED)
        async with world.client() as client:
            url = f"/v1/zones/{zone.uuid}"
            answer = await client.delete(url, params={"force": "true"}, headers={"prefer": "wait=1"})
        assert (answer.status_code, answer.json()) == (200, {})
        assert world.jobs.accepted[0][0].force is True

    run(story())


def test_a_repeated_key_replays_the_job_and_another_request_under_it_is_422(world, run) -> None:
    async def story() -> None:
        async with world.client() as client:
            key = {"idempotency-key": "k-1"}
            first = await client.post("/v1/zones", json={"name": "west"}, headers=key)
            again = await client.post("/v1/zones", json={"name": "west"}, headers=key)
            other = await client.post("/v1/zones", json={"name": "east"}, headers=key)
        assert "idempotent-replay" not in first.headers
        assert again.headers["idempotent-replay"] == "true"
        assert again.json()["uuid"] == first.json()["uuid"]
        assert (other.status_code, other.json()["code"]) == (422, "core.idempotency-key-reused")

    run(story())


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "ä"])
def test_a_key_that_is_not_1_to_255_printable_characters_is_refused(world, run, key: str) -> None:
    async def story() -> None:
        async with world.client() as client:
            headers = {"idempotency-key": key.encode("latin-1")}
            answer = await client.post("/v1/zones", json={"name": "west"}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "api.invalid-header")
        assert not world.jobs.accepted

    run(story())


def test_a_dry_run_answers_the_plan_and_accepts_nothing(world, run) -> None:
    async def story() -> None:
        async with world.client() as client:
            answer = await client.post("/v1/vms?dry_run=true", json={"name": "a"})
        assert (answer.status_code, answer.json()["steps"]) == (200, ["save"])
        assert not world.jobs.accepted

    run(story())


def test_an_api_that_answers_at_once_cannot_be_tried_dry(world, run) -> None:
    async def story() -> None:
        async with world.client(None) as client:
            body = {"account": "a", "password": "secret"}
            answer = await client.post("/v1/sessions?dry_run=true", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "api.no-dry-run")
        assert not world.called

    run(story())


def test_a_patch_of_an_old_version_is_412_and_of_the_current_one_202(world, run) -> None:
    async def story() -> None:
        zone = world.add_zone()
        async with world.client() as client:
            tag = (await client.get(f"/v1/zones/{zone.uuid}")).headers["etag"]
            change: dict[str, Any] = {"json": {"description": "x"}}
            url = f"/v1/zones/{zone.uuid}"
            old = await client.patch(url, **change, headers={"if-match": 'W/"19990101T000000Z"'})
            new = await client.patch(url, **change, headers={"if-match": f'"zzz", {tag}'})
            known = await client.get(url, headers={"if-none-match": tag})
        assert (old.status_code, old.json()["code"]) == (412, "api.precondition-failed")
        assert (new.status_code, known.status_code, known.content) == (202, 304, b"")

    run(story())


def test_a_resource_with_a_unique_name_is_addressed_by_it(world, run) -> None:
    async def story() -> None:
        zone = world.add_zone(name="west 1/2")
        async with world.client() as client:
            found = await client.get("/v1/zones/west%201%2F2")
            changed = await client.patch("/v1/zones/west%201%2F2", json={"name": "b"})
            missing = await client.patch("/v1/zones/east", json={"name": "b"})
            unnamed = await client.get("/v1/vms/web")
        assert found.json()["uuid"] == zone.uuid
        assert changed.json()["resource_uuid"] == zone.uuid
        assert (missing.status_code, unnamed.status_code) == (404, 404)

    run(story())


def test_a_merge_patch_keeps_absent_fields_unset(world, run) -> None:
    async def story() -> None:
        zone = world.add_zone()
        async with world.client() as client:
            headers = {"content-type": "application/merge-patch+json"}
            answer = await client.patch(f"/v1/zones/{zone.uuid}", content=b'{"name":"b"}', headers=headers)
        assert answer.status_code == 202
        msg = world.jobs.accepted[0][0]
        assert msg.name == "b" and msg.description is msgspec.UNSET

    run(story())


def test_a_job_is_read_waited_for_and_cancelled(world, run) -> None:
    async def story() -> None:
        async with world.client() as client, world.client("tenant") as stranger:
            job = (await client.post("/v1/zones", json={"name": "a"})).json()
            url = f"/v1/jobs/{job['uuid']}"
            cancelled = await client.post(f"{url}/actions/cancel", json={})
            foreign = await stranger.get(url)
            world.jobs.end = ended(JobState.CANCELLED)
            waited = await client.get(url, params={"wait": "30"})
            nonsense = await client.get(url, params={"wait": "long"})
        assert (cancelled.status_code, cancelled.json()["cancel_requested"]) == (202, True)
        assert foreign.status_code == 404
        assert waited.json()["state"] == "Cancelled"
        assert (nonsense.status_code, nonsense.json()["code"]) == (400, "api.invalid-parameter")

    run(story())


def test_a_drain_answers_those_who_wait_for_a_job_at_once(world, run) -> None:
    async def story() -> None:
        import asyncio

        async with world.client() as client:
            headers = {"prefer": "wait=60"}
            waiting = asyncio.create_task(client.post("/v1/zones", json={"name": "a"}, headers=headers))
            while not world.jobs.waits:
                await asyncio.sleep(0)
            world.api.drain()
            assert (await waiting).status_code == 202
        assert world.gateway.waiting == 0

    run(story())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OVERLOADED.error(retry_after=2.5), 503),
        (ErrorCode("job.too-many-open", Category.UNAVAILABLE, "s").error(retry_after=2.5), 429),
    ],
)
def test_overload_says_when_to_come_back(world, run, error: Exception, status: int) -> None:
    async def story() -> None:
        world.jobs.refuse = error
        async with world.client() as client:
            answer = await client.post("/v1/zones", json={"name": "a"})
        assert (answer.status_code, answer.headers["retry-after"]) == (status, "3")
        assert answer.json()["retryable"] is True and answer.json()["retry_after"] == 2.5

    run(story())


def test_a_fault_of_ours_is_a_500_without_its_text(world, run, caplog) -> None:
    async def story() -> None:
        world.jobs.refuse = KeyError("a secret inside")
        async with world.client() as client:
            answer = await client.post("/v1/zones", json={"name": "a"})
        assert (answer.status_code, answer.json()["code"]) == (500, "core.internal")
        assert "secret" not in answer.text
        assert "a secret inside" in caplog.text

    run(story())


def test_a_call_that_hangs_ends_as_504(world, run) -> None:
    async def story() -> None:
        import asyncio

        world.gateway.limits = type(world.gateway.limits)(call_seconds=0.01)
        world.gateway.authenticator.authenticate = lambda token: asyncio.Event().wait()
        async with world.client() as client:
            answer = await client.post("/v1/zones", json={"name": "a"})
        assert (answer.status_code, answer.json()["code"]) == (504, "core.timeout")

    run(story())
