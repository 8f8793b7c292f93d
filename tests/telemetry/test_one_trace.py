"""One id follows a request through everything that is done for it, on every node and in every life of one."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from mgmtnode.bus.context import CallContext, current
from mgmtnode.jobs.job import JobState
from mgmtnode.telemetry import logs
from tests.bus.nodes import Answer, Ask, Nodes, vm
from tests.virtual_time import run
from tests.workshop.contract import BROKEN, AssembleGadget, BuildGadget, MakeGadget, TouchGadget
from tests.workshop.world import World

TRACE, OTHER = "a" * 32, "b" * 32


class Lines:
    """The log of the process as JSON."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def of(self, trace: str, level: str = "") -> list[str]:
        found = [line for line in self.all if line.get("trace") == trace]
        return [line["message"] for line in found if not level or line["level"] == level]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure("n", json=True, level="DEBUG", stream=stream)
    yield Lines(stream)
    root.handlers[:] = before
    root.setLevel(level)


def test_a_job_is_told_in_two_lines_with_the_trace_of_its_request(world: World, lines: Lines) -> None:
    async def story() -> None:
        async with world.life() as core:
            current.set(CallContext(trace=TRACE, request="r-1"))
            job = await core.accept(BuildGadget(name="a"))
            current.set(CallContext())
            ended = await core.end(job)
            assert (ended.state, ended.trace) == (JobState.SUCCEEDED, TRACE)
            for line in lines.all:
                if line.get("trace") == TRACE and line["level"] == "INFO":
                    assert (line["job"], line["resource"]) == (job.uuid, job.resource_uuid)

    run(story)
    accepted, ended = lines.of(TRACE, "INFO")
    assert accepted == "accepted gadget.build"
    assert ended.startswith("gadget.build Succeeded in 0.000 s")
    told = [line.split(":")[0] for line in lines.of(TRACE, "DEBUG")]
    for what in ("accept gadget.build", "step cut gadget.build", "job gadget.build"):
        assert what in told
    assert [line["request"] for line in lines.all if "request" in line and line["level"] == "INFO"] == ["r-1"]


def test_another_life_that_takes_the_job_up_goes_on_with_its_trace(world: World, lines: Lines) -> None:
    async def story() -> str:
        async with world.life(kill_at=4) as core:
            current.set(CallContext(trace=TRACE))
            job = await core.accept(BuildGadget(name="a"))
            await core.died.wait()
        current.set(CallContext())
        async with world.life() as core:
            return (await core.end(job)).state

    assert run(story) == JobState.SUCCEEDED
    told = lines.of(TRACE, "INFO")
    assert told[0] == "accepted gadget.build"
    assert told[1] == "gadget.build was taken over from its journal: resumed"
    assert told[2].startswith("gadget.build Succeeded")


def test_jobs_on_one_resource_keep_their_traces_apart(world: World, lines: Lines) -> None:
    async def story() -> None:
        async with world.life() as core:
            made = await core.run(MakeGadget(name="a"))
            for trace in (TRACE, OTHER):
                current.set(CallContext(trace=trace))
                job = await core.accept(TouchGadget(uuid=made.resource_uuid))
            await core.end(job)

    run(story)
    for trace in (TRACE, OTHER):
        assert [line.split(" in ")[0] for line in lines.of(trace, "INFO")] == [
            "accepted gadget.touch", "gadget.touch Succeeded",
        ]  # fmt: skip


def test_child_jobs_belong_to_the_trace_of_their_parent(world: World, lines: Lines) -> None:
    async def story() -> None:
        async with world.life() as core:
            whole, part = [(await core.run(MakeGadget(name=n))).resource_uuid for n in "ab"]
            current.set(CallContext(trace=TRACE))
            await core.run(AssembleGadget(uuid=whole, parts=[part]))

    run(story)
    assert [line.split(" in ")[0] for line in lines.of(TRACE, "INFO")] == [
        "accepted gadget.assemble", "accepted gadget.polish", "gadget.polish Succeeded", "gadget.assemble Succeeded",
    ]  # fmt: skip


def test_what_nobody_asked_for_begins_a_trace_of_its_own(world: World, lines: Lines) -> None:
    async def story() -> tuple[str, str]:
        async with world.life() as core:
            job = await core.run(MakeGadget(name="a"))
            return job.uuid, job.trace

    uuid, trace = run(story)
    assert trace == uuid.replace("-", "")
    assert len(lines.of(trace, "INFO")) == 2


def test_an_undo_and_what_went_wrong_are_told_with_the_trace(world: World, lines: Lines) -> None:
    async def story() -> None:
        world.host.fail["drill"] = BROKEN.error("the drill is blunt")
        async with world.life() as core:
            current.set(CallContext(trace=TRACE))
            await core.run(BuildGadget(name="a"))

    run(story)
    told = lines.of(TRACE)
    assert any(line.startswith("step undo cut gadget.build: ok") for line in told)
    assert any("gadget.build Failed" in line and "the drill is blunt" in line for line in told)


def test_a_call_is_told_with_its_trace_on_the_node_that_serves_it(lines: Lines) -> None:
    async def answer(node: str, msg: Ask) -> Answer:
        logging.getLogger("service").info("at work on %s", node)
        return Answer(text="")

    async def story() -> None:
        async with Nodes() as nodes:
            nodes.handle(Ask, answer)
            current.set(CallContext(trace=TRACE))
            await nodes["a"].call(Ask(vm_uuid=vm("b")))
            await asyncio.sleep(0)

    run(story)
    assert lines.of(TRACE, "INFO") == ["at work on b"]
    told = [line.split(" in ")[0] for line in lines.of(TRACE, "DEBUG")]
    assert told == ["serve nodes.Ask: ok", "call nodes.Ask remote: ok"]
