from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest

from mgmtnode.bus.context import CallContext, current
from mgmtnode.jobs.job import WorkToken
from mgmtnode.telemetry import logs
from mgmtnode.telemetry.loop_lag import LoopLag
from mgmtnode.telemetry.metrics import Metrics


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


def test_the_lag_of_a_blocked_loop_is_told() -> None:
    async def story() -> list[float]:
        seen: list[float] = []
        lag = LoopLag(seen.append, interval=0.001)
        lag.start()
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.02
        while loop.time() < until:
            pass
        assert lag.now >= 0.018
        while not seen:
            await asyncio.sleep(0)
        lag.stop()
        return seen

    assert max(asyncio.run(story())) >= 0.018


def test_each_instrument_shows_up() -> None:
    metrics = Metrics()
    metrics.request("vm.create", 202, 0.01)
    metrics.job("vm.create", "Succeeded", 1.5)
    metrics.job("vm.create", "Pending")
    metrics.call("vm.StartVm", "ok", 0.001)
    metrics.transaction("write", 0.002)
    metrics.loop_lag(0.25)
    metrics.depth("queue", lambda: {"host:1": 3.0})
    text = metrics.text().decode()
    for line in (
        'mgmtnode_jobs_total{api="vm.create",state="Succeeded"} 1.0',
        'mgmtnode_job_seconds_count{api="vm.create"} 1.0',
        'mgmtnode_bus_calls_total{message="vm.StartVm",outcome="ok"} 1.0',
        'mgmtnode_db_transaction_seconds_count{kind="write"} 1.0',
        "mgmtnode_loop_lag_seconds 0.25",
        'mgmtnode_queue{queue="host:1"} 3.0',
    ):
        assert line in text
