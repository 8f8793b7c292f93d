"""Every word of ``mnctl`` against a real development node: what it does, prints and exits with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are another distribution

from mgmtnode.client.mnctl import main
from mgmtnode.client.mnctl.kinds import BY_NOUN
from mgmtnode.client.mnctl.nouns import Noun
from tests.e2e.dev_node import DevNode

pytestmark = pytest.mark.slow
READS = '[{"effect": "Allow", "actions": ["*.read", "session.*"]}]'


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevNode]:
    made = DevNode(tmp_path_factory.mktemp("mnctl") / "data")
    made.start()
    made.mnctl("config", "set", "simulator.delay_ms", "10")
    made.mnctl("config", "set", "simulator.migration_ms", "20")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


class Shell:
    """Runs commands in this process, which is much quicker than a new one, and remembers their words."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capfd, self.monkeypatch = capfd, monkeypatch
        self.used: set[tuple[str, str]] = set()
        self.err = ""

    def __call__(self, *words: str, code: int = 0, stdin: str = "") -> str:
        self.monkeypatch.setattr("sys.stdin", StringIO(stdin))
        self.capfd.readouterr()
        ended = main.run(words)
        out, self.err = self.capfd.readouterr()
        assert ended == code, f"mnctl {' '.join(words)}: {ended}\n{out}\n{self.err}"
        self.used.add((words[0], words[1]) if len(words) > 1 else (words[0], ""))
        return out

    def json(self, *words: str, stdin: str = "") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*words, "-o", "json", stdin=stdin))
        return found

    def assert_said_everything_of(self, *nouns: str) -> None:
        for noun in nouns:
            verbs = Noun(BY_NOUN[noun], main.EXTRA.get(noun, {})).list_commands(None)  # type: ignore[arg-type]
            assert {verb for verb in verbs if (noun, verb) not in self.used} == set()


