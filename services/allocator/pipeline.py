"""The pipeline: filters that shrink a list of hosts, each able to say what it dropped and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mgmtnode.contracts.allocator import Candidate, FilterReport, HostFilter, ReserveHost
from mgmtnode.db.session import Tx
from services.allocator.repository import CONNECTED, ENABLED, HostRow

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Filter:
    """``keep(row)`` says whether a host passes; ``reason`` completes «dropped because …»."""

    name: str
    keep: Callable[[HostRow], bool]
    reason: str


def filters(request: ReserveHost) -> list[Filter]:
    """The filters of a request, in the order they are applied and reported."""
    found: list[Filter] = []
    if request.zone_uuid:
        found.append(Filter("zone", lambda r: r.zone_uuid == request.zone_uuid, "they are in other zones"))
    if request.cluster_uuid:
        found.append(
            Filter("cluster", lambda r: r.cluster_uuid == request.cluster_uuid, "they are in other clusters")
        )
    if request.host_uuid:
        found.append(Filter("host", lambda r: r.host_uuid == request.host_uuid, "another host was asked for"))
    if request.hypervisor:
        found.append(
            Filter("hypervisor", lambda r: r.hypervisor == request.hypervisor, "they run another hypervisor")
        )
    if request.avoid:
        found.append(Filter("avoid", lambda r: r.host_uuid not in request.avoid, "the VM must leave them"))
    memory = f"they have less than {request.memory / GIB:.2f} GiB of memory left"
    return [
        *found,
        Filter("state", lambda r: r.state == ENABLED, "they are disabled or in maintenance"),
        Filter("status", lambda r: r.status == CONNECTED, "they are not connected"),
        Filter("cluster and zone state", lambda r: r.open, "their cluster or zone is disabled"),
        Filter(  # over-provisioning shares threads among VMs; one VM cannot use more than there are
            "host size", lambda r: r.threads >= request.cpu, f"they have less than {request.cpu} threads"
        ),
        Filter(
            "cpu", lambda r: r.cpu_free >= request.cpu, f"they have less than {request.cpu} virtual CPUs left"
        ),
        Filter("memory", lambda r: r.memory_free >= request.memory, memory),
    ]


def run(rows: list[HostRow], stages: list[Filter]) -> tuple[list[HostRow], list[FilterReport]]:
    """What is left of ``rows``, and what each filter did."""
    reports: list[FilterReport] = []
    for stage in stages:
        left = [row for row in rows if stage.keep(row)]
        dropped = len(rows) - len(left)
        reason = f"{dropped} dropped: {stage.reason}" if dropped else ""
        reports.append(FilterReport(filter=stage.name, before=len(rows), after=len(left), reason=reason))
        rows = left
    return rows, reports


def extend(
    tx: Tx, request: ReserveHost, candidates: list[Candidate], extensions: tuple[HostFilter, ...]
) -> tuple[list[Candidate], list[FilterReport]]:
    """The filters that other services bring."""
    reports: list[FilterReport] = []
    for extension in extensions:
        left = extension.keep(tx, request, candidates)
        reports.append(FilterReport(filter=extension.label, before=len(candidates), after=len(left)))
        candidates = left
    return candidates, reports
