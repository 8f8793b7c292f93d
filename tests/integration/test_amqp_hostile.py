"""What strangers can send to the AMQP API, and what becomes of the node, of the message, and of all others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from mgmtnode.api.amqp import topology
from mgmtnode.api.amqp.intake import Delivery, Intake, Verdict
from mgmtnode.bus.amqp_link import Broker
from mgmtnode.ports import SystemRng
from mgmtnode.testing.cloud import Cloud
from mgmtnode.testing.servers import RabbitServer
from tests.integration import poison
from tests.integration.outside import Outside, connected, serving, until

pytestmark = pytest.mark.integration

ALARM = "{resource_limit, memory, node()}"


@pytest.fixture
def cloud(rabbit_url: str, tmp_path: Path) -> Iterator[Cloud]:
    with serving(rabbit_url, tmp_path / "node") as cloud:
        yield cloud


@pytest.fixture
def outside(cloud: Cloud, rabbit_url: str) -> Iterator[Outside]:
    client = Outside(rabbit_url, cloud.token)
    yield client
    client.close()


def test_what_the_library_cannot_decode_is_buried_and_nothing_else_notices(
    cloud: Cloud, outside: Outside, rabbit_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = [poison.nested(1500), poison.nested(5000), poison.TIMESTAMP, poison.NOT_UTF8]
    for properties in hostile:
        outside.publish("zone.create", {"name": "before"})
        poison.publish(rabbit_url, properties)
        poison.publish(rabbit_url, properties, body=b"x" * (1 << 20))
        outside.publish("zone.create", {"name": "after"})
    ended = [m for m in outside.get(4 * len(hostile)) if m.type == "job.ended"]
    assert [m.body["state"] for m in ended] == ["Succeeded"] * 2 * len(hostile)
    cloud.until(lambda: outside.depth(topology.DEAD) == 2 * len(hostile))
    assert outside.depth(topology.REQUESTS) == 0
    assert not [r for r in caplog.records if "amqp api" in r.getMessage() and r.levelname == "WARNING"]


def test_a_routing_key_that_is_no_text_names_no_api(cloud: Cloud, outside: Outside, rabbit_url: str) -> None:
    reply_to = poison.struct.pack(">H", poison.REPLY_TO) + poison.shortstr(outside.replies.encode())
    poison.publish(rabbit_url, reply_to, key=b"\xff\xfe")
    [answer] = outside.get()
    assert answer.body["code"] == "api.unknown-api"


def test_a_message_that_breaks_every_connection_is_buried_alone(rabbit_url: str) -> None:
    """A fault nobody thought of, where messages are read."""
    read: Counter[str] = Counter()

    async def take() -> None:
        done = asyncio.Event()

        def deliver(delivery: Delivery) -> None:
            read[delivery.key] += 1
            if delivery.key == "poison":
                raise ZeroDivisionError
            intake.settle(delivery, Verdict.DONE)
            if delivery.key == "last":
                done.set()

        broker = Broker(rabbit_url, SystemRng())
        intake = Intake(
            "test", broker, lambda: None, prefetch=64, deliver=deliver, open_for_more=lambda: True
        )
        intake.start()
        await asyncio.wait_for(done.wait(), 60)
        await asyncio.to_thread(until, lambda: outside.depth(topology.DEAD) == 1)
        intake.stop()
        await asyncio.to_thread(until, lambda: intake.ended)

    poison.declare(rabbit_url)
    outside = Outside(rabbit_url, "")
    good = [f"good-{n}" for n in range(40)]
    for key in [*good[:20], "poison", *good[20:], "last"]:
        outside.publish(key)
    asyncio.run(take())
    assert read["poison"] == topology.DELIVERY_LIMIT + 1
    assert all(1 <= read[key] <= 2 for key in good), read
    assert outside.depth(topology.REQUESTS) == 0
    outside.close()


def test_while_the_broker_takes_no_answers_no_more_is_taken_and_rest_goes_on(
    rabbit_server: RabbitServer, rabbit_url: str, tmp_path: Path
) -> None:
    poison.declare(rabbit_url)
    with serving(rabbit_url, tmp_path / "node", prefetch=3) as cloud:
        client = Outside(rabbit_url, cloud.token)
        rabbit_server.eval(f"rabbit_alarm:set_alarm({{{ALARM}, []}}).")
        try:
            # The broker reads no publisher now; these lie in its socket.
            for _ in range(20):
                client.publish("session.whoami")
            assert cloud.request("GET", "/zones").status_code == 200
            assert cloud.create("zones", name="west")["name"] == "west"
        finally:
            rabbit_server.eval(f"rabbit_alarm:clear_alarm({ALARM}).")
        assert [m.status for m in client.get(20)] == [200] * 20
        client.close()


def test_no_more_is_worked_on_at_once_than_is_allowed(
    rabbit_server: RabbitServer, rabbit_url: str, tmp_path: Path
) -> None:
    poison.declare(rabbit_url)
    with serving(rabbit_url, tmp_path / "node", prefetch=3) as cloud:
        token = cloud.tenant().token
    answered = 'mgmtnode_amqp_requests_total{api="session.whoami",status="200"}'
    client = Outside(rabbit_url, token)
    for _ in range(20):
        client.publish("session.whoami")
    until(lambda: client.depth(topology.REQUESTS) == 20)
    rabbit_server.eval(f"rabbit_alarm:set_alarm({{{ALARM}, []}}).")
    try:
        with serving(rabbit_url, tmp_path / "node", prefetch=3, until_connected=False) as cloud:
            # Answered, but the answers do not go out: what was taken is not acknowledged, and no more is taken.
            cloud.until(lambda: f"{answered} 3.0" in cloud.http.get("/metrics").text)
            cloud.until(lambda: not connected(cloud))
            assert cloud.http.get("/readyz").status_code == 200
            assert cloud.request("GET", "/zones").status_code == 200
            assert client.depth(topology.REQUESTS) == 17
            assert 'mgmtnode_amqp_messages{what="requests"} 3.0' in cloud.http.get("/metrics").text
            rabbit_server.eval(f"rabbit_alarm:clear_alarm({ALARM}).")
            assert [m.status for m in client.get(20)] == [200] * 20
    finally:
        rabbit_server.eval(f"rabbit_alarm:clear_alarm({ALARM}).")
    client.close()


def test_a_node_boots_and_is_ready_without_the_broker(tmp_path: Path) -> None:
    from mgmtnode.config import core_properties as core
    from mgmtnode.testing.cloud import NodeThread, operator_token

    thread = NodeThread(tmp_path / "node")
    thread.properties.override(core.API_AMQP_URL, "amqp://guest:guest@127.0.0.1:1/none", "the test")
    thread.start()
    cloud = Cloud(thread, operator_token(thread))
    try:
        assert cloud.http.get("/readyz").json() == {"ready": True}
        assert not connected(cloud)
        assert cloud.create("zones", name="west")["name"] == "west"
    finally:
        cloud.close()
        thread.stop()


def test_a_restart_of_the_broker_loses_no_end_and_no_event(
    cloud: Cloud, rabbit_server: RabbitServer, rabbit_url: str
) -> None:
    client = Outside(rabbit_url, cloud.token)
    for queue in ("answers", "events"):
        client.channel.queue_declare(queue, durable=True)
    client.channel.queue_bind("events", topology.EVENTS, "zone.created")
    client.publish("zone.create", {"name": "before"}, reply_to="answers")
    cloud.until(lambda: client.depth("answers") == 2)
    client.close()
    # A quorum queue that is a few seconds old does not survive a kill: RabbitMQ 3.10 has its name in no file yet.
    rabbit_server.eval("[dets:sync(Table) || Table <- dets:all()].")
    rabbit_server.restart("kill")
    cloud.create("zones", name="meanwhile")
    cloud.until(lambda: connected(cloud), 60)
    again = Outside(rabbit_url, cloud.token)
    again.publish("zone.create", {"name": "after"}, reply_to="answers")
    for queue in ("answers", "events"):
        again.channel.basic_consume(queue, again._take, auto_ack=True)
    heard = {m.message_id: m for m in again.get(7)}.values()
    names = [m.body["body"]["zone"]["name"] for m in heard if m.type == "zone.created"]
    assert names == ["before", "meanwhile", "after"]
    assert (
        sorted(m.type for m in heard if m.type != "zone.created") == ["job.accepted"] * 2 + ["job.ended"] * 2
    )
    again.close()


def test_a_reply_queue_that_is_full_costs_nobody_anything(cloud: Cloud, outside: Outside) -> None:
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    outside.channel.queue_declare("full", exclusive=True, arguments=full)
    for _ in range(5):
        outside.publish("zone.create", {"name": "z"}, reply_to="full")
    assert outside.ask("session.whoami").status == 200
    cloud.until(lambda: len(cloud.list("zones")) == 5)
    assert outside.depth("full") == 1 and outside.depth(topology.DEAD) == 0


def test_queues_that_somebody_deletes_are_made_again(cloud: Cloud, outside: Outside) -> None:
    outside.channel.queue_delete(topology.REQUESTS)
    outside.channel.exchange_delete(topology.EVENTS)
    cloud.until(lambda: connected(cloud) and exists(outside, topology.REQUESTS))
    cloud.until(lambda: answers(outside))  # what comes before the queue is bound again goes nowhere
    cloud.create("zones", name="west")  # whose event finds no exchange, which ends that connection
    cloud.until(lambda: outside.connection.is_open and connected(cloud))
    outside.channel.exchange_declare(topology.EVENTS, "topic", passive=True)


def answers(outside: Outside) -> bool:
    outside.publish("session.whoami", {})
    try:
        return outside.get(seconds=1.0)[0].status == 200
    except AssertionError:
        return False


def exists(outside: Outside, queue: str) -> bool:
    channel = outside.connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    channel.close()
    return True
