"""Which VMs are on simulated hosts: asked of their agents' process, or read from its file when it does not run."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

Placed = set[tuple[str, str]]
"""(address of the host, uuid of the VM)"""
Hosts = Callable[[Iterable[str]], Placed]
"""What is on the hosts at these addresses."""

ASK_SECONDS = 10.0


def of_file(path: Path) -> Hosts:
    """Of ``simulator.db``, which is locked as long as a process simulates hosts in it. No file, no host."""

    def read(addresses: Iterable[str]) -> Placed:
        if not path.exists():
            return set()
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
            return set(file.execute("SELECT host, uuid FROM sim_vm"))

    return read


def of_process(url: Callable[[], str]) -> Hosts:
    """Of the agents' process, at the address it has when they are asked. Raises OSError."""

    def ask(addresses: Iterable[str]) -> Placed:
        return {(host, vm["uuid"]) for host in addresses for vm in _report(url(), host)["vms"]}

    return ask


def powers(url: str, addresses: Iterable[str]) -> dict[tuple[str, str], str]:
    """What runs, stands still, or is only expected there, of each (address of the host, uuid of the VM). Raises
    OSError."""
    return {(host, vm["uuid"]): vm["power"] for host in addresses for vm in _report(url, host)["vms"]}


def _report(url: str, host: str) -> dict[str, list[dict[str, str]]]:
    request = urllib.request.Request(
        f"{url}/agents/{quote(host, safe='')}/ask",
        data=json.dumps({"question": "report", "body": {}}).encode(),
        headers={"content-type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=ASK_SECONDS) as answer:
        report: dict[str, list[dict[str, str]]] = json.load(answer)
    return report