@pytest.fixture
def mnctl(
    node: DevNode, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("MGMTNODE_URL", node.url)
    monkeypatch.setenv("MGMTNODE_TOKEN", node.token)
    monkeypatch.chdir(tmp_path)
    return Shell(capfd, monkeypatch)


def common_verbs(mnctl: Shell, noun: str, name: str) -> None:
    """list, show, update, and enable and disable if it has them."""
    assert name in mnctl(noun, "list", f"name={name}")
    assert mnctl(noun, "list", f"name={name}", "--count") == "1\n"
    assert mnctl(noun, "list", f"name={name}", "--fields", "name").split() == ["NAME", name]
    assert yaml.safe_load(mnctl(noun, "show", name))["name"] == name
    changed = mnctl.json(noun, "update", name, "--description", "changed")
    assert changed["description"] == "changed"
    if any(action.name == "enable" for action in BY_NOUN[noun].actions):
        assert mnctl.json(noun, "disable", name)["state"] == "Disabled"
        assert mnctl.json(noun, "enable", name)["state"] == "Enabled"


def sharing_verbs(mnctl: Shell, noun: str, name: str) -> None:
    mnctl(noun, "share", name, "--everybody")
    assert "everybody" in mnctl(noun, "ownership", name)
    mnctl(noun, "unshare", name, "--everybody")
    if BY_NOUN[noun].movable:
        assert "owner: admin" in mnctl(noun, "change-owner", name, "--account", "admin")


def test_places(mnctl: Shell) -> None:
    mnctl("zone", "create", "attic", "--description", "up there")
    mnctl("cluster", "create", "beams", "--zone", "attic", "--hypervisor", "simulator")
    mnctl(
        "host", "create", "rafter", "--cluster", "beams", "--management-ip", "192.0.2.77", "--cpu", "4",
        "--memory", "8GiB",
    )  # fmt: skip
    mnctl("offering", "create", "tiny", "--cpu", "1", "--memory", "512MiB")
    for noun, name in (("zone", "attic"), ("cluster", "beams"), ("host", "rafter"), ("offering", "tiny")):
        common_verbs(mnctl, noun, name)
        sharing_verbs(mnctl, noun, name)
    assert mnctl("cluster", "list", "name=beams").splitlines()[1].split()[3] == "attic"
    assert mnctl.json("host", "maintain", "rafter")["state"] == "Maintenance"
    mnctl("host", "enable", "rafter")
    assert mnctl.json("host", "reconnect", "rafter")["status"] == "Connected"
    mnctl("host", "simulate-fault", "rafter", "--kind", "slow", "--delay-ms", "5", "--times", "2")
    assert mnctl("host", "simulated-faults", "rafter").splitlines()[1].split()[:3] == ["slow", "*", "2"]
    mnctl("host", "clear-faults", "rafter")
    assert "hosts: 1" in mnctl("capacity", "--host", "rafter")
    assert mnctl.json("capacity", "--zone", "attic")["memory_total"]
    for noun, name in (("host", "rafter"), ("cluster", "beams"), ("zone", "attic"), ("offering", "tiny")):
        mnctl(noun, "delete", name, "--yes")
        mnctl(noun, "show", name, code=3)
    mnctl.assert_said_everything_of("zone", "cluster", "host", "offering")


def test_networks(mnctl: Shell) -> None:
    mnctl(
        "l2-network", "create", "wire", "--zone", "dev", "--physical-interface", "eth0", "--type", "Vlan",
        "--vlan", "7",
    )  # fmt: skip
    mnctl("l2-network", "attach-cluster", "wire", "--cluster", "dev")
    assert "dev" in mnctl("l2-network", "list", "-o", "wide").splitlines()[1]
    mnctl("l2-network", "detach-cluster", "wire", "--cluster", "dev")
    assert mnctl.json("l2-network", "update", "wire", "--all-clusters")["all_clusters"] is True
    mnctl("l3-network", "create", "office", "--zone", "dev", "--l2-network", "wire", "--dns", "192.0.2.1")
    assert mnctl.json("l3-network", "update", "office", "--domain", "a.test")["domain"] == "a.test"
    mnctl("ip-range", "create", "--name", "desk", "--l3-network", "office", "--cidr", "10.9.0.0/29")
    for noun, name in (("l2-network", "wire"), ("l3-network", "office"), ("ip-range", "desk")):
        common_verbs(mnctl, noun, name)
    sharing_verbs(mnctl, "l2-network", "wire")
    sharing_verbs(mnctl, "l3-network", "office")
    assert "total: 5" in mnctl("l3-network", "ip-usage", "office")
    assert "available: true" in mnctl("l3-network", "check-ip", "office", "10.9.0.3")
    mnctl("ip-range", "delete", "desk", "--yes")
    mnctl("l3-network", "delete", "office", "--yes")
    mnctl("l2-network", "delete", "wire", "--yes")
    mnctl.assert_said_everything_of("l2-network", "l3-network", "ip-range")


def test_virtual_machines(mnctl: Shell) -> None:
    plan = mnctl("vm", "launch", "web", "--dry-run")
    assert "on dev-net" in plan and "host-" in plan and "1. reserve" in plan
    assert mnctl("vm", "list", "name=web", "--count") == "0\n"
    assert mnctl("vm", "launch", "web", "--host", "host-1").startswith("web is Running at 10.0.")
    assert mnctl("vm", "list", "name=web").splitlines()[1].split()[-2] == "host-1"
    assert "host-2" in mnctl("vm", "migration-candidates", "web")
    moved = mnctl("vm", "migrate", "web", "--host", "host-2", "--dry-run")
    assert "host-1" in moved and "moves to  host-2" in moved
    assert "host-2" in mnctl("vm", "migrate", "web", "--host", "host-2")
    for verb, state in (
        ("pause", "Paused"),
        ("resume", "Running"),
        ("reboot", "Running"),
        ("stop", "Stopped"),
    ):
        assert mnctl.json("vm", verb, "web")["state"] == state
    mnctl("vm", "create", "db", "--cpu", "1", "--memory", "1GiB", "--user-tag", "blue", "--no-start")
    assert mnctl("vm", "start", "web", "db", "--host", "host-3").count("host-3") == 2
    assert mnctl.json("vm", "change-offering", "web", "--offering", "medium")["cpu"] == 2
    mnctl("vm", "stop", "web", "--force")
    nics = json.loads(mnctl("vm", "attach-nic", "web", "--l3-network", "dev-net", "-o", "json"))["nics"]
    assert len(nics) == 2 and mnctl("nic", "list", "vm.name=web").count("dev-net") == 2
    mnctl("nic", "show", nics[1]["uuid"])
    mnctl("vm", "detach-nic", "web", "--nic", nics[1]["uuid"])
    common_verbs(mnctl, "vm", "web")
    sharing_verbs(mnctl, "vm", "web")
    refused = mnctl("vm", "delete", "web", code=2)
    assert refused == "" and "--yes" in mnctl.err
    mnctl("vm", "delete", "web", "--yes")
    mnctl("vm", "recover", "web")
    mnctl("vm", "delete", "web", "db", "--yes")
    mnctl("vm", "expunge", "web", "db", "--yes")
    mnctl.assert_said_everything_of("vm", "nic")


def test_accounts_users_and_what_they_may(
    mnctl: Shell, node: DevNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnctl("account", "create", "tenant", "--password", "-", stdin="correct horse\n")
    common_verbs(mnctl, "account", "tenant")
    assert mnctl("account", "quota-usage", "tenant").split()[:4] == ["NAME", "USED", "VALUE", "UNIT"]
    assert mnctl.json("quota", "update", "tenant/vm.num", "--value", "1")["value"] == 1
    assert mnctl("quota", "list", "name=vm.num").count("tenant") == 1
    mnctl("quota", "show", "tenant/vm.num")
    monkeypatch.delenv("MGMTNODE_TOKEN")
    mnctl("login", "--account", "tenant", "--password-stdin", stdin="wrong\n", code=4)
    mnctl("login", "--account", "tenant", "--password-stdin", stdin="correct horse\n")
    assert "account: tenant" in mnctl("whoami") and "tenant" in mnctl("session", "list")
    as_tenant(mnctl)
    mnctl("login", "--account", "tenant", "--user", "reader", "--password-stdin", stdin="battery staple\n")
    assert "web" in mnctl("vm", "list") and mnctl("vm", "stop", "web", code=4) == ""
    assert "mnctl policy list" in mnctl.err and mnctl("zone", "create", "mine", code=4) == ""
    mnctl("logout")
    mnctl("vm", "list", code=4)
    assert "mnctl login" in mnctl.err
    mnctl("login", "--account", "tenant", "--password-stdin", stdin="correct horse\n")
    for words in (("api-key", "ci"), ("user", "tenant/reader"), ("policy", "reads")):
        mnctl(words[0], "delete", words[1], "--yes")
    mnctl("account", "change-password", "tenant", "--password", "-", "--current", "-",
          stdin="another horse\ncorrect horse\n")  # fmt: skip
    mnctl("vm", "list", code=4)
    mnctl("logout")
    monkeypatch.setenv("MGMTNODE_TOKEN", node.token)
    mnctl("account", "delete", "tenant", "--yes")
    mnctl.assert_said_everything_of("account", "user", "policy", "api-key", "quota")


def as_tenant(mnctl: Shell) -> None:
    mnctl("vm", "launch", "web")
    mnctl("vm", "launch", "web-2", code=7)
    assert "quota" in mnctl.err
    mnctl("policy", "create", "reads", "--statements", READS)
    mnctl("user", "create", "reader", "--password", "-", stdin="staple battery\n")
    mnctl("user", "attach-policy", "reader", "--policy", "reads")
    assert "reads" in mnctl("user", "list")
    mnctl("user", "detach-policy", "reader", "--policy", "reads")
    mnctl("user", "attach-policy", "reader", "--policy", "reads")
    mnctl("user", "change-password", "reader", "--password", "-", stdin="battery staple\n")
    common_verbs(mnctl, "user", "reader")
    common_verbs(mnctl, "policy", "reads")
    made = mnctl("api-key", "create", "ci", "--user", "reader")
    assert "token: " in made and "not shown again" in mnctl.err
    assert "reader" in mnctl("api-key", "list") and "ci" in mnctl("api-key", "show", "ci")


def test_configs_and_tags(mnctl: Shell) -> None:
    names = [line.split()[0] for line in mnctl("config", "list").splitlines()[1:]]
    assert names == sorted(names) and "vm.migration_quantity" in names
    mnctl("config", "set", "vm.migration_quantity", "3", "--on", "host", "host-1")
    shown = [line.split() for line in mnctl("config", "list", "--on", "host", "host-1").splitlines()]
    assert ["vm.migration_quantity", "3", "-", "host"] in shown
    assert "global" in mnctl("config", "reset", "vm.migration_quantity", "--on", "host", "host-1")
    mnctl("config", "set", "vm.migration_quantity", "4")
    assert yaml.safe_load(mnctl("config", "show", "vm.migration_quantity"))["value"] == "4"
    mnctl("config", "reset", "vm.migration_quantity")
    mnctl("config", "set", "vm.migration_quantity", "many", code=2)
    mnctl("tag", "create", "zone", "dev", "blue")
    (tag,) = json.loads(mnctl("tag", "list", "--on", "zone", "dev", "-o", "json"))
    assert tag["text"] == "blue" and "dev" in mnctl("tag", "list", "kind=user")
    assert "blue" in mnctl("tag", "show", tag["uuid"])
    assert "dev" in mnctl("query", "zone", "user_tag=blue")
    mnctl("tag", "delete", tag["uuid"], "--yes")
    assert mnctl("tag", "list", "--on", "zone", "dev", "--count") == "0\n"


def test_queries_follow_references_and_wrong_ones_say_what_was_meant(mnctl: Shell) -> None:
    mnctl("vm", "launch", "seek")
    found = json.loads(mnctl("query", "vm", "host.cluster.zone.name=dev", "name=seek", "-o", "json"))
    assert [vm["name"] for vm in found] == ["seek"]
    assert mnctl("query", "host", "vms.name=seek", "--count") == "1\n"
    assert [vm["name"] for vm in yaml.safe_load(mnctl("vm", "list", "name=seek", "-o", "yaml"))] == ["seek"]
    assert "dev" in mnctl("vm", "list", "name=seek", "-o", "wide").split()
    mnctl("query", "vm", "hots.name=x", code=2)
    assert "did you mean host?" in mnctl.err
    mnctl("query", "vm", "state=Runing", code=2)
    mnctl("query", "volumes-of-nobody", code=3)
    assert "mnctl --help" in mnctl.err
    mnctl("vm", "delete", "seek", "--yes")
    mnctl("vm", "expunge", "seek", "--yes")


def test_each_exit_code_has_its_cause(mnctl: Shell, node: DevNode, monkeypatch: pytest.MonkeyPatch) -> None:
    mnctl("vm", "create", "bad", "--cpu", "0", code=2)
    mnctl("vm", "show", "nobody", code=3)
    mnctl("vm", "list", "--token", "wrong", code=4)
    mnctl("account", "create", "admin", "--password", "long enough", code=5)
    mnctl("vm", "create", "huge", "--cpu", "4000", "--memory", "1GiB", code=7)
    assert "4 hosts → 0" in mnctl.err and "mnctl capacity" in mnctl.err
    mnctl("host", "simulate-fault", "host-4", "--kind", "fail", "--action", "start", "--times", "1")
    mnctl("vm", "create", "unlucky", "--cpu", "1", "--memory", "1GiB", "--host", "host-4", code=1)
    assert "as it was told to" in mnctl.err and "mnctl job show" in mnctl.err
    mnctl("host", "simulate-fault", "host-4", "--kind", "slow", "--delay-ms", "1500", "--times", "1")
    slow = ("vm", "create", "slow", "--cpu", "1", "--memory", "1GiB", "--host", "host-4")
    mnctl(*slow, "--timeout", "0.1", code=6)
    job = mnctl.err.split()[-1]
    mnctl("job", "watch", job)
    assert "vm.create" in mnctl("job", "list", f"uuid={job}") and "Succeeded" in mnctl("job", "show", job)
    mnctl("job", "cancel", job)
    assert "had ended before" in mnctl.err
    mnctl("vm", "delete", "slow", "--yes")
    monkeypatch.setattr("mgmtnode.client.mnctl.app.FIRST_CONTACT", 0.2)
    mnctl("vm", "list", "--url", "http://127.0.0.1:1", code=8)


def test_a_zone_that_cannot_be_deleted_tells_what_is_in_the_way(mnctl: Shell) -> None:
    mnctl("zone", "create", "east")
    mnctl("cluster", "create", "east-1", "--zone", "east", "--hypervisor", "simulator")
    mnctl(
        "host", "create", "east-host", "--cluster", "east-1", "--management-ip", "192.0.2.99", "--cpu", "4",
        "--memory", "8GiB",
    )  # fmt: skip
    mnctl("vm", "create", "stuck", "--cpu", "1", "--memory", "1GiB", "--zone", "east")
    mnctl("host", "simulate-fault", "east-host", "--kind", "fail")
    mnctl("zone", "delete", "east", "--yes", code=5)
    lines = mnctl.err.splitlines()
    (line,) = [line for line in lines if "vm.delete stuck:" in line]
    assert "as it was told to" in line and "--force" in lines[-1]
    job = lines[-1].split()[-1]
    shown = mnctl("job", "show", job)
    assert "vm.delete" in shown and "stuck" in shown
    assert json.loads(mnctl("job", "show", job, "-o", "json"))["children"]
    mnctl("host", "clear-faults", "east-host")
    mnctl("zone", "delete", "east", "--yes")
    mnctl("vm", "show", "stuck", code=3)
