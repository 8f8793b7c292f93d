"""What is written: YAML that any parser reads back, tables, sizes, live progress."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml  # type: ignore[import-untyped]  # its stubs are another distribution
from hypothesis import given, settings
from hypothesis import strategies as st

from mgmtnode.client.mnctl import render, trace, yaml
from mgmtnode.client.mnctl.progress import Progress
from mgmtnode.client.records import JobState, Record

from .conftest import Mnctl
from .fakenode import FakeNode

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_yaml_reads_back_as_what_was_written(value: Any) -> None:
    assert pyyaml.safe_load(yaml.dump(value)) == value


@pytest.mark.parametrize(
    "text",
    ["yes", "NO", "null", "~", "1", "1e3", "0x1f", "1_000", "2026-01-01", "12:30:45", "-", "- a", "a: b",
     "a #b", "", " a", "a ", "@a", "*a", "=", "<<", ".inf", "a\nb", "\u2028", "\x85", "\ufeff", "é", "🙂",
     "'", '"', "\\", "a\tb", "y"],
)  # fmt: skip
def test_yaml_quotes_what_looks_like_something_else(text: str) -> None:
    assert pyyaml.safe_load(yaml.dump({text: [text, {text: text}]})) == {text: [text, {text: text}]}


def test_yaml_is_easy_on_the_eye() -> None:
    value = {
        "name": "web-1",
        "nics": [{"ip": "10.0.0.7", "up": True}, {}],
        "tags": [],
        "size": 1.5,
        "deep": {"a": None},
    }
    assert yaml.dump(Record(value)) == (
        'name: web-1\nnics:\n  - ip: "10.0.0.7"\n    up: true\n  - {}\n'
        "tags: []\nsize: 1.5\ndeep:\n  a: null\n"
    )


def test_the_same_list_in_every_format(mnctl: Mnctl, node: FakeNode) -> None:
    nics = [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]
    vm = node.add("vms", name="web", state="Running", cpu=2, memory=3 << 29, nics=nics, host_uuid=None)
    table, wide = mnctl("vm", "list").out, mnctl("-o", "wide", "vm", "list").out
    assert table.splitlines()[0].split() == ["NAME", "STATE", "IP", "CPU", "MEMORY", "HOST", "UUID"]
    assert "web   Running  10.0.0.1,10.0.0.2  2    1.5 GiB" in table and "ZONE" in wide.splitlines()[0]
    assert json.loads(mnctl("vm", "list", "-o", "json").out) == [vm]
    assert pyyaml.safe_load(mnctl("vm", "list", "-o", "yaml").out) == [vm]
    assert "\x1b" not in table


def test_a_terminal_cannot_be_written_to_through_a_name(mnctl: Mnctl, node: FakeNode) -> None:
    node.add("zones", name="evil\x1b[2J")
    assert "\x1b" not in mnctl("zone", "list").out and "\x1b" not in mnctl("zone", "list", "-o", "yaml").out


def test_sizes_are_for_people() -> None:
    assert [render.size(n) for n in (5, 1 << 20, 3 << 29, 1 << 40)] == ["5 B", "1 MiB", "1.5 GiB", "1 TiB"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def job(state: str, **more: Any) -> JobState:
    steps = [{"name": "allocate", "state": "Done"}, {"name": "start", "state": "Running"}]
    return JobState({"uuid": "u", "state": state, "step": "start", "progress": 50, "steps": steps, **more})


def test_on_a_terminal_the_steps_are_one_block_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Terminal()
    progress = Progress("vm web", screen)
    progress(job("Running"))
    progress(job("RollingBack", cancel_requested=True))
    progress.close()
    text = screen.getvalue()
    assert (
        "  ✓ allocate\n  ● start\n" in text and text.count("\x1b[3A\x1b[J") == 2 and text.endswith("\x1b[J")
    )
    assert "\x1b[33mvm web: RollingBack  start  50 %  cancelling" in text


def test_no_color_and_dumb_terminals_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert not render.colourful(Terminal())
    monkeypatch.setenv("TERM", "dumb")
    screen = Terminal()
    progress = Progress("vm web", screen)
    for state in (
        job("Pending", step=None, progress=0, queue_position=2),
        job("Running"),
        job("Running"),
        job("Succeeded"),
    ):
        progress(state)
    progress.close()
    lines = ["vm web: Pending  2 ahead in the queue", "vm web: Running  start  50 %", "vm web: Succeeded"]
    assert screen.getvalue().splitlines() == lines


def test_masking_reaches_everything_named_like_a_secret(tmp_path: Path) -> None:
    value = {"password": "a", "list": [{"secret_key": "b", "Token": "c"}], "name": "d", "token": None}
    masked = {
        "password": trace.MASK,
        "list": [{"secret_key": trace.MASK, "Token": trace.MASK}],
        "name": "d",
        "token": None,
    }
    assert trace.masked(value) == masked
    assert trace.body(b"\xff" * 9000).endswith("(9000 characters)")
