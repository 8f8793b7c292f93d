"""Two adjacent releases side by side, as in an upgrade node by node: real nodes, one with the press service's first
release, one with its second. Once a release is tagged, the tree of the tag is the older one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mgmtnode.testing.local_cluster import LocalCluster
from mgmtnode.testing.local_cluster.operator import ensure_token
from mgmtnode.testing.process import ServerMissing

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PRESS = Path(__file__).parent / "press"
SHEETS = 12  # made by both nodes in turn, so that each owns half of them
PATIENCE = 60.0
OLD, NEW = "node-1", "node-2"


def install(release: int, directory: Path) -> Path:
    """A directory for PYTHONPATH with one release of the press, as pip would leave it."""
    shutil.copytree(PRESS, directory / "press", ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "press" / "release.py").write_text(f"RELEASE = {release}\n")
    if release < 2:
        (directory / "press" / "migrations" / "versions" / "0002_colours.py").unlink()
    about = directory / f"press-{release}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: press\nVersion: {release}\n")
    (about / "entry_points.txt").write_text("[mgmtnode.services]\npress = press.manifest:manifest\n")
    return directory


class Upgrade:
    """A cluster whose nodes are upgraded one by one."""

    def __init__(self, cluster: LocalCluster, releases: dict[int, Path], gate: Path) -> None:
        self.cluster, self._releases, self._gate = cluster, releases, gate
        self.sheets: list[str] = []

    def start(self, name: str, release: int) -> None:
        node = self.cluster.nodes[name]
        node.environment["PYTHONPATH"] = str(self._releases[release])
        node.start()
        node.wait_ready()

    def open(self) -> None:
        self._gate.touch()

    def close(self) -> None:
        self._gate.unlink()

    def ask(self, node: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        with self.cluster.http(node) as http:
            response = http.request(method, path, json=body, headers=headers)
            assert response.status_code < 300, (node, path, response.text)
            return response.json()

    def make(self, node: str, number: int, **more: str) -> str:
        """The uuid of the job."""
        body = {"name": f"sheet-{number}"} | more
        answer = self.ask(node, "POST", "/sheets", body, **{"Idempotency-Key": f"make-{number}"})
        return str(answer["uuid"])

    def act(self, node: str, sheet: str, verb: str, **fields: str) -> str:
        return str(self.ask(node, "POST", f"/sheets/{sheet}/actions/{verb}", fields)["uuid"])

    def job(self, uuid: str, node: str = OLD) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(node, "GET", f"/jobs/{uuid}")
        return found

    def ended(self, jobs: list[str], node: str) -> list[dict[str, Any]]:
        self.until(lambda: all(self.job(uuid, node)["ended_at"] for uuid in jobs), f"{jobs} have not ended")
        return [self.job(uuid, node) for uuid in jobs]

    def until(self, happened: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < until, otherwise
            time.sleep(0.1)

    def owns(self, node: str) -> int:
        listed = self.ask(OLD if self.cluster.nodes[OLD].running else NEW, "GET", "/management-nodes")[
            "items"
        ]
        return next((each["slots"] for each in listed if each["name"] == node), 0)


@pytest.fixture
def upgrade(tmp_path: Path) -> Iterator[Upgrade]:
    releases = {number: install(number, tmp_path / f"release-{number}") for number in (1, 2)}
    gate = tmp_path / "open"
    variables = {"PRESS_OPEN": str(gate), "PYTHONPATH": str(releases[1])}
    cluster = LocalCluster(tmp_path / "cluster", 2, variables=variables)
    try:
        cluster.start()
        ensure_token(cluster)
        yield Upgrade(cluster, releases, gate)
    except ServerMissing as missing:
        from mgmtnode.testing.plugin import servers_are_required

        (pytest.fail if servers_are_required() else pytest.skip)(str(missing))
    finally:
        cluster.stop(at_once=True)
        cluster.directory.remove_servers()


def test_an_upgrade_node_by_node_loses_no_job_and_asks_no_node_for_what_it_does_not_know(
    upgrade: Upgrade,
) -> None:
    cluster = upgrade.cluster
    upgrade.open()
    first = upgrade.ended([upgrade.make((OLD, NEW)[n % 2], n) for n in range(SHEETS)], OLD)
    sheets = [job["resource_uuid"] for job in first]
    upgrade.close()
    begun = [upgrade.make((OLD, NEW)[n % 2], n) for n in range(100, 100 + SHEETS)]  # under the first release
    upgrade.until(lambda: all(upgrade.job(uuid)["state"] == "Running" for uuid in begun), "not begun")

    # One node is upgraded: the schema grows under the other, and jobs of the first release come to the second.
    assert cluster.nodes[NEW].terminate() == 0
    upgrade.start(NEW, 2)
    upgrade.until(lambda: upgrade.owns(NEW) > 400 and upgrade.owns(OLD) > 400, "the slots are not shared")
    plain = [upgrade.make(NEW, n) for n in range(200, 200 + SHEETS)]
    coloured = [upgrade.make(NEW, n, colour="red") for n in range(300, 300 + SHEETS)]
    assert [upgrade.make(OLD, n) for n in range(100, 103)] == begun[:3]  # a key holds across releases
    assert [upgrade.make(NEW, n) for n in range(103, 106)] == begun[3:6]
    assert [upgrade.make(OLD, n) for n in range(200, 203)] == plain[:3]
    turned = [upgrade.act(node, sheet, "turn") for sheet in sheets for node in (OLD, NEW)]
    upgrade.ended(turned, OLD)
    folded = [upgrade.act(NEW, sheet, "fold") for sheet in sheets]
    tinted = [upgrade.act(NEW, sheet, "turn", colour="blue") for sheet in sheets]
    for node, grams in (
        (OLD, {None}),
        (NEW, {80, -1}),
    ):  # what the other release says, and what it leaves out
        answers = [upgrade.ask(node, "GET", f"/sheets/{sheet}/thickness") for sheet in sheets]
        assert {answer["node"] for answer in answers} == {OLD, NEW}
        assert {answer.get("grams") for answer in answers} == grams

    # It dies: what only the second release knows is left to it, and shown all the same.
    cluster.nodes[NEW].kill()
    upgrade.until(lambda: upgrade.owns(OLD) == 1024, "the slots were not taken over")
    upgrade.open()
    assert {job["state"] for job in upgrade.ended(begun, OLD)} == {"Succeeded"}
    waiting = [upgrade.job(uuid)["state"] for uuid in [*coloured, *folded, *tinted]]
    assert waiting.count("Failed") == 0 and waiting.count("Cancelled") == 0, waiting
    assert upgrade.ask(OLD, "GET", "/jobs?limit=1000")["items"]

    # The upgrade is finished: all jobs end, once.
    upgrade.start(NEW, 2)
    assert cluster.nodes[OLD].terminate() == 0
    upgrade.start(OLD, 2)
    ended = upgrade.ended([*plain, *coloured, *folded, *tinted, *turned], NEW)
    assert {job["state"] for job in ended} == {"Succeeded"}
    made = {sheet["uuid"]: sheet for sheet in upgrade.ask(NEW, "GET", "/sheets?limit=1000")["items"]}
    assert {made[sheet]["layers"].count("turned") for sheet in sheets} == {3}
    assert {made[sheet]["layers"].count("folded by 2") for sheet in sheets} == {1}
    assert {made[job["resource_uuid"]]["colour"] for job in ended[SHEETS : 2 * SHEETS]} == {"red"}
    for uuids, painted in ((begun, 0), (plain, None), (coloured, 1)):
        layers = [made[upgrade.job(uuid)["resource_uuid"]]["layers"] for uuid in uuids]
        assert {each.count("dried") for each in layers} == {1}, layers
        assert painted is None or {each.count("painted") for each in layers} == {painted}, layers


def test_a_node_of_the_release_before_is_refused_where_the_schema_is_newer(upgrade: Upgrade) -> None:
    cluster = upgrade.cluster
    assert cluster.nodes[NEW].terminate() == 0
    upgrade.start(NEW, 2)
    assert cluster.nodes[OLD].terminate() == 0
    cluster.nodes[OLD].start()
    assert cluster.nodes[OLD].wait() == 78
    assert "newer than this release: it has revision press_0002" in cluster.nodes[OLD].log_file.read_text()
    upgrade.start(OLD, 2)
