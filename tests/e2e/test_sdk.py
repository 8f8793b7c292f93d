"""The client library, blocking and asyncio, against a real development node that is killed under it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from mgmtnode.client import AsyncClient, Client, NoCapacity, NotFound, StateConflict, StillRunning
from mgmtnode.contracts.allocator import GetCapacity
from mgmtnode.contracts.vm import Vm
from mgmtnode.contracts.zone import CreateZone
from tests.e2e.dev_node import DevNode

pytestmark = pytest.mark.slow
GIB = 1 << 30


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevNode]:
    made = DevNode(tmp_path_factory.mktemp("sdk") / "data", hosts=2)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


@pytest.fixture
def client(node: DevNode) -> Iterator[Client]:
    with Client(node.url, node.token, timeout=20, retry_for=60) as made:
        yield made


def slow(client: Client, delay_ms: int) -> None:
    """The next command on each host takes so long."""
    for host in client.hosts.list():
        fault = {"kind": "slow", "delay_ms": delay_ms, "times": 1}
        client.hosts.action("simulate-fault", host.uuid, {"fault": fault})


def test_a_machine_lives_through_its_life(client: Client) -> None:
    seen = []
    network = client.l3_networks.find("dev-net")
    job = client.vms.create(name="life", cpu=1, memory=GIB, l3_network_uuids=[network.uuid])
    made = job.result(60, lambda state: seen.append(state.state))
    assert (made.uuid, made.state, seen[-1]) == (job.resource_uuid, "Running", "Succeeded")
    assert client.vms.get(made.uuid, Vm).nics[0].ip == made.nics[0].ip
    client.vms.action("stop", made.uuid, wait=20).result(60)
    fresh = client.vms.get(made.uuid)
    client.vms.update(made.uuid, name="afterlife", if_match=fresh.etag).result(60)
    with pytest.raises(StateConflict):
        client.vms.update(made.uuid, name="too late", if_match=fresh.etag)
    assert [vm.name for vm in client.vms.list("name~=%life", sort="name")] == ["afterlife"]
    client.vms.delete(made.uuid).result(60)
    client.vms.action("expunge", made.uuid).result(60)
    with pytest.raises(NotFound):
        client.vms.get(made.uuid)
    with pytest.raises(NoCapacity) as refused:
        client.vms.create(name="huge", cpu=4000, memory=GIB).result(60)
    assert refused.value.details["filters"]


def test_messages_of_contracts_are_sent_as_they_are(client: Client) -> None:
    zone = client.submit(CreateZone(name="typed")).result(60)
    assert client.call(GetCapacity(zone_uuid=zone.uuid)).hosts == 0
    assert client.submit(CreateZone(name="dry"), dry_run=True).result().steps == ["create"]
    assert client.zones.count("name=dry") == 0 and client.zones.count("name=typed") == 1
    client.zones.delete(zone.uuid, wait=20).result(60)


def test_pages_follow_one_another(client: Client) -> None:
    jobs = [job.uuid for job in client.jobs(sort="accepted_at")]
    paged = [job.uuid for job in client.collection("jobs").list(sort="accepted_at", page_size=3)]
    assert paged[: len(jobs)] == jobs and len(set(paged)) == len(paged)


def test_a_wait_ends_before_the_job_and_takes_up_again(client: Client) -> None:
    slow(client, 1500)
    job = client.vms.create(name="waited", cpu=1, memory=GIB)
    with pytest.raises(StillRunning):
        job.wait(0.2)
    assert job.result(60).state == "Running"
    client.vms.delete(str(job.resource_uuid)).result(60)


def test_a_kill_is_survived_by_requests_waits_and_events(node: DevNode, client: Client) -> None:
    slow(client, 3000)
    first = next(client.jobs(sort="-accepted_at", limit=1))
    fields = {"name": "kept", "cpu": 1, "memory": GIB}
    job = client.vms.create(fields, idempotency_key="kept")
    node.kill()
    restart = threading.Thread(target=node.start)
    restart.start()
    again = client.vms.create(fields, idempotency_key="kept")  # nobody is there: it is sent until somebody is
    restart.join(60)
    assert (again.uuid, again.resource_uuid) == (job.uuid, job.resource_uuid) and first.uuid != job.uuid
    ended = job.wait(60)
    assert ended is not None and ended.ended
    assert client.vms.count("name=kept") == (1 if ended.state == "Succeeded" else 0)
    names = {event.data.body.resource_uuid for event in first_events(client, 20)}
    assert len(names) > 1


def first_events(client: Client, number: int) -> Iterator[object]:
    for count, event in enumerate(client.events(last_event_id="0-0"), 1):
        yield event
        if count == number:
            return


def test_events_resume_over_a_restart_without_gap_or_repetition(node: DevNode, client: Client) -> None:
    begun = client.zones.create(name="ev-0").result(60)
    stream = client.events(last_event_id="0-0", params={"types": "zone.created"})
    found = []
    for event in stream:
        found.append(event.data.body.zone.name)
        if event.data.resource_uuid == begun.uuid:
            break
    node.kill()
    node.start()
    with Client(node.url, node.token) as other:
        for name in ("ev-1", "ev-2"):
            other.zones.create(name=name).result(60)
    found += [next(stream).data.body.zone.name, next(stream).data.body.zone.name]
    assert found[-3:] == ["ev-0", "ev-1", "ev-2"] and len(set(found)) == len(found)


def test_the_asyncio_client_does_the_same_many_at_once(node: DevNode) -> None:
    async def main() -> None:
        async with AsyncClient(node.url, node.token) as client:
            jobs = await asyncio.gather(*(client.zones.create(name=f"async-{i}") for i in range(20)))
            zones = await asyncio.gather(*(job.result(60) for job in jobs))
            assert sorted(zone.name for zone in zones) == sorted(f"async-{i}" for i in range(20))
            assert await client.zones.count("name~=async-%") == 20
            assert len([zone async for zone in client.zones.list("name~=async-%", page_size=7)]) == 20
            gone = await asyncio.gather(*(client.zones.delete(zone.uuid) for zone in zones))
            await asyncio.gather(*(job.result(60) for job in gone))
            assert (await client.call(GetCapacity())).hosts == 2
            with pytest.raises(NotFound):
                await client.zones.find("async-0")

    asyncio.run(main())
