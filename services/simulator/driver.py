"""Drives simulated hosts: the hypervisor strategy in terms of the Agents port."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mgmtnode.agents.commands import order
from mgmtnode.agents.port import FAILED, NEVER, TIMEOUT, UNREACHABLE, Agents
from mgmtnode.bus.context import current
from mgmtnode.contracts.host import HOST_BAD_PARAMETERS
from mgmtnode.contracts.hypervisor import (
    HYPERVISOR_FAILED,
    HYPERVISOR_NO_VM,
    HostAddress,
    HostFacts,
    HostReport,
    SealedVm,
    VmAction,
    VmCommand,
)
from mgmtnode.contracts.simulator import NO_VM
from mgmtnode.errors import INTERNAL, ApiError, ErrorCode
from mgmtnode.ports import Clock
from services.simulator.hosts import endpoint


class Size(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The parameters of a simulated host: CPUs, and memory in bytes."""

    cpu: Annotated[int, Meta(ge=1, le=4096)] = 32
    memory: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] = 128 << 30


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: for an answer, and for the end of a command."""

    answer: float
    command: float


def immediate(action: VmAction) -> int:
    """No command takes any time."""
    return 0


class SimulatorDriver:
    """A ``HypervisorDriver``. ``endpoint(management_ip)`` is where an agent is; ``delay_ms(action)`` how many
    milliseconds a command is to take on average. These and ``patience`` are read at every use, so that a change of
    the configs counts at once."""

    def __init__(
        self,
        agents: Agents,
        clock: Clock,
        patience: Callable[[], Patience],
        *,
        endpoint: Callable[[str], str] = endpoint,
        delay_ms: Callable[[VmAction], int] = immediate,
    ) -> None:
        self._agents, self._clock, self._patience = agents, clock, patience
        self._endpoint, self._delay_ms = endpoint, delay_ms

    async def connect(self, host: HostAddress) -> HostFacts:
        """Raises host.bad-parameters for a size that makes no host."""
        return msgspec.convert(await self._ask(host, "connect", msgspec.to_builtins(_size(host))), HostFacts)

    async def report(self, host: HostAddress) -> HostReport:
        return msgspec.convert(await self._ask(host, "report", {}), HostReport)

    async def perform(self, host: HostAddress, command: VmCommand) -> None:
        """Raises hypervisor.failed or hypervisor.no-vm with what the host said as its cause; agent.stale, agent.old,
        agent.timeout."""
        _check_work(command)
        args = msgspec.to_builtins(command)
        args["delay_ms"] = self._delay_ms(command.action)
        try:
            await order(self._agents, self._at(host), command.action, args, timeout=self._command_seconds())
        except ApiError as exc:
            cause = exc.problem.cause
            absent = cause is not None and cause.code == NO_VM.id
            raise _said(exc, FAILED, HYPERVISOR_NO_VM if absent else HYPERVISOR_FAILED) from exc

    async def seal(self, host: HostAddress, vm_uuid: str, fence: int) -> SealedVm:
        timeout = self._command_seconds()
        try:
            sealed = await self._agents.seal(self._at(host), vm_uuid, fence, timeout=timeout)
        except ApiError as exc:
            raise _said(exc, TIMEOUT, UNREACHABLE) from exc
        return SealedVm(order=None if sealed.order == NEVER else sealed.order, state=sealed.state)

    async def ended(self, host: HostAddress, floor: int, *, after: str, limit: int) -> dict[str, int]:
        body = {"floor": floor, "after": after, "limit": limit}
        return msgspec.convert(await self._ask(host, "ended", body), dict[str, int])

    async def forget(self, host: HostAddress, floor: int, registers: dict[str, int]) -> int:
        timeout = self._patience().answer
        try:
            return await self._agents.forget(self._at(host), floor, registers, timeout=timeout)
        except ApiError as exc:
            raise _said(exc, TIMEOUT, UNREACHABLE) from exc

    async def disconnect(self, host: HostAddress) -> None:
        """Nothing was opened."""

    async def _ask(self, host: HostAddress, question: str, body: dict[str, Any]) -> Any:
        try:
            return await self._agents.ask(self._at(host), question, body, timeout=self._patience().answer)
        except ApiError as exc:
            raise _said(exc, TIMEOUT, UNREACHABLE) from exc

    def _at(self, host: HostAddress) -> str:
        return self._endpoint(host.management_ip)

    def _command_seconds(self) -> float:
        deadline, longest = current.get().deadline, self._patience().command
        return longest if deadline is None else max(0.0, min(longest, deadline - self._clock.monotonic()))


def _size(host: HostAddress) -> Size:
    try:
        return msgspec.convert(host.parameters, Size)
    except msgspec.ValidationError as exc:
        raise HOST_BAD_PARAMETERS.error(
            f"a simulated host takes cpu and memory: {exc}", resource=host.uuid
        ) from exc


def _check_work(command: VmCommand) -> None:
    """A register is kept per VM, and only the owner of a VM has its fence: jobs on other resources have
    none."""
    work = current.get().work
    if work is not None and work.resource_uuid != command.vm.uuid:
        what = f"{command.action} of VM {command.vm.uuid} is ordered by a job on {work.resource_uuid}"
        raise INTERNAL.error(what, resource=command.vm.uuid)


def _said(exc: ApiError, code: ErrorCode, told: ErrorCode) -> ApiError:
    """An error with ``code`` in the words of the hypervisor contract; others as they are."""
    if exc.code != code.id:
        return exc
    cause = ApiError(exc.problem.cause) if exc.problem.cause else exc
    return told.error(exc.problem.message, resource=exc.problem.resource, cause=cause)
