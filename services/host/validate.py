"""What is checked of a host before anything changes."""

from __future__ import annotations

from typing import Any

import msgspec

from mgmtnode.contracts.cluster import Cluster
from mgmtnode.contracts.host import HOST_BAD_PARAMETERS, HOST_WRONG_HYPERVISOR

PARAMETERS_BYTES = 16_384


def hypervisor(cluster: Cluster, given: str | None) -> None:
    """Raises host.wrong-hypervisor."""
    if given not in (None, cluster.hypervisor):
        raise HOST_WRONG_HYPERVISOR.error(
            f"cluster {cluster.name} takes {cluster.hypervisor} hosts, not {given}", resource=cluster.uuid
        )


def parameters(given: dict[str, Any]) -> None:
    """Only their size; what they mean, the driver says when it connects. Raises host.bad-parameters."""
    if len(msgspec.json.encode(given)) > PARAMETERS_BYTES:
        raise HOST_BAD_PARAMETERS.error(f"the parameters of a host are at most {PARAMETERS_BYTES} bytes")
