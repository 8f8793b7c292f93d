"""The files in ``deploy/``: each is accepted by the program it is for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mgmtnode.cli.main import invoke
from mgmtnode.testing.local_cluster.balancer import HAPROXY, find_haproxy

DEPLOY = Path(__file__).parents[2] / "deploy"
CONFIGURATION, UNIT, BALANCER = "mgmtnode.toml", "systemd/mgmtnode.service", "haproxy/haproxy.cfg"
NEEDED = bool(os.environ.get("CI"))


def program(path: str | None, package: str) -> str:
    if path is None:
        (pytest.fail if NEEDED else pytest.skip)(f"apt-get install {package}")
    return path


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """The example, with the secrets' files that it names."""
    text = (DEPLOY / CONFIGURATION).read_text()
    secrets = {
        "database-url": "postgresql+psycopg2://mgmtnode:x@db.example.net/mgmtnode",
        "bus-url": "amqps://mgmtnode:x@mq.example.net:5671/mgmtnode",
        "admin-password": "correct horse battery",
    }
    for name, secret in secrets.items():
        assert f"/etc/mgmtnode/{name}" in text
        (tmp_path / name).write_text(secret + "\n")
    file = tmp_path / "mgmtnode.toml"
    file.write_text(text.replace("/etc/mgmtnode/", f"{tmp_path}/"))
    return file


def number(text: str, setting: str) -> float:
    found = re.search(rf"^{setting} ?= ?([0-9.]+)$", text, re.MULTILINE)
    assert found, setting
    return float(found[1])


def test_the_example_configuration_is_right(configuration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke(["config", "check", "--config", str(configuration)])
    assert (code, capsys.readouterr().err) == (0, "")


def test_a_node_is_given_the_time_to_drain_before_systemd_kills_it() -> None:
    settings = (DEPLOY / CONFIGURATION).read_text()
    drains = number(settings, "ready_grace_seconds") + number(settings, "drain_seconds")
    assert drains + 15 <= number((DEPLOY / UNIT).read_text(), "TimeoutStopSec")


def test_a_node_says_for_long_enough_that_it_is_going() -> None:
    checks = re.search(r"inter (\d+)ms fall (\d+)", (DEPLOY / BALANCER).read_text())
    assert checks
    unseen = int(checks[1]) / 1000 * (int(checks[2]) + 1)
    assert number((DEPLOY / CONFIGURATION).read_text(), "ready_grace_seconds") >= 2 * unseen


def test_systemd_takes_the_unit_without_a_word(tmp_path: Path) -> None:
    verify = program(shutil.which("systemd-analyze"), "systemd")
    unit = tmp_path / "mgmtnode.service"
    text = (DEPLOY / UNIT).read_text()
    unit.write_text(text.replace("/opt/mgmtnode/bin/mgmtnode", sys.executable))
    done = subprocess.run(
        [verify, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_does_not_restart_what_a_restart_cannot_mend() -> None:
    from mgmtnode.cli.failure import CONFIGURATION as BAD

    assert f"RestartPreventExitStatus={BAD}\n" in (DEPLOY / UNIT).read_text()


def test_haproxy_takes_its_configuration(tmp_path: Path) -> None:
    haproxy = program(find_haproxy(), "haproxy")
    file = tmp_path / "haproxy.cfg"
    # The accounts are made by HAProxy's package; the program is enough for the test.
    file.write_text(re.sub(r"^ +(user|group) haproxy\n", "", (DEPLOY / BALANCER).read_text(), flags=re.M))
    done = subprocess.run(
        [haproxy, "-c", "-f", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def directives(text: str) -> set[str]:
    lines = (" ".join(line.split()) for line in text.splitlines())
    return {line for line in lines if line and not line.startswith(("#", "bind", "server "))}


def test_what_is_deployed_is_what_local_clusters_try_out_every_day() -> None:
    deployed = directives((DEPLOY / BALANCER).read_text())
    more = {"user haproxy", "group haproxy"} | {line for line in deployed if line.startswith("http-request")}
    assert "use_backend anyway if { nbsrv(nodes) eq 0 }" in deployed
    assert deployed - more == directives(HAPROXY.format(host="", port="", servers=""))
