from __future__ import annotations

import io
import json
import logging

import pytest

from mgmtnode.bus.context import CallContext, current
from mgmtnode.jobs.job import WorkToken
from mgmtnode.telemetry import logs


@pytest.fixture
def lines():
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("password=abc next", "password=*** next"),
        ('{"api_key": "ab\\"c", "x": 1}', '{"api_key": ***, "x": 1}'),
        ("db_password: 'x y'", "db_password: ***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("sent Bearer abcdefgh123", "sent Bearer ***"),
        ("amqp://mgmt:hunter2@host/v", "amqp://mgmt:***@host/v"),
        ("the token was refused", "the token was refused"),
    ],
)
def test_secrets_do_not_reach_a_log(text: str, masked: str) -> None:
    assert logs.mask(text) == masked


def test_a_json_line_tells_node_job_resource_and_trace(lines) -> None:
    logs.configure("n1", json=True, stream=lines)
    work = WorkToken(job_uuid="j", resource_uuid="r", account_uuid="a", run_no=1, step=0, attempt=0, fence=1)
    reset = current.set(CallContext(trace="t", work=work))
    try:
        logging.getLogger("x").info("hello %s", "you", extra={"size": 5, "token": "abc"})
        try:
            raise ValueError("password=abc")
        except ValueError:
            logging.getLogger("x").exception("it broke \ud800")
    finally:
        current.reset(reset)
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert first.pop("at").endswith("Z")
    assert first == {
        "level": "INFO", "logger": "x", "message": "hello you", "node": "n1", "job": "j", "resource": "r",
        "trace": "t", "size": 5, "token": "***",
    }  # fmt: skip
    assert "abc" not in second["traceback"]


def test_a_line_for_a_terminal_is_one_line(lines) -> None:
    logs.configure("n1", stream=lines)
    logging.getLogger("x").warning("careful")
    assert lines.getvalue().endswith(" WARNING x: careful (node=n1)\n")


def test_a_record_that_says_whose_it_is_is_believed(lines) -> None:
    logs.configure("n1", json=True, stream=lines)
    reset = current.set(CallContext(trace="another", request="r"))
    try:
        about = {"job": "j", "resource": "r", "trace": "t", "request": ""}
        logging.getLogger("x").info("ended", extra=about)
    finally:
        current.reset(reset)
    entry = json.loads(lines.getvalue())
    assert (entry["job"], entry["resource"], entry["trace"]) == ("j", "r", "t")
    assert "request" not in entry


def test_lines_about_a_job_outside_its_steps_name_it(lines) -> None:
    logs.configure("n1", stream=lines)
    with logs.about("j", "r"):
        logging.getLogger("x").info("sealed")
    logging.getLogger("x").info("other work")
    first, second = lines.getvalue().splitlines()
    assert first.endswith("sealed (node=n1 job=j resource=r)")
    assert second.endswith("other work (node=n1)")
