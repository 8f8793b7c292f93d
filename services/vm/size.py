"""How large a VM is, as it was asked for."""

from __future__ import annotations

from mgmtnode.schema import Data


class Size(Data, frozen=True, kw_only=True):
    """Virtual CPUs and bytes. ``allocator_strategy``: of the instance offering, or empty."""

    cpu: int
    memory: int
    allocator_strategy: str = ""
