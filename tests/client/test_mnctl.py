"""mnctl as its users meet it: commands, exit codes, what is said on failure."""

from __future__ import annotations

import json
import stat
from io import StringIO
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are another distribution

from .conftest import Mnctl
from .fakenode import TOKEN, FakeNode, problem


def test_a_zone_lives_through_its_life(mnctl: Mnctl, node: FakeNode) -> None:
    made = mnctl("zone", "create", "west", "--description", "first", "-o", "json")
    zone = json.loads(made.out)
    assert (made.code, zone["name"], zone["description"]) == (0, "west", "first")
    assert mnctl("zone", "list").out.split() == ["NAME", "STATE", "UUID", "west", "-", zone["uuid"]]
    assert mnctl("zone", "update", "west", "--name", "east", "--set", "description=null").code == 0
    assert yaml.safe_load(mnctl("zone", "show", "east").out)["description"] is None
    assert "zone east: disabled" in mnctl("zone", "disable", "east").err
    assert mnctl("zone", "delete", "east", "--yes", "--force").code == 0
    assert node.rows("zones") == [] and node.mutations()[-1].query == [("force", "true")]


def test_references_are_names_or_uuids_and_any_field_can_be_set(mnctl: Mnctl, node: FakeNode) -> None:
    zone, other = node.add("zones", name="dev"), node.add("zones", name="dev2")
    assert mnctl("cluster", "create", "c1", "--zone", "dev", "--hypervisor", "simulator").code == 0
    assert node.mutations()[-1].body == {"zone_uuid": zone["uuid"], "hypervisor": "simulator", "name": "c1"}
    assert (
        mnctl(
            "cluster", "create", "c2", "--zone", other["uuid"].upper(), "--set", "a.b=[1]", "--set", "c=x y"
        ).code
        == 0
    )
    assert node.mutations()[-1].body == {
        "zone_uuid": other["uuid"],
        "a": {"b": [1]},
        "c": "x y",
        "name": "c2",
    }


def test_a_host_has_parameters_with_sizes_people_write(mnctl: Mnctl, node: FakeNode) -> None:
    cluster = node.add("clusters", name="c1")
    command = (
        "host",
        "create",
        "h1",
        "--cluster",
        "c1",
        "--management-ip",
        "10.0.0.1",
        "--cpu",
        "8",
        "--memory",
        "2GiB",
    )
    assert mnctl(*command).code == 0
    body = node.mutations()[0].body
    assert body["parameters"] == {"cpu": 8, "memory": 2 << 30} and body["cluster_uuid"] == cluster["uuid"]
    assert mnctl("offering", "create", "s", "--cpu", "1", "--memory", "1.5G").code == 0
    assert node.mutations()[-1].body["memory"] == 3 << 29
    bad = mnctl("offering", "create", "s", "--memory", "many")
    assert bad.code == 2 and "not a size" in bad.err


def test_an_ambiguous_name_lists_the_candidates(mnctl: Mnctl, node: FakeNode) -> None:
    twins = [node.add("vms", name="twin", state=state)["uuid"] for state in ("Running", "Stopped")]
    refused = mnctl("vm", "stop", "twin")
    assert refused.code == 5 and all(uuid in refused.err for uuid in twins)
    assert "next: say which one by its uuid" in refused.err and node.mutations() == []


def test_launch_needs_only_a_name(mnctl: Mnctl, node: FakeNode) -> None:
    node.add("instance-offerings", name="large", cpu=8, memory=8 << 30)
    tiny = node.add("instance-offerings", name="tiny", cpu=1, memory=1 << 28)
    network = node.add("l3-networks", name="net")
    run = mnctl("vm", "launch", "web-1")
    assert (run.code, run.out) == (0, "web-1 is Running at 10.0.0.7\n")
    assert run.err.endswith("next: mnctl vm show web-1\n")
    body = node.mutations()[-1].body
    assert body == {
        "name": "web-1",
        "instance_offering_uuid": tiny["uuid"],
        "l3_network_uuids": [network["uuid"]],
    }
    small = node.add("instance-offerings", name="small", cpu=2, memory=2 << 30)
    assert mnctl("vm", "launch", "web-2", "--user-tag", "a", "--user-tag", "b").code == 0
    body = node.mutations()[-1].body
    assert (body["instance_offering_uuid"], body["user_tags"]) == (small["uuid"], ["a", "b"])
    assert mnctl("vm", "launch", "web-3", "--cpu", "4").code == 0
    assert node.mutations()[-1].body["cpu"] == 4 and "instance_offering_uuid" not in node.mutations()[-1].body


