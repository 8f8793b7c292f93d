"""What a node asks of its process, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

FILES = """
import resource
from mgmtnode.cli.process import raise_file_limit
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
assert raise_file_limit() == hard == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
"""
MEMORY = """
import gc
from mgmtnode.cli.process import settle_memory
settle_memory()
assert gc.get_freeze_count() > 1000 and gc.isenabled() and gc.get_threshold() == (50_000, 50, 100)
"""


def run(code: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, env=environment)


def test_all_file_descriptors_the_machine_allows_are_used() -> None:
    run(FILES)


def test_what_is_there_after_the_boot_is_not_looked_at_by_collections_any_more() -> None:
    run(MEMORY)
