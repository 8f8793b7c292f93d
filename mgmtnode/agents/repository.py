"""The only SQL on command registers: one row a resource, and one for the agent itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mgmtnode.agents.file import AgentFile
from mgmtnode.agents.port import NEVER, Command, CommandState, Order
from mgmtnode.errors import Problem

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS agent (
        host TEXT PRIMARY KEY, identity TEXT NOT NULL, floor INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS command (
        host TEXT NOT NULL, resource TEXT NOT NULL, fence INTEGER NOT NULL,
        run_no INTEGER NOT NULL, step INTEGER NOT NULL, attempt INTEGER NOT NULL,
        state TEXT, action TEXT NOT NULL, args BLOB NOT NULL, outcome BLOB,
        PRIMARY KEY (host, resource)) WITHOUT ROWID""",
)
SAVE = (
    "INSERT INTO command VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "fence = max(fence, excluded.fence), "
    "run_no = excluded.run_no, step = excluded.step, attempt = excluded.attempt, "
    "state = excluded.state, action = excluded.action, args = excluded.args, outcome = excluded.outcome"
)
RAISE_FENCE = (
    "INSERT INTO command VALUES (?, ?, ?, 0, 0, 0, NULL, '', '{}', NULL) "
    "ON CONFLICT DO UPDATE SET fence = max(fence, excluded.fence)"
)


class Outcome(msgspec.Struct, omit_defaults=True):
    """How a command ended, as kept: a result or a problem."""

    result: Any = None
    problem: Problem | None = None


_decode = msgspec.json.Decoder(Outcome).decode


@dataclass(slots=True)
class Record:
    """The register of one resource. ``fence`` is what is demanded now, ``saved_fence`` what the file knows
    of."""

    resource: str
    fence: int = 0
    saved_fence: int = 0
    order: Order = NEVER
    state: CommandState | None = None
    action: str = ""
    args: bytes = b"{}"
    outcome: bytes | None = None

    @property
    def finished(self) -> bool:
        return self.state in (CommandState.DONE, CommandState.FAILED)

    def ended(self) -> Outcome:
        return _decode(self.outcome) if self.outcome else Outcome()

    def command(self) -> Command:
        """The last command, to be probed for."""
        args = msgspec.json.decode(self.args)
        return Command(
            resource=self.resource, fence=self.fence, order=self.order, action=self.action, args=args
        )


class RegisterRepository:
    """The rows of one host in a file that may hold several."""

    def __init__(self, file: AgentFile, host: str) -> None:
        self._file, self._host = file, host

    def load(self, identity: str) -> tuple[str, int, dict[str, Record]]:
        """Identity, floor and records; ``identity`` is taken on if the file knows none. Start-up only."""
        known = self._file.rows("SELECT identity, floor FROM agent WHERE host = ?", self._host)
        if not known:
            self._file.hand_over("INSERT INTO agent VALUES (?, ?, 0)", self._host, identity)
        rows = self._file.rows("SELECT * FROM command WHERE host = ?", self._host)
        identity, floor = known[0] if known else (identity, 0)
        return identity, floor, {row[1]: _record(row) for row in rows}

    async def save(self, record: Record) -> None:
        row = (
            record.resource,
            record.fence,
            *record.order,
            record.state,
            record.action,
            record.args,
            record.outcome,
        )
        await self._file.write(SAVE, self._host, *row)

    async def save_fence(self, record: Record) -> None:
        fence = record.fence
        await self._file.write(RAISE_FENCE, self._host, record.resource, fence)
        record.saved_fence = max(record.saved_fence, fence)

    async def forget(self, floor: int, resources: Sequence[str]) -> None:
        for resource in resources:
            self._file.hand_over("DELETE FROM command WHERE host = ? AND resource = ?", self._host, resource)
        await self._file.write("UPDATE agent SET floor = max(floor, ?) WHERE host = ?", floor, self._host)

    async def replace(self, identity: str) -> None:
        """Everything is gone and the agent is somebody else: a new disk."""
        self._file.hand_over("DELETE FROM command WHERE host = ?", self._host)
        await self._file.write(
            "UPDATE agent SET identity = ?, floor = 0 WHERE host = ?", identity, self._host
        )


def _record(row: Sequence[Any]) -> Record:
    _, resource, fence, run_no, step, attempt, state, action, args, outcome = row
    known = CommandState(state) if state else None
    return Record(resource, fence, fence, (run_no, step, attempt), known, action, args, outcome)
