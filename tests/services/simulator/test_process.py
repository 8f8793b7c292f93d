"""The simulator as a process of its own: shared by nodes, killed, stopped, and what it writes down."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mgmtnode.contracts.hypervisor import VmAction, VmPower
from services.simulator.driver import Patience
from services.simulator.reach import Reach
from tests.services.simulator.process import SimulatorProcess
from tests.services.simulator.rack import failed, refused, uuid, vm
from tests.services.simulator.remote import RemoteRack, tell

RUNNING = VmPower.RUNNING


def test_two_clients_see_the_same_hosts_and_their_migrations(tmp_path: Path) -> None:
    async def story(rack: RemoteRack) -> None:
        other = RemoteRack(rack.process)
        a, b, v = await rack.host("10.0.0.1"), await other.host("10.0.0.2"), vm(1)
        await rack.do(a, VmAction.START, v)
        assert await other.powers(a) == {v.uuid: RUNNING}
        await other.do(b, VmAction.PREPARE_MIGRATION, v)
        other.run_no = rack.run_no
        await other.do(a, VmAction.MIGRATE, v, peer=b)
        assert (await rack.powers(a), await rack.powers(b)) == ({}, {v.uuid: RUNNING})
        await other.close()

    tell(story, tmp_path)


def test_who_owns_the_vm_now_fences_the_other_client_off(tmp_path: Path) -> None:
    async def story(rack: RemoteRack) -> None:
        other = RemoteRack(rack.process)
        host = await rack.host("10.0.0.1")
        await rack.do(host, VmAction.START, vm(1), fence=4)
        assert (await other.driver.seal(host, uuid(1), 5)).order == (1, 1, 1)
        assert (await refused(rack.do(host, VmAction.STOP, vm(1), fence=4))).code == "agent.stale"
        other.run_no = rack.run_no
        await other.do(host, VmAction.PAUSE, vm(1), fence=5)
        assert await rack.powers(host) == {uuid(1): VmPower.PAUSED}
        await other.close()

    process = tell(story, tmp_path)
    told = [(line["outcome"], line["fence"], line["action"]) for line in process.history()]
    assert told == [
        ("booted", 0, ""),
        ("started", 4, "start"),
        ("done", 4, "start"),
        ("sealed", 5, "start"),
        ("stale", 4, "stop"),
        ("started", 5, "pause"),
        ("done", 5, "pause"),
    ]


def test_hosts_outlive_the_kill_of_their_process_in_mid_command(tmp_path: Path) -> None:
    async def story(rack: RemoteRack) -> None:
        host = await rack.host("10.0.0.1", cpu=7)
        await rack.do(host, VmAction.START, vm(1))
        await rack.fault(host, kind="hang", action="start")
        starting = asyncio.create_task(rack.do(host, VmAction.START, vm(2)))
        await _until(lambda: any(line["resource"] == uuid(2) for line in rack.process.history()))
        await rack.restart()
        await starting  # sent again, by itself
        assert await rack.powers(host) == {uuid(1): RUNNING, uuid(2): RUNNING}
        assert (await rack.driver.seal(host, uuid(2), 2)).state == "DONE"

    process = tell(story, tmp_path)
    told = [line["outcome"] for line in process.history() if line["resource"] in ("", uuid(2))]
    assert told == ["booted", "started", "booted", "started", "done", "sealed"]


def test_faults_work_through_it(tmp_path: Path) -> None:
    async def story(rack: RemoteRack) -> None:
        host = await rack.host("10.0.0.1")
        await rack.fault(host, kind="fail", action="start", times=1)
        assert await failed(rack.do(host, VmAction.START, vm(1))) == "simulator.fault"
        await rack.fault(host, kind="lose-reply", action="start", times=2)
        await rack.do(host, VmAction.START, vm(1))
        await rack.fault(host, kind="disconnect")
        assert (await refused(rack.report(host))).code == "agent.unreachable"
        await rack.clear(host)
        assert await rack.powers(host) == {uuid(1): RUNNING}

    process = tell(story, tmp_path)
    outcomes = [line["outcome"] for line in process.history()]
    assert outcomes == ["booted", "started", "failed", "started", "done"]


def test_older_orders_are_refused_and_written_down(tmp_path: Path) -> None:
    async def story(rack: RemoteRack) -> None:
        host = await rack.host("10.0.0.1")
        await rack.do(host, VmAction.START, vm(1), run_no=5)
        assert (await refused(rack.do(host, VmAction.STOP, vm(1), run_no=4))).code == "agent.old"

    process = tell(story, tmp_path)
    line = process.history()[-1]
    assert (line["outcome"], line["order"], line["host"]) == ("old", [4, 1, 1], "10.0.0.1")
    assert line["monotonic"] > process.history()[0]["monotonic"]
    assert line["time"].endswith("+00:00")


def test_the_time_of_a_command_is_the_clients_wish_unless_the_process_was_told(tmp_path: Path) -> None:
    async def slow(rack: RemoteRack) -> None:
        host = await rack.host("10.0.0.1")
        rack.delay_ms, rack.patience = 3_600_000, Patience(answer=5, command=0.5)
        assert (await refused(rack.do(host, VmAction.START, vm(1)))).code == "agent.timeout"

    async def quick(rack: RemoteRack) -> None:
        host = await rack.host("10.0.0.1")
        rack.delay_ms = 3_600_000
        await rack.do(host, VmAction.START, vm(1))

    tell(slow, tmp_path / "as-asked")
    tell(quick, tmp_path / "as-told", "--delay-ms", "0")


def test_it_stops_in_good_order_though_a_command_runs(tmp_path: Path) -> None:
    async def story(rack: RemoteRack) -> None:
        host = await rack.host("10.0.0.1")
        await rack.fault(host, kind="hang", action="*")
        rack.patience = Patience(answer=20, command=20)
        running = [
            asyncio.create_task(rack.do(host, VmAction.START, vm(1))),
            asyncio.create_task(rack.report(host)),
        ]
        await _until(lambda: any(line["outcome"] == "started" for line in rack.process.history()))
        code, complaints = await asyncio.to_thread(rack.process.stop)
        assert (code, complaints) == (0, "")
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    tell(story, tmp_path)


def test_a_host_has_an_address_and_a_question_is_known(tmp_path: Path) -> None:
    async def story(rack: RemoteRack) -> None:
        for path, code in (
            ("/agents/a%20b", "core.not-found"),
            ("/agents/a%2Fb", "core.not-found"),
            ("/agent/a", "core.not-found"),
            ("/agents/a", "agent.unknown"),
        ):
            asked = rack.agents.ask(f"{rack.process.url}{path}", "colour", {}, timeout=5)
            assert (await refused(asked)).code == code

    tell(story, tmp_path)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.simulator", *arguments], capture_output=True, text=True, timeout=60
    )


def test_what_it_cannot_start_with_is_one_line_of_complaint(tmp_path: Path) -> None:
    with SimulatorProcess(tmp_path / "a") as process:
        for arguments, words in (
            (("--data-dir", str(process.directory)), "is another process using it?"),
            (("--data-dir", str(tmp_path / "b"), "--port", str(process.port)), "Address already in use"),
            (("--data-dir", "/proc/no"), "/proc/no"),
            (("--data-dir", str(tmp_path / "c"), "--certificate", "x", "--key", "y"), "No such file"),
        ):
            done = _run(*arguments)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
            assert words in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--port", "x"), ("--delay-ms", "-1"), ("--certificate", "x")])
def test_a_wrong_command_line_is_explained(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    directory = ("--data-dir", str(tmp_path)) if arguments else ()
    done = _run(*directory, *arguments)
    assert (done.returncode, "usage:" in done.stderr) == (2, True)


def test_help_names_what_can_be_said() -> None:
    done = _run("--help")
    assert done.returncode == 0
    for option in ("--data-dir", "--port", "--delay-ms", "--history", "--client-ca"):
        assert option in done.stdout


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:1", "http://h:1/agents/10.0.0.1"),
        ("http://h:1/", "http://h:1/agents/10.0.0.1"),
        ("", "sim://10.0.0.1"),
    ],
)
def test_an_address_leads_to_the_shared_hosts_if_there_are_any(url: str, expected: str) -> None:
    assert Reach(url, alone=True).endpoint("10.0.0.1") == expected


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)
