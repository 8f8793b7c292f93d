"""System tags of VMs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mgmtnode.contracts.vm_events import VM_BAD_STATIC_IP
from mgmtnode.schema import UUID_PATTERN, IpAddress
from mgmtnode.tags.system_tag import SystemTag

IP_PATTERN = IpAddress.__metadata__[0].pattern  # type: ignore[attr-defined]  # the Annotated alias's Meta
HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def _static_ip(tokens: dict[str, str]) -> str | None:
    if not re.match(UUID_PATTERN, tokens["l3"]):
        return "the network must be given by its uuid"
    return None if re.match(IP_PATTERN, tokens["ip"]) else "the address is not an IPv4 address"


def _hostname(tokens: dict[str, str]) -> str | None:
    return (
        None
        if HOSTNAME.fullmatch(tokens["name"])
        else "a host name has letters, digits and inner hyphens, at most 63"
    )


def check_static_ips(wanted: Sequence[dict[str, str]], networks: Sequence[str]) -> None:
    """Raises vm.bad-static-ip for a network the VM does not get, gets twice, or gets two addresses of."""
    for network in (tokens["l3"] for tokens in wanted):
        addresses = [tokens["ip"] for tokens in wanted if tokens["l3"] == network]
        if networks.count(network) != 1 or len(addresses) != 1:
            raise VM_BAD_STATIC_IP.error(
                f"{len(addresses)} addresses are given for {networks.count(network)} NICs in network {network}",
                resource=network,
            )


STATIC_IP = SystemTag(
    "staticIp::{l3}::{ip}",
    on="vm",
    description="The address the VM gets in a network, at creation",
    unique=False,
    check=_static_ip,
)
HOSTNAME_TAG = SystemTag("hostname::{name}", on="vm", description="The guest's host name", check=_hostname)
TAGS = (STATIC_IP, HOSTNAME_TAG)