def test_launch_works_without_offerings_and_networks(mnctl: Mnctl, node: FakeNode) -> None:
    run = mnctl("vm", "launch", "web-1")
    assert (run.code, run.out) == (0, "web-1 is Running, without a network\n")
    assert node.mutations()[0].body == {"name": "web-1", "l3_network_uuids": [], "cpu": 1, "memory": 1 << 30}


def test_several_are_all_sent_before_the_first_is_waited_for(mnctl: Mnctl, node: FakeNode) -> None:
    names = [node.add("vms", name=f"vm-{i}", state="Running")["name"] for i in range(3)]
    run = mnctl("vm", "stop", names[0], "nobody", *names[1:], "--force")
    assert run.code == 3 and [vm["state"] for vm in node.rows("vms")] == ["Stopped"] * 3
    methods = [seen.method for seen in node.seen]
    assert methods.index("POST") < len(methods) - methods[::-1].index("POST") <= len(methods)
    assert [seen.body for seen in node.mutations()] == [{"force": True}] * 3


def test_nothing_is_deleted_without_a_yes(mnctl: Mnctl, node: FakeNode) -> None:
    node.add("vms", name="web")
    for words in (("delete", "web"), ("expunge", "web")):
        refused = mnctl("vm", *words)
        assert refused.code == 2 and "--yes" in refused.err
    assert node.mutations() == []
    assert mnctl("vm", "delete", "web", "--dry-run").code == 0


def test_no_wait_prints_the_job_and_how_to_follow_it(mnctl: Mnctl, node: FakeNode) -> None:
    node.held = True
    run = mnctl("zone", "create", "west", "--no-wait")
    (job,) = node.jobs
    assert run.code == 0 and f"accepted as job {job}" in run.out and f"mnctl job watch {job}" in run.err
    assert json.loads(mnctl("zone", "create", "east", "--no-wait", "-o", "json").out)["state"] == "Running"


def test_a_wait_that_times_out_exits_with_6_and_the_job_goes_on(mnctl: Mnctl, node: FakeNode) -> None:
    node.held = True
    run = mnctl("zone", "create", "west", "--timeout", "0.05")
    (job,) = node.jobs
    assert run.code == 6 and f"next: mnctl job watch {job}" in run.err
    node.release()
    watched = mnctl("job", "watch", job)
    assert watched.code == 0 and "succeeded" in watched.err and node.rows("zones")


def test_progress_without_a_terminal_is_plain_lines(mnctl: Mnctl, node: FakeNode) -> None:
    node.held = True
    run = mnctl("zone", "create", "west", "--timeout", "0.05")
    assert run.err.splitlines()[0] == "zone west: Running  allocate  50 %" and "\x1b" not in run.err


def test_a_dry_run_shows_the_plan(mnctl: Mnctl) -> None:
    assert yaml.safe_load(mnctl("vm", "create", "x", "--dry-run").out) == {
        "plan": {"steps": ["allocate", "start"]}
    }


def test_a_cancelled_job_is_a_success_of_cancel_and_a_conflict_of_watch(mnctl: Mnctl, node: FakeNode) -> None:
    node.held = True
    mnctl("zone", "create", "west", "--no-wait")
    (job,) = node.jobs
    assert (mnctl("job", "cancel", job).code, mnctl("job", "watch", job).code) == (0, 5)
    assert "had ended before: Cancelled" in mnctl("job", "cancel", job).err
    assert job in mnctl("job", "list", "state=Cancelled").out
    assert yaml.safe_load(mnctl("job", "show", job).out)["cancel_requested"] is True


@pytest.mark.parametrize(
    ("category", "code"),
    [("INVALID", 2), ("NOT_FOUND", 3), ("DENIED", 4), ("EXISTS", 5), ("STATE", 5), ("NO_CAPACITY", 7),
     ("INTERNAL", 1), ("TIMEOUT", 1)],
)  # fmt: skip
def test_a_job_that_fails_gives_the_exit_code_of_its_category(
    mnctl: Mnctl, node: FakeNode, category: str, code: int
) -> None:
    cause = problem("agent.cause", "INTERNAL", "the disk is full")
    node.job_problem = problem("some.code", category, "it went wrong", cause=cause)
    run = mnctl("zone", "create", "west")
    assert run.code == code and "error: it went wrong (some.code)" in run.err
    assert "because: the disk is full (agent.cause)" in run.err
    assert run.err.splitlines()[-1].startswith("next: ") and "mnctl job show" in run.err


