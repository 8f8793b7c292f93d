"""What a node asks of its process: all the descriptors it may have, and a garbage collector that seldom stops it."""

from __future__ import annotations

import gc
import resource


def raise_file_limit() -> int:
    """Every connection and stream is a descriptor, and the usual soft limit is 1024. Returns the limit now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def settle_memory() -> None:
    """Once booted: what is there now stays for good, so collections need not look at it, nor run so often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
