"""What is left of a history whose process died while it wrote, or had no room to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mgmtnode.ports import SystemClock
from services.simulator.history import History

NO_ROOM = """
import resource, sys
from pathlib import Path
from mgmtnode.ports import SystemClock
from services.simulator.history import History
history = History(Path(sys.argv[1]), SystemClock())
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for number in range(20):
    history.of("host")("started", "vm", number, (1, 1, 1), "start")
"""


def test_a_process_that_cannot_write_its_history_ends_and_leaves_no_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    ended = subprocess.run([sys.executable, "-c", NO_ROOM, str(path)], capture_output=True, text=True)
    assert ended.returncode == os.EX_IOERR and "the disk is full" in ended.stderr
    assert len(path.read_bytes()) == 1000 and not path.read_bytes().endswith(b"\n")
    whole = path.read_text().splitlines()[:-1]
    History(path, SystemClock()).close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == len(whole) + 1
    assert [line["outcome"] for line in (lines[0], lines[1], lines[-1])] == ["booted", "started", "booted"]


def test_a_history_without_a_whole_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"time":"20')
    History(path, SystemClock()).close()
    assert [json.loads(line)["outcome"] for line in path.read_text().splitlines()] == ["booted"]
