"""How long simulated commands take."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mgmtnode.contracts.hypervisor import VmCommand
from mgmtnode.ports import Rng

SPREAD = 2 / 3


class PacedCommand(VmCommand):
    """A VM command with the mean of the time it is to take, as the management node that sends it is configured."""

    delay_ms: Annotated[int, Meta(ge=0, le=86_400_000, description="Milliseconds")] = 0


class Pace:
    """Each command takes a time of its own around its mean. ``fixed_ms``: the mean whatever the senders say."""

    def __init__(self, rng: Rng, fixed_ms: int | None = None) -> None:
        self._rng, self._fixed_ms = rng, fixed_ms

    def seconds(self, command: PacedCommand) -> float:
        mean = (command.delay_ms if self._fixed_ms is None else self._fixed_ms) / 1000
        return self._rng.uniform(mean * (1 - SPREAD), mean * (1 + SPREAD)) if mean else 0.0
