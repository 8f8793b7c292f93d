"""What nodes say to each other about jobs, besides the hint that one waits."""

from __future__ import annotations

from typing import ClassVar

from mgmtnode.bus.message import Internal, Nothing, Route, by_resource, to_node
from mgmtnode.jobs.job import StepRecord
from mgmtnode.schema import Data


class Progress(Data):
    """Where a running job is right now, as its owner knows."""

    step: str | None = None
    percent: int = 0
    steps: list[StepRecord] = []


class GetProgress(Internal[Progress], frozen=True, kw_only=True):
    route: ClassVar[Route] = to_node("node")
    timeout: ClassVar[float] = 1.0

    node: str
    job_uuid: str


class StopJob(Internal[Nothing], frozen=True, kw_only=True):
    """Somebody asked a running job to stop: its owner need not wait for the next sweep to find out."""

    route: ClassVar[Route] = by_resource("resource_uuid")
    timeout: ClassVar[float] = 5.0

    resource_uuid: str
    job_uuid: str
