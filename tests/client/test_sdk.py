"""The SDK against a real HTTP server: mutations, jobs, lists, problems."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mgmtnode.client import (
    AsyncClient,
    Client,
    JobState,
    NoCapacity,
    NotFound,
    StateConflict,
    StillRunning,
    UnexpectedAnswer,
)
from mgmtnode.contracts.zone import CreateZone, DeleteZone, Zone

from .fakenode import TOKEN, FakeNode, problem

NOW = "2026-01-01T00:00:00Z"


def test_a_create_becomes_a_job_whose_resource_is_known_before_it_is_ready(
    client: Client, node: FakeNode
) -> None:
    node.held = True
    job = client.zones.create(name="west")
    assert (job.state and job.state.state, node.rows("zones")) == ("Running", [])
    node.release()
    zone = job.result(timeout=30)
    assert (zone.name, zone.uuid) == ("west", job.resource_uuid)


def test_the_resource_is_read_when_the_job_does_not_carry_it(client: Client, node: FakeNode) -> None:
    node.job_result = False
    assert client.zones.create(name="west").result().name == "west"


def test_update_sends_a_merge_patch_with_if_match(client: Client, node: FakeNode) -> None:
    zone = client.zones.get(node.add("zones", name="west", description="x")["uuid"])
    client.zones.update(zone.uuid, if_match=zone.etag, description=None).result()
    patch = node.mutations()[0]
    assert patch.body == {"description": None}
    assert (patch.headers["if-match"], patch.headers["content-type"]) == (
        'W/"1"',
        "application/merge-patch+json",
    )


def test_an_action_and_a_forced_delete_reach_the_paths_of_the_api(client: Client, node: FakeNode) -> None:
    vm = node.add("vms", name="web", state="Running")
    assert client.vms.action("stop", vm["uuid"], force=True).result().state == "Stopped"
    assert client.vms.delete(vm["uuid"], force=True).result() is None
    action, delete = node.mutations()
    assert (action.path, action.body) == (f"/v1/vms/{vm['uuid']}/actions/stop", {"force": True})
    assert (delete.method, delete.query) == ("DELETE", [("force", "true")])


def test_prefer_wait_gives_the_result_in_one_round_trip(client: Client, node: FakeNode) -> None:
    job = client.zones.create(name="west", wait=5)
    assert (job.uuid, job.result().name, job.resource_uuid) == (None, "west", job.result().uuid)
    assert len(node.seen) == 1 and node.seen[0].headers["prefer"] == "wait=5"


def test_a_failed_job_raises_the_same_problem_on_both_ways(client: Client, node: FakeNode) -> None:
    filters = [{"filter": "memory", "before": 3, "after": 0}]
    node.job_problem = problem(
        "allocator.no-host", "NO_CAPACITY", "no host can take it", details={"filters": filters}
    )
    with pytest.raises(NoCapacity) as later:
        client.vms.create(name="a").result()
    with pytest.raises(NoCapacity) as at_once:
        client.vms.create(name="b", wait=5)
    assert later.value.details == at_once.value.details == {"filters": filters}
    assert (later.value.code, later.value.status, at_once.value.status) == ("allocator.no-host", None, 503)
    assert len(node.mutations()) == 2, "a job that failed is not tried again, though its status is 503"


def test_a_dry_run_answers_the_plan_and_makes_nothing(client: Client, node: FakeNode) -> None:
    assert client.vms.create(name="a", dry_run=True).result() == {"plan": {"steps": ["allocate", "start"]}}
    assert node.rows("vms") == []


def test_progress_is_reported_until_the_end(client: Client, node: FakeNode) -> None:
    node.held, states = True, []

    def watch(job: JobState) -> None:
        states.append(job.state)
        node.release()

    client.zones.create(name="west").wait(5, watch)
    assert states == ["Running", "Succeeded"]


def test_a_wait_that_ends_first_leaves_the_job_alone(client: Client, node: FakeNode) -> None:
    node.held = True
    job = client.zones.create(name="west")
    with pytest.raises(StillRunning) as late:
        job.wait(timeout=0.05)
    assert late.value.job.uuid == job.uuid
    node.release()
    assert client.job(job.uuid or "").result().name == "west"


def test_a_cancelled_job_raises_a_state_conflict(client: Client, node: FakeNode) -> None:
    node.held = True
    job = client.zones.create(name="west")
    job.cancel()
    with pytest.raises(StateConflict, match="cancelled"):
        job.result()


def test_lists_page_through_everything_lazily(client: Client, node: FakeNode) -> None:
    for i in range(25):
        node.add("vms", name=f"vm-{i:02}", state="Running" if i % 2 else "Stopped")
    names = [vm.name for vm in client.vms.list(sort="-name", page_size=10)]
    assert names == [f"vm-{i:02}" for i in reversed(range(25))] and len(node.seen) == 3
    assert len(list(client.vms.list("state=Running", limit=7, page_size=5, fields=("uuid",)))) == 7
    assert dict(node.seen[-1].query)["limit"] == "2"
    assert client.vms.count(["state=Running", "name!=vm-01"]) == 11
    node.seen.clear()
    next(client.vms.list(page_size=5))
    assert len(node.seen) == 1


def test_names_resolve_or_tell_the_candidates(client: Client, node: FakeNode) -> None:
    twins = [node.add("zones", name="twin")["uuid"] for _ in range(2)]
    assert client.zones.find(node.add("zones", name="one")["name"]).name == "one"
    with pytest.raises(NotFound):
        client.zones.find("none")
    with pytest.raises(StateConflict) as ambiguous:
        client.zones.find("twin")
    assert sorted(item.uuid for item in ambiguous.value.details["candidates"]) == sorted(twins)


def test_contract_messages_are_sent_as_they_declare(client: Client, node: FakeNode) -> None:
    uuid = client.submit(CreateZone(name="west")).result()["uuid"]
    node.store["zones"][uuid].update(description="", created_at=NOW, updated_at=NOW, state="Enabled")
    assert client.zones.get(uuid, into=Zone).state == "Enabled"
    client.submit(DeleteZone(uuid=uuid, force=True)).result()
    assert node.mutations()[-1].query == [("force", "true")] and not node.rows("zones")


def test_plug_in_collections_and_raw_requests(client: Client, node: FakeNode) -> None:
    volume = node.add("volumes", name="disk", size={"bytes": 5}, parts=[{"n": 1}])
    found = client.collection("volumes").get(volume["uuid"])
    assert (found.size.bytes, found.parts[0].n) == (5, 1)
    assert client.request("get", "/v1/volumes", params=[("q", "name=disk"), ("q", "name!=x")]).json()[
        "items"
    ] == [volume]
    with pytest.raises(AttributeError, match="no field 'nope'"):
        found.nope  # noqa: B018


def test_an_empty_key_never_addresses_the_collection(client: Client, node: FakeNode) -> None:
    with pytest.raises(ValueError, match="empty"):
        client.vms.delete("")
    with pytest.raises(NotFound):
        client.vms.get("../zones?x")
    assert node.seen[0].path == "/v1/vms/..%2Fzones%3Fx"


def test_something_else_behind_the_url_is_named_as_such(client: Client, node: FakeNode) -> None:
    node.script = [(200, {}, b"<html>hello</html>"), (200, {}, [1])]
    for _ in range(2):
        with pytest.raises(UnexpectedAnswer):
            client.zones.get("x")


def test_login_uses_the_token_from_then_on(node: FakeNode) -> None:
    with Client(node.url) as client:
        client.login("admin", "password")
        assert list(client.zones.list()) == [] and "authorization" not in node.seen[0].headers


def test_from_env_reads_urls_and_a_token_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.delenv("MGMTNODE_TOKEN", raising=False)
    monkeypatch.setenv("MGMTNODE_URL", "http://a:1/, https://b")
    monkeypatch.setenv("MGMTNODE_TOKEN_FILE", str(tmp_path / "token"))
    client = Client.from_env()
    assert (client.caller.urls, client.caller.token) == (("http://a:1", "https://b"), "secret")
    with pytest.raises(ValueError, match="not a URL"):
        Client("ftp://a")


def test_the_async_client_does_all_the_same(node: FakeNode) -> None:
    for i in range(5):
        node.add("vms", name=f"vm-{i}")
    node.emit("vm.started", {"n": 1})

    async def scenario() -> None:
        async with AsyncClient(node.url, TOKEN, timeout=30, retry_for=30) as client:
            zone = await (await client.zones.create(name="west")).result(30, lambda job: None)
            assert (
                (await client.zones.get(zone.uuid)).name == (await client.zones.find("west")).name == "west"
            )
            await (await client.zones.update(zone.uuid, name="east")).result()
            await (await client.zones.action("disable", zone.uuid)).result()
            job = await client.submit(DeleteZone(uuid=zone.uuid))
            assert await job.result() is None and (await client.job(job.uuid or "")).state
            assert [vm.name async for vm in client.vms.list(sort="name", page_size=2, limit=3)] == [
                "vm-0",
                "vm-1",
                "vm-2",
            ]
            assert await client.vms.count() == 5 and len([j async for j in client.jobs()]) == 4
            assert (await client.request("GET", "/v1/vms")).status == 200
            stream = client.events()
            assert (await anext(stream)).type == "vm.started"
            await stream.aclose()  # type: ignore[attr-defined]
            node.held = True
            held = await client.zones.create(name="x")
            await held.refresh()
            with pytest.raises(StillRunning):
                await held.wait(0.05)
            await held.cancel()
            assert held.state and held.state.state == "Cancelled"
            await (await client.vms.delete(node.rows("vms")[0]["uuid"])).cancel()
            assert (await client.login("admin", "password")).token == TOKEN

    asyncio.run(scenario())
