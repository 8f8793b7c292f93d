"""``mnctl`` as a process in a terminal, against a real node that is slow, or dies and comes back."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.dev_node import DevNode

pytestmark = pytest.mark.slow
COMMAND = (sys.executable, "-m", "mgmtnode.client.mnctl")
DEADLINE = 40.0


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DevNode]:
    made = DevNode(tmp_path / "data", hosts=1)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


def environment(node: DevNode, **more: str) -> dict[str, str]:
    words = {"MGMTNODE_URL": node.url, "MGMTNODE_TOKEN": node.token, "TERM": "xterm"}
    return {**os.environ, **words, **more}


def take_terminal() -> None:
    """The child's standard input becomes its controlling terminal, whose Ctrl-C it gets."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, node: DevNode, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *words], stdin=slave, stdout=slave, stderr=slave, env=environment(node),
            start_new_session=True, preexec_fn=take_terminal,
        )  # fmt: skip
        os.close(slave)
        self.screen = ""

    def until(self, text: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while text not in self.screen and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.screen += os.read(self.master, 4096).decode()
                except OSError:
                    break  # the other side is closed
        assert text in self.screen, self.screen

    def interrupt(self) -> None:
        os.write(self.master, b"\x03")

    def end(self) -> int:
        code = self.process.wait(DEADLINE)
        os.close(self.master)
        return code


def test_ctrl_c_detaches_from_a_job_that_goes_on(node: DevNode) -> None:
    node.mnctl("host", "simulate-fault", "host-1", "--kind", "slow", "--delay-ms", "4000", "--times", "1")
    terminal = Terminal(node, "vm", "launch", "web")
    terminal.until("● start on the host")
    assert "✓ reserve" in terminal.screen
    terminal.interrupt()
    terminal.until("mnctl job cancel")
    assert terminal.end() == 6 and "Traceback" not in terminal.screen
    job = terminal.screen.split("mnctl job watch ")[1].split()[0]
    watching = Terminal(node, "job", "watch", job)
    watching.until("succeeded")
    assert watching.end() == 0
    assert json.loads(node.mnctl("vm", "show", "web", "-o", "json"))["state"] == "Running"


def test_a_watch_of_events_outlives_the_node(node: DevNode) -> None:
    terminal = Terminal(node, "event", "watch", "--type", "zone.created")
    deadline = time.monotonic() + DEADLINE  # the first one is seen as soon as the stream stands
    number = 0
    while "warm-" not in terminal.screen and time.monotonic() < deadline:
        node.mnctl("zone", "create", f"warm-{number}")
        number += 1
        if select.select([terminal.master], [], [], 1.0)[0]:
            terminal.screen += os.read(terminal.master, 4096).decode()
    node.kill()
    node.start()
    node.mnctl("zone", "create", "after")
    terminal.until("after")
    terminal.interrupt()
    terminal.until("--since ")
    assert terminal.end() == 0
    since = terminal.screen.split("--since ")[1].split()[0]
    node.mnctl("zone", "create", "later")
    assert "later" in node.mnctl("event", "watch", "--since", since, "--type", "zone.*", "--limit", "1")


def test_completion_offers_names_that_exist(node: DevNode) -> None:
    def complete(words: str) -> list[str]:
        count = str(len(words.split()) - (not words.endswith(" ")))
        asked = environment(node, _MNCTL_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=count)
        done = subprocess.run(COMMAND, capture_output=True, text=True, env=asked, timeout=60, check=False)
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert complete("mnctl offering show s") == ["small"]
    assert complete("mnctl vm create x --l3-network d") == ["dev-net"]
    assert complete("mnctl vm mig") == ["migrate", "migration-candidates"]
