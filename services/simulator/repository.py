"""The only SQL on simulated hosts: their sizes and their VMs, in the file their registers are in."""

from __future__ import annotations

import msgspec

from mgmtnode.agents.file import AgentFile
from services.simulator.vm import SimulatedVm

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS sim_host (host TEXT PRIMARY KEY, cpu INTEGER, memory INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS sim_vm "
    "(host TEXT, uuid TEXT, body BLOB, PRIMARY KEY (host, uuid)) WITHOUT ROWID",
)

_decode = msgspec.json.Decoder(SimulatedVm).decode


class SimulatedRepository:
    """Nothing here is awaited: the register's own write, behind these in the same file, is what is waited
    for."""

    def __init__(self, file: AgentFile) -> None:
        self._file = file

    def hosts(self) -> list[tuple[str, int, int]]:
        return [(host, cpu, memory) for host, cpu, memory in self._file.rows("SELECT * FROM sim_host")]

    def vms(self, host: str) -> dict[str, SimulatedVm]:
        rows = self._file.rows("SELECT uuid, body FROM sim_vm WHERE host = ?", host)
        return {uuid: _decode(body) for uuid, body in rows}

    def save_host(self, host: str, cpu: int, memory: int) -> None:
        self._file.hand_over("INSERT OR REPLACE INTO sim_host VALUES (?, ?, ?)", host, cpu, memory)

    def save_vm(self, host: str, uuid: str, vm: SimulatedVm | None) -> None:
        if vm is None:
            self._file.hand_over("DELETE FROM sim_vm WHERE host = ? AND uuid = ?", host, uuid)
        else:
            body = msgspec.json.encode(vm)
            self._file.hand_over("INSERT OR REPLACE INTO sim_vm VALUES (?, ?, ?)", host, uuid, body)
