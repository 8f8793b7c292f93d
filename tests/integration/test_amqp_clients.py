"""Clients in other languages and of other makers, and the pages that tell how to write one."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pika
import pytest

from mgmtnode.testing.servers import RabbitServer
from tests import npm
from tests.docs.pages import blocks
from tests.e2e.dev_node import DevNode
from tests.integration.outside import Outside, until

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "how-to" / "use-amqp.md").read_text()
SECONDS = 120


@pytest.fixture
def node(rabbit_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DevNode]:
    """A cloud with two simulated hosts, whose AMQP API is connected."""
    monkeypatch.setenv("MGMTNODE_API_AMQP_URL", rabbit_url)
    node = DevNode(tmp_path / "data", hosts=2)
    node.start()
    try:
        until(lambda: '"AMQP API","ok":true' in httpx.get(f"{node.url}/readyz?verbose=true").text)
        yield node
    finally:
        node.kill()


def offering(node: DevNode) -> str:
    with node.http() as http:
        return str(http.get("/instance-offerings", params={"q": "name=small"}).json()["items"][0]["uuid"])


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_client_in_javascript_makes_a_vm_and_hears_of_it(node: DevNode, rabbit_url: str) -> None:
    modules = npm.package("amqplib", "2").parent.parent
    body = json.dumps({"name": "web", "instance_offering_uuid": offering(node)})
    told = json.loads(run("node", str(HERE / "client.mjs"), str(modules), rabbit_url, node.token, body))
    assert [(a["type"], a["status"]) for a in told["first"]] == [("job.accepted", 202), ("job.ended", 200)]
    assert told["first"][1]["body"]["result"]["state"] == "Running"
    assert [a["body"]["uuid"] for a in told["again"]] == [told["first"][0]["body"]["uuid"]] * 2
    [refused] = told["refused"]
    assert (refused["type"], refused["status"]) == ("problem", 401)
    assert refused["body"]["code"] == "core.unauthenticated"
    assert told["list"][0]["body"]["items"] == [{"name": "web", "state": "Running"}]
    assert {event["key"] for event in told["events"]} >= {"vm.created", "vm.state-changed"}


def test_a_client_with_pika_does_the_same(node: DevNode, rabbit_url: str) -> None:
    body = {"name": "web", "instance_offering_uuid": offering(node)}
    with Outside(rabbit_url, node.token) as outside, Outside(rabbit_url, node.token) as listener:
        listener.listen("mgmtnode.events", "vm.created")
        accepted, ended = outside.do("vm.create", body, message_id="from-pika")
        assert (ended.body["state"], ended.body["result"]["state"]) == ("Succeeded", "Running")
        again, _ = outside.do("vm.create", body, message_id="from-pika")
        assert again.body["uuid"] == accepted.body["uuid"]
        assert outside.ask("vm.create", body, headers={"authorization": "Bearer wrong"}).status == 401
        [event] = listener.get()
        assert (event.key, event.body["resource_uuid"]) == ("vm.created", accepted.body["resource_uuid"])


def test_the_javascript_of_the_page_works(node: DevNode, rabbit_url: str, tmp_path: Path) -> None:
    modules = npm.package("amqplib", "2").parent.parent
    script = modules / "page.mjs"
    script.write_text(next(block.text for block in blocks(PAGE) if block.info == "js"))
    printed = run("node", str(script), rabbit_url, node.token, "from-page")
    assert printed == "job.accepted Pending\njob.ended Succeeded\nfrom-page is Running\n"


# The permissions that the page tells to give.


def grant(server: RabbitServer, vhost: str) -> dict[str, str]:
    """Makes the page's users with its permissions on this virtual host; returns their URLs by name."""
    line = re.compile(r"rabbitmqctl set_permissions -p mgmtnode-api (\S+) '(.*)' '(.*)' '(.*)'")
    urls = {}
    for user, *rights in line.findall(PAGE):
        server.eval(f'catch rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"secret">>, <<"t">>).')
        quoted = ", ".join(f'<<"{right}">>'.replace("\\", "\\\\") for right in rights)
        server.eval(
            f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{vhost}">>, {quoted}, <<"t">>).'
        )
        urls[user] = server.vhost_url(vhost).replace("guest:guest", f"{user}:secret")
    return urls


def refused(url: str, action: str, *words: Any, **options: Any) -> bool:
    """Whether the broker refuses what a channel is asked for."""
    with Outside(url, "") as client:
        try:
            getattr(client.channel, action)(*words, **options)
            client.depth(client.replies)  # an error of what has no answer comes with the next one
        except pika.exceptions.ChannelClosedByBroker as exc:
            return bool(exc.reply_code == 403)
        return False


def test_with_the_permissions_of_the_page_clients_reach_what_is_theirs(
    rabbit_server: RabbitServer, rabbit_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = grant(rabbit_server, rabbit_url.rpartition("/")[2])
    assert users.keys() == {"mgmtnode", "acme", "auditor"}
    monkeypatch.setenv("MGMTNODE_API_AMQP_URL", users["mgmtnode"])
    node = DevNode(tmp_path / "data", hosts=0)
    node.start()
    try:
        with Outside(users["acme"], node.token) as acme, Outside(users["auditor"], node.token) as auditor:
            auditor.listen("mgmtnode.events", "zone.*")
            assert acme.do("zone.create", {"name": "west"})[1].body["state"] == "Succeeded"
            assert auditor.get()[0].key == "zone.created"
        own = {"exclusive": True, "queue": ""}
        for url in (users["acme"], users["auditor"]):
            for queue in ("mgmtnode.api.requests", "mgmtnode.api.dead"):
                assert refused(url, "basic_get", queue)
            assert refused(url, "basic_publish", "mgmtnode.events", "vm.created", b"{}")
            assert refused(url, "basic_publish", "", "somebodys-queue", b"{}")
            assert refused(url, "queue_declare", "mgmtnode.mine")
        assert not refused(users["acme"], "queue_declare", **own)
        with Outside(users["acme"], "") as acme, pytest.raises(pika.exceptions.ChannelClosedByBroker):
            acme.listen("mgmtnode.events")
    finally:
        node.kill()
