"""The places of a create at which something may go wrong: found at the simulated sides of the ports, so that the
product knows nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from typing import Any
from unittest import mock

from mgmtnode.agents.backend import Settled
from mgmtnode.agents.port import Answer, Command
from mgmtnode.contracts.hypervisor import VmAction
from mgmtnode.testing.simulation.agents import DistantAgent
from mgmtnode.testing.simulation.database import DatabaseServer, SimulatedDatabase
from mgmtnode.testing.simulation.lines import Line
from mgmtnode.testing.simulation.loop import current_node
from tests.simulation.rack import Watched


class Phase(StrEnum):
    """In the order in which a create reaches them. Claiming and reserving share a transaction, as do the last step and
    the end of the job."""

    ACCEPTING = "accepting"  # the transaction that accepts the job is on its way to the database
    ACCEPTED = "accepted"  # it was committed, and nobody has heard of it yet
    CLAIMING = "claiming"  # the one that claims the job and reserves is on its way
    CLAIMED = "claimed"  # it was committed: host, addresses and quota are held
    SENDING = "sending"  # the command is on its way to the host
    BEGUN = "begun"  # the agent has written down that it begins, and has done nothing yet
    DONE = "done"  # the VM runs, and the agent has neither written that down nor answered
    FINISHING = "finishing"  # the transaction that ends the job is on its way
    FINISHED = "finished"  # it was committed, and nobody has heard of it yet


ON_ITS_WAY = (Phase.ACCEPTING, Phase.CLAIMING, Phase.SENDING, Phase.FINISHING)
AT_HOST = (Phase.SENDING, Phase.BEGUN, Phase.DONE)

# By the function that runs in the transaction: (while it is on its way, once it is committed).
TRANSACTIONS = {
    "Reception._alone": (Phase.ACCEPTING, Phase.ACCEPTED),
    "Runner._claim": (Phase.CLAIMING, Phase.CLAIMED),
    "JobJournal.write": (Phase.FINISHING, Phase.FINISHED),  # the only one of a create that goes well
}
Reached = Callable[[Phase, str, Any], float]


@contextmanager
def watched(reached: Reached) -> Iterator[None]:
    """``reached(phase, node, what)`` hears of each place, in the callback of who is there: ``what`` is a Command, a
    host's name, or None. It answers how many seconds later than usual what is on its way arrives."""
    changes = (_database(reached), _server(reached), _agent(reached), _register(reached))
    with ExitStack() as stack:
        for owner, name, changed in changes:
            stack.enter_context(mock.patch.object(owner, name, changed))
        yield


def _phases(work: Any) -> tuple[Phase | None, Phase | None]:
    name = getattr(work, "__qualname__", "").split(".<locals>")[0]
    return TRANSACTIONS.get(name, (None, None))


def _later(line: Line, seconds: float) -> None:
    """What is sent next over the line comes so much later."""
    if not seconds:
        return

    def once() -> float:
        del line.there  # type: ignore[method-assign]
        return seconds

    line.there = once  # type: ignore[method-assign]


def _database(reached: Reached) -> tuple[Any, str, Any]:
    real = SimulatedDatabase._transact

    async def transact(self: SimulatedDatabase, work: Any) -> Any:
        asking = _phases(work)[0]
        if asking is not None:
            _later(self._line, reached(asking, current_node.get(), None))
        return await real(self, work)

    return SimulatedDatabase, "_transact", transact


def _server(reached: Reached) -> tuple[Any, str, Any]:
    real = DatabaseServer.run

    def run(self: DatabaseServer, work: Any, clock: Any, hooks: Any, writer: str) -> Any:
        done = real(self, work, clock, hooks, writer)
        committed = _phases(work)[1]
        if committed is not None:
            reached(committed, current_node.get(), None)
        return done

    return DatabaseServer, "run", run


def _agent(reached: Reached) -> tuple[Any, str, Any]:
    real = DistantAgent.command

    async def command(self: DistantAgent, command: Command, wait: float) -> Answer:
        if command.action == VmAction.START:
            _later(self._line, reached(Phase.SENDING, current_node.get(), self._name))
        return await real(self, command, wait)

    return DistantAgent, "command", command


def _register(reached: Reached) -> tuple[Any, str, Any]:
    real = Watched._perform

    async def perform(self: Watched, command: Command) -> Settled:
        if command.action != VmAction.START:
            return await real(self, command)
        reached(Phase.BEGUN, self._name, self._name)
        settled = await real(self, command)
        reached(Phase.DONE, self._name, self._name)
        return settled

    return Watched, "_perform", perform
