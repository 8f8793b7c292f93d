"""A service in a distribution of its own: installed beside a node that knows nothing of it, then taken away again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.dev_node import DevNode

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "greeting"
PIP = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-index")
SECONDS = 120.0


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that pip installed the distribution into, from a copy: a build leaves files behind."""
    directory = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "greeting")
    command = [sys.executable, "-m", "pip", *PIP, "--target", str(directory), str(source)]
    subprocess.run(command, check=True, timeout=SECONDS)
    return directory


@contextmanager
def beside(installed: Path) -> Iterator[None]:
    """Processes that are started inside find the distribution, too."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        paths = [str(installed), *(path for path in sys.path if path)]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield


@pytest.fixture(scope="module")
def node(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevNode]:
    node = DevNode(tmp_path_factory.mktemp("node") / "data", hosts=0)
    with beside(installed):
        node.start()
    yield node
    node.kill()


def call(http: httpx.Client, method: str, path: str, body: Any = None, **query: Any) -> Any:
    answer = http.request(method, path, json=body, params=query, headers={"prefer": "wait=30"})
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def run(*words: str) -> str:
    """What a command line of the product says."""
    done = subprocess.run(
        [sys.executable, "-m", *words], check=True, capture_output=True, text=True, timeout=SECONDS
    )
    return done.stdout


def zone_of(http: httpx.Client) -> str:
    return str(call(http, "POST", "/zones", {"name": "west"})["uuid"])


def test_its_api_answers_and_its_table_is_joined_with_those_of_others(node: DevNode) -> None:
    with node.http() as http:
        zone = zone_of(http)
        made = call(http, "POST", "/greetings", {"name": "Ada", "zone_uuid": zone, "user_tags": ["kind"]})
        assert (made["text"], made["zone_uuid"]) == ("Hello, Ada!", zone)
        for condition in (f"zone.uuid={zone}", "user_tag=kind", "user_tag~=KIN%"):
            assert call(http, "GET", "/greetings", q=condition)["items"] == [made]
        assert [z["uuid"] for z in call(http, "GET", "/zones", q="greetings.user_tag=kind")["items"]] == [
            zone
        ]
        assert "/v1/greetings" in httpx.get(f"{node.url}/openapi.json").json()["paths"]


def test_its_errors_have_its_codes(node: DevNode) -> None:
    with node.http() as http:
        refused = http.post("/greetings", json={"name": "ADA", "zone_uuid": zone_of(http)})
        assert (refused.status_code, refused.json()["code"]) == (400, "greeting.not-polite")


def test_its_setting_is_listed_and_can_be_overridden_on_a_zone(node: DevNode) -> None:
    with node.http() as http:
        found = call(http, "GET", "/global-configs", q="name=greeting.word")["items"]
        assert [(config["value"], config["overridable"]) for config in found] == [("Hello", ["zone"])]
        zone = zone_of(http)
        override = {"name": "greeting.word", "value": "Ahoy"}
        call(http, "POST", f"/resources/{zone}/configs", override)
        made = call(http, "POST", "/greetings", {"name": "Ada", "zone_uuid": zone})
        assert made["text"] == "Ahoy, Ada!"


def test_a_zone_that_goes_takes_its_greetings_along(node: DevNode) -> None:
    with node.http() as http:
        zone = zone_of(http)
        made = call(http, "POST", "/greetings", {"name": "Ada", "zone_uuid": zone})
        call(http, "DELETE", f"/zones/{zone}")
        assert call(http, "GET", "/greetings", q=f"uuid={made['uuid']}")["items"] == []
        jobs = call(http, "GET", "/jobs", q=f"resource_uuid={made['uuid']}")["items"]
        assert sorted(job["api"] for job in jobs) == ["greeting.create", "greeting.delete"]


def test_the_command_lines_know_it(node: DevNode, installed: Path) -> None:
    with beside(installed):
        described = json.loads(run("mgmtnode.cli", "services", "--json"))
    assert "greeting" in [service["id"] for service in described]
    with node.http() as http:
        call(http, "POST", "/greetings", {"name": "Ada", "zone_uuid": zone_of(http)})
    assert "Ada" in node.mnctl("query", "greetings")


def test_a_node_goes_on_without_it_once_it_is_uninstalled(installed: Path, tmp_path: Path) -> None:
    node = DevNode(tmp_path / "data", hosts=0)
    with beside(installed):
        node.start()
    with node.http() as http:
        call(http, "POST", "/greetings", {"name": "Ada", "zone_uuid": zone_of(http)})
    node.stop()
    node.start()
    try:
        with node.http() as http:
            assert http.get("/greetings").status_code == 404
            assert "west" in [zone["name"] for zone in call(http, "GET", "/zones")["items"]]
    finally:
        node.stop()