def test_no_capacity_shows_what_each_filter_left(mnctl: Mnctl, node: FakeNode) -> None:
    filters = [
        {"filter": "state", "before": 3, "after": 2, "reason": "disabled"},
        {"filter": "memory", "before": 2, "after": 0},
    ]
    node.job_problem = problem(
        "allocator.no-host", "NO_CAPACITY", "no host can take the VM", details={"filters": filters}
    )
    run = mnctl("vm", "create", "big", "--cpu", "99")
    assert (
        run.code == 7 and "state: 3 hosts → 2  (disabled)\n" in run.err and "memory: 2 hosts → 0\n" in run.err
    )


def test_refusals_say_what_to_do(mnctl: Mnctl, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node.add("zones", name="west")
    taken = mnctl("zone", "create", "west")
    assert taken.code == 5 and "in use" in taken.err and "mnctl zone list" in taken.err
    missing = mnctl("zone", "show", "nope")
    assert missing.code == 3 and "next: mnctl zone list" in missing.err
    monkeypatch.setenv("MGMTNODE_TOKEN", "wrong")
    refused = mnctl("zone", "list")
    assert refused.code == 4 and "mnctl login" in refused.err


def test_nobody_there_exits_with_8(mnctl: Mnctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgmtnode.client.mnctl.app.FIRST_CONTACT", 0.2)
    run = mnctl("zone", "list", "--url", "http://127.0.0.1:1")
    assert run.code == 8 and run.err.count("trying again") == 1 and "mgmtnode dev" in run.err


@pytest.mark.parametrize(
    "words",
    [("zone", "bogus"), ("zone", "create"), ("zone", "create", "a", "--set", "x"), ("zone", "create", ""),
     ("zone", "update", "a"), ("zone", "list", "west"), ("zone", "show", ""),
     ("--url", "nonsense", "zone", "list"),
     ("zone", "create", "a", "--set", "a=1", "--set", "a.b=2"), ("api", "GET", "/v1/zones", "--data", "{"),
     ("zone", "list", "--token-file", "/nowhere")],
)  # fmt: skip
def test_wrong_words_are_usage_errors(mnctl: Mnctl, node: FakeNode, words: tuple[str, ...]) -> None:
    run = mnctl(*words)
    assert run.code == 2 and run.err and node.mutations() == []


def test_query_takes_conditions_fields_sort_and_counts(mnctl: Mnctl, node: FakeNode) -> None:
    for i in range(4):
        node.add("vms", name=f"vm-{i}", state="Running" if i else "Stopped")
    run = mnctl(
        "query",
        "vm",
        "state=Running",
        "name!=vm-2",
        "--sort",
        "-name",
        "--fields",
        "name,state",
        "--limit",
        "9",
    )
    assert run.out.split() == ["NAME", "STATE", "vm-3", "Running", "vm-1", "Running"]
    assert mnctl("vm", "list", "state=Running", "--count").out == "3\n"
    node.add("volumes", size=5, name="disk", parts=[1])
    assert mnctl("query", "volumes").out.splitlines()[0].split() == ["NAME", "SIZE", "UUID"]
    assert mnctl("query", "nothing").code == 0


def test_api_sends_anything(mnctl: Mnctl, node: FakeNode, home: Path) -> None:
    (home / "body.json").write_text('{"name": "west"}')
    assert json.loads(mnctl("api", "POST", "/v1/zones", "--data", "@body.json").out)["state"] == "Succeeded"
    listed = mnctl("api", "get", "zones", "--param", "q=name=west", "--param", "q=name!=x")
    assert json.loads(listed.out)["items"][0]["name"] == "west"
    assert mnctl("api", "GET", "/v1/zones/nope").code == 3


def test_config_and_tags(mnctl: Mnctl, node: FakeNode) -> None:
    node.store["global-configs"] = {"vm.limit": {"name": "vm.limit", "value": 5, "default": 9}}
    assert mnctl("config", "list").out.split()[:8] == [
        "NAME",
        "VALUE",
        "DEFAULT",
        "UNIT",
        "DESCRIPTION",
        "vm.limit",
        "5",
        "9",
    ]
    assert mnctl("config", "set", "vm.limit", "7").code == 0 and node.mutations()[-1].body == {"value": 7}
    assert mnctl("config", "reset", "vm.limit").code == 0
    assert node.mutations()[-1].path == "/v1/global-configs/vm.limit/actions/reset"
    assert "vm.limit" in mnctl("config", "show", "vm.limit").out
    vm = node.add("vms", name="web")
    assert mnctl("tag", "create", "vm", "web", "env::prod", "--system").code == 0
    sent = node.mutations()[-1]
    assert (sent.path, sent.body) == (f"/v1/resources/{vm['uuid']}/system-tags", {"text": "env::prod"})


def test_the_secret_of_a_key_is_shown_once(mnctl: Mnctl, node: FakeNode) -> None:
    run = mnctl("api-key", "create", "ci", "--set", "secret=s3cret")
    assert "secret: s3cret" in run.out and "not shown again" in run.err


def test_login_is_remembered_privately_and_only_for_its_url(
    mnctl: Mnctl, node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MGMTNODE_TOKEN")
    monkeypatch.setattr("sys.stdin", StringIO("password\n"))
    assert mnctl("login", "--password-stdin").code == 0
    file = home / "config" / "mgmtnode" / "login.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    monkeypatch.delenv("MGMTNODE_URL")
    assert mnctl("zone", "list").code == 0 and node.seen[-1].headers["authorization"] == f"Bearer {TOKEN}"
    assert mnctl("zone", "list", "--url", node.url.replace("127.0.0.1", "localhost")).code == 4
    assert "authorization" not in node.seen[-1].headers
    assert json.loads(mnctl("context", "list", "-o", "json").out)[0] == {
        "name": "default", "current": True, "url": node.url, "account": "admin"
    }  # fmt: skip
    assert mnctl("context", "use", "nope").code == 2 and mnctl("context", "use", "default").code == 0
    assert mnctl("logout").code == 0 and TOKEN not in file.read_text()
    assert "nobody" in mnctl("logout").err


def test_a_wrong_password_is_denied_and_nothing_is_remembered(
    mnctl: Mnctl, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("wrong\n"))
    assert mnctl("login", "--password-stdin").code == 4 and not (home / "config").exists()
    assert mnctl("login").code == 2


def test_a_broken_login_file_is_named(mnctl: Mnctl, home: Path) -> None:
    (home / "config" / "mgmtnode").mkdir(parents=True)
    _file(home / "config" / "mgmtnode" / "login.json", "{")
    run = mnctl("zone", "list")
    assert run.code == 2 and "login.json" in run.err and mnctl("logout").code == 1


def test_the_admin_token_of_a_local_node_is_found(
    mnctl: Mnctl, node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MGMTNODE_TOKEN")
    assert mnctl("zone", "list").code == 4
    (home / "data").mkdir()
    _file(home / "data" / "admin-token", TOKEN)
    assert mnctl("zone", "list").code == 0
    monkeypatch.setenv("MGMTNODE_DATA_DIR", str(home / "elsewhere"))
    assert mnctl("zone", "list").code == 4


def test_debug_shows_the_exchange_without_secrets(mnctl: Mnctl, node: FakeNode) -> None:
    run = mnctl(
        "--debug", "user", "create", "ana", "--password", "hunter2", "--set", 'keys=[{"token": "t0ken"}]'
    )
    assert (
        f"> POST {node.url}/v1/users" in run.err
        and "< 202 after" in run.err
        and "Idempotency-Key: " in run.err
    )
    assert all(secret not in run.err for secret in ("hunter2", TOKEN, "t0ken"))


def test_events_are_printed_as_lines_or_json(mnctl: Mnctl, node: FakeNode) -> None:
    node.emit("vm.started", {"resource_uuid": "u1", "body": {"resource_uuid": "u1", "vm_name": "web"}})
    node.emit("zone.created", {"resource_uuid": "u2"})
    node.emit("vm.stopped", {"resource_uuid": "u1"})
    assert (
        mnctl("event", "watch", "--limit", "2", "--type", "vm.*").out
        == "vm.started  u1  web\nvm.stopped  u1\n"
    )
    lines = mnctl("event", "watch", "--limit", "2", "--since", "1", "-o", "json").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["2", "3"]
    assert yaml.safe_load(mnctl("event", "watch", "--limit", "1", "-o", "yaml").out)["type"] == "vm.started"


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
