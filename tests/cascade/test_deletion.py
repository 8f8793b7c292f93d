"""Deleting what is below, when several roads lead to it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mgmtnode.cascade.deletion import DeletionContext, _children
from mgmtnode.cascade.graph import CascadeGraph, Doomed, OnDelete
from mgmtnode.contracts.zone import DeleteZone
from mgmtnode.errors import IN_USE, NOT_FOUND, ApiError, Problem
from mgmtnode.jobs.job import Job, JobState

UUIDS = [f"01a20000-0000-7000-8000-{number:012d}" for number in range(2)]


class Below:
    """A cascade graph with two resources below, and a job whose child jobs end as they are told to."""

    origin = ""

    def __init__(self, *ends: Problem | ApiError | None) -> None:
        self._rounds = [[(uuid, DeleteZone(uuid=uuid)) for uuid in UUIDS], []]
        self._ends = list(ends)
        self.node = SimpleNamespace(cascade=self, db=self)

    def waves(self, kind: str) -> list[int]:
        return [1]

    def work(self, *_: object, **__: object) -> list[Any]:
        return self._rounds.pop(0)

    async def read(self, work: Any) -> Any:
        return work(None)

    async def child(self, msg: DeleteZone, *, key: str) -> Job:
        end = self._ends.pop(0)
        if isinstance(end, ApiError):
            raise end
        state = JobState.FAILED if end else JobState.SUCCEEDED
        return Job(
            uuid=msg.uuid, api="zone.delete", resource_type="zone", resource_uuid=msg.uuid, state=state,
            account_uuid=UUIDS[0], accepted_at=datetime.now(UTC), error=end,
        )  # fmt: skip


def delete(below: Below, *, force: bool = False) -> None:
    asyncio.run(_children(below, cast("Any", below), DeletionContext(uuid="x", kind="zone", force=force)))


@pytest.mark.parametrize("gone", [NOT_FOUND.error("gone"), NOT_FOUND.error("gone").problem])
def test_what_another_road_deleted_first_is_no_failure(gone: Problem | ApiError) -> None:
    delete(Below(gone, None))


def test_what_cannot_be_deleted_keeps_the_resource_above() -> None:
    with pytest.raises(ApiError) as refused:
        delete(Below(IN_USE.error("needed").problem, None))
    assert refused.value.code == "core.in-use"
    assert "1 of 2" in str(refused.value)


def test_force_goes_on_over_what_cannot_be_deleted() -> None:
    delete(Below(IN_USE.error("needed").problem, None), force=True)


def test_a_refusal_of_a_child_job_is_told_as_it_is() -> None:
    with pytest.raises(ApiError) as refused:
        delete(Below(IN_USE.error("not now"), None))
    assert refused.value.code == "core.in-use"


def test_what_uses_a_thing_goes_in_an_earlier_wave() -> None:
    def delete(doomed: Doomed) -> DeleteZone:
        return DeleteZone(uuid=doomed.uuid)

    graph = CascadeGraph(
        [
            OnDelete(child="l3_network", column="zone_uuid", parent="zone", act=delete, wave=2),
            OnDelete(child="vm", column="zone_uuid", parent="zone", act=delete, wave=0),
            OnDelete(child="cluster", column="zone_uuid", parent="zone", act=delete),
        ]
    )
    assert graph.waves("zone") == [0, 1, 2]
    assert graph.waves("vm") == []
