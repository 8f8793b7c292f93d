"""mnctl as a process: how fast it starts, Ctrl-C, completion, pipes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .fakenode import TOKEN, FakeNode

ROOT = Path(__file__).parents[2]
START = "from mgmtnode.client.mnctl.main import main; main()"
HEAVY = {"httpx", "sqlalchemy", "starlette", "kombu", "asyncio", "ssl"}


def environment(home: Path, node: FakeNode | None = None, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MGMTNODE_")}
    server = {"MGMTNODE_URL": node.url, "MGMTNODE_TOKEN": TOKEN} if node else {}
    return {**inherited, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(home), **server, **more}


def run(
    home: Path, *words: str, node: FakeNode | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START, *words], capture_output=True, text=True, timeout=30, cwd=home,
        env=environment(home, node, **more),
    )  # fmt: skip


@pytest.mark.parametrize(
    "words", [("--help",), ("vm", "--help"), ("vm", "create", "--help"), ("event", "--help")]
)
def test_help_loads_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    code = f"import sys, atexit; atexit.register(lambda: print({HEAVY} & sys.modules.keys())); {START}"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(tmp_path),
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "set()", done.stderr


def test_importing_the_sdk_is_cheap(tmp_path: Path) -> None:
    code = "import sys; from mgmtnode.client import Client; Client(); print('httpx' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env=environment(tmp_path)
    )
    assert done.stdout == "False\n", done.stderr


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Reads stderr until ``text`` came."""
    assert process.stderr is not None
    seen, deadline = "", time.monotonic() + 20
    while text not in seen and time.monotonic() < deadline:
        if select.select([process.stderr], [], [], 0.2)[0]:
            seen += os.read(process.stderr.fileno(), 4096).decode()
    assert text in seen
    return seen


@pytest.mark.parametrize("words", [("zone", "create", "west"), ("vm", "launch", "west")])
def test_ctrl_c_detaches_and_the_job_goes_on(tmp_path: Path, node: FakeNode, words: tuple[str, ...]) -> None:
    node.held = True
    with subprocess.Popen(
        [sys.executable, "-c", START, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=tmp_path, env=environment(tmp_path, node),
    ) as process:  # fmt: skip
        wait_for_line(process, "Running")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    (job,) = node.jobs
    assert process.returncode == 6 and f"mnctl job watch {job}" in err and "Traceback" not in err
    assert node.jobs[job]["state"] == "Running" and not any("cancel" in seen.path for seen in node.seen)
    node.release()
    assert run(tmp_path, "job", "watch", job, node=node).returncode == 0


def test_ctrl_c_ends_a_watch_of_events_with_a_way_back(tmp_path: Path, node: FakeNode) -> None:
    node.emit("vm.started", {"body": {"vm_name": "web"}})
    with subprocess.Popen(
        [sys.executable, "-c", START, "event", "watch"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment(tmp_path, node),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "vm.started  web\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0 and "mnctl event watch --since 1" in err and "Traceback" not in err


def complete(home: Path, node: FakeNode | None, words: str) -> list[str]:
    count = len(words.split()) - (not words.endswith(" "))
    done = run(home, node=node, _MNCTL_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(count))
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_completion_knows_commands_and_live_names(tmp_path: Path, node: FakeNode) -> None:
    for name in ("web-1", "web-2", "db-1"):
        node.add("vms", name=name)
    node.add("zones", name="west")
    assert complete(tmp_path, node, "mnctl zo") == ["zone"]
    assert complete(tmp_path, node, "mnctl vm sto") == ["stop"]
    assert complete(tmp_path, node, "mnctl vm stop web") == ["web-1", "web-2"]
    assert complete(tmp_path, node, "mnctl cluster create c1 --zone w") == ["west"]


def test_completion_is_silent_when_nobody_answers(tmp_path: Path) -> None:
    start = time.monotonic()
    assert complete(tmp_path, None, "mnctl --url http://127.0.0.1:1 vm stop web") == []
    assert time.monotonic() - start < 15  # a command waits for 30 seconds


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(tmp_path: Path, shell: str) -> None:
    done = run(tmp_path, "completion", shell)
    assert done.returncode == 0 and f"_MNCTL_COMPLETE={shell}_complete" in done.stdout


def test_a_closed_pipe_is_no_error_message(tmp_path: Path, node: FakeNode) -> None:
    for i in range(2000):
        node.add("vms", name=f"a-rather-long-name-{i}")
    command = f"{sys.executable} -c '{START}' vm list | head -1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=30, cwd=tmp_path,
        env=environment(tmp_path, node),
    )  # fmt: skip
    assert done.stdout.startswith("NAME") and done.stderr == ""
