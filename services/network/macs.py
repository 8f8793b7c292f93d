"""MAC addresses: what is valid for a NIC, and drawing new ones."""

from __future__ import annotations

import re

from mgmtnode.contracts.nic import BAD_MAC
from mgmtnode.ports import Rng

FORM = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
PREFIX = "[0-9a-f][26ae](:[0-9a-f]{2}){2}"  # locally administered, of one interface
GROUP_BIT = 0x01


def drawn(rng: Rng, prefix: str) -> str:
    """A MAC address with three octets ``prefix`` and three random ones."""
    tail = rng.bits(24)
    return f"{prefix}:{tail >> 16:02x}:{tail >> 8 & 0xFF:02x}:{tail & 0xFF:02x}"


def checked(mac: str) -> str:
    """``mac`` in lower case. Raises network.bad-mac unless it is the address of one interface."""
    lower = mac.lower()
    if not FORM.fullmatch(lower) or int(lower[:2], 16) & GROUP_BIT or lower == "00:00:00:00:00:00":
        raise BAD_MAC.error(f"{mac[:40]!r} is not the MAC address of one interface")
    return lower
