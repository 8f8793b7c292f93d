"""The fault script of a schedule: plain data, so that it can be printed, repeated and made smaller."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class FaultKind(StrEnum):
    KILL = "kill"  # SIGKILL of a node; started again after ``seconds``
    PAUSE = "pause"  # SIGSTOP of a node, for ``seconds``
    RESTART = "restart"  # a node is told to stop, and started again after ``seconds``
    DRAIN = "drain"  # an operator asks for a node to give its slots away; restarted after ``seconds``
    SUPERSEDE = "supersede"  # a node is started again under its name while it stands still for ``seconds``
    JOIN = "join"  # a node is started that was not there
    LEAVE = "leave"  # a node is told to stop, and is not started again
    EVICT = "evict"  # an operator takes all work from a node that lives
    LINE = "line"  # weather on the lines ``target``, for ``seconds``
    DATABASE = "database"  # away for everybody, for ``seconds``: silent, or ``refused`` at once
    BROKER = "broker"  # away for everybody, for ``seconds``; what was on its way is lost
    CLOCK = "clock"  # the wall clock of a node steps by ``amount`` seconds
    HOST = "host"  # something happens to a host, see ``what``


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``at`` and ``seconds`` are virtual; ``target`` names a node, a host, or lines (``n1>host-2``, ``n2>database``).
    ``what``: the weather of a line, or what happens to a host."""

    at: float
    kind: FaultKind
    target: str = ""
    seconds: float = 0.0
    what: str = ""
    amount: float = 0.0

    def __str__(self) -> str:
        words = [f"{self.at:7.2f} {self.kind} {self.target}", self.what]
        words += [f"for {self.seconds:g} s"] if self.seconds else []
        words += [f"({self.amount:g})"] if self.amount else []
        return " ".join(word for word in words if word)
