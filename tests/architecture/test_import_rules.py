"""The import rules of pyproject.toml hold, and each catches a violation planted in a copy of the tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

VIOLATIONS = [
    ("services-independent", "services/planted/service.py", "from services.zone import service"),
    ("node-without-services", "mgmtnode/jobs/planted.py", "import services.zone.service"),
    ("core-without-domains", "mgmtnode/jobs/planted.py", "from mgmtnode.contracts.zone import Zone"),
    ("core-without-domains", "mgmtnode/cli/planted.py", "from mgmtnode.contracts import zone"),
    ("contracts-independent", "mgmtnode/contracts/planted.py", "from mgmtnode.contracts.zone import Zone"),
    ("contracts-light", "mgmtnode/contracts/planted.py", "from mgmtnode.db.session import Tx"),
    ("contracts-light", "mgmtnode/contracts/planted.py", "import httpx"),
    ("client-light", "mgmtnode/client/planted.py", "from mgmtnode.db import resource"),
    ("layers", "mgmtnode/helpers.py", ""),
    ("layers", "mgmtnode/db/planted.py", "import mgmtnode.bus.message"),
    ("layers", "mgmtnode/api/planted.py", "import mgmtnode.node.planted"),
    ("layers", "mgmtnode/errors.py", "import mgmtnode.ports"),
    ("owner-kombu", "mgmtnode/bus/planted.py", "def f():\n    import kombu"),
    ("owner-kombu", "mgmtnode/bus/planted.py", "from amqp import exceptions"),
    ("owner-uhashring", "mgmtnode/ring/planted.py", "from uhashring import HashRing"),
    ("owner-redis", "mgmtnode/api/planted.py", "import redis.asyncio"),
    ("owner-redis", "mgmtnode/bus/planted.py", "import limits"),
    ("owner-web", "mgmtnode/node.py", "import uvicorn"),
    ("owner-web", "services/zone/planted.py", "from uvicorn import Server"),
    ("owner-httpx", "services/zone/planted.py", "import httpx"),
    ("owner-click", "mgmtnode/node.py", "import click"),
    ("owner-aiohttp", "mgmtnode/node.py", "import aiohttp"),
    ("owner-alembic", "services/zone/planted.py", "from alembic import op"),
    ("owner-prometheus", "services/zone/planted.py", "import prometheus_client"),
    ("owner-opentelemetry", "mgmtnode/telemetry/planted.py", "from opentelemetry import trace"),
    ("owner-greenlet", "mgmtnode/db/planted.py", "from greenlet import greenlet"),
    ("owner-psycopg2", "services/zone/planted.py", "import psycopg2"),
    ("owner-sqlalchemy", "services/zone/service.py", "import sqlalchemy"),
    ("owner-sqlalchemy", "mgmtnode/jobs/planted.py", "from sqlalchemy import text"),
]

ALLOWED = [
    ("mgmtnode/bus/amqp.py", "import kombu"),
    ("mgmtnode/ring/hash_ring.py", "import uhashring"),
    ("mgmtnode/api/planted.py", "import uvicorn"),
    ("mgmtnode/client/planted.py", "import httpx, click, mgmtnode.contracts.zone"),
    ("mgmtnode/testing/planted.py", "import mgmtnode.contracts.zone"),
    ("mgmtnode/db/migrations/planted.py", "import alembic, sqlalchemy"),
    ("mgmtnode/query/planted.py", "import sqlalchemy"),
    ("mgmtnode/jobs/repository.py", "import sqlalchemy"),
    ("services/planted/models.py", "import sqlalchemy"),
    ("services/planted/repository.py", "import sqlalchemy"),
    ("services/planted/migrations/planted.py", "import alembic, sqlalchemy"),
]


def contracts(root: Path) -> dict[str, str]:
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {contract["id"]: contract["name"] for contract in settings["contracts"]}


def lint(root: Path) -> tuple[set[str], str]:
    """Names of the broken contracts, and the whole output. Names lose their blanks, as output is wrapped."""
    program = (
        "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    )
    command = [sys.executable, "-c", program, "--no-cache", "--config", "pyproject.toml"]
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=60)
    text = re.sub(r"\s+", "", done.stdout)
    broken = {name for name in contracts(root).values() if re.sub(r"\s+", "", name) + "BROKEN" in text}
    assert bool(broken) == bool(done.returncode), done.stdout + done.stderr
    return broken, done.stdout


def test_this_tree_keeps_every_rule(source: Path) -> None:
    broken, output = lint(source)
    assert not broken, output


@pytest.mark.parametrize(("contract", "path", "line"), VIOLATIONS)
def test_a_violation_is_caught(
    contract: str, path: str, line: str, copied: Path, plant: Callable[[str, str], Path]
) -> None:
    before = (copied / path).read_text() if (copied / path).exists() else ""
    if "mgmtnode.node.planted" in line:
        (copied / "mgmtnode/node.py").unlink(missing_ok=True)
        plant("mgmtnode/node/planted.py", "")
    plant(path, f"{before}\n{line}")
    broken, output = lint(copied)
    assert contracts(copied)[contract] in broken, output


def test_the_owners_may_import_what_they_own(copied: Path, plant: Callable[[str, str], Path]) -> None:
    for path, line in ALLOWED:
        before = (copied / path).read_text() if (copied / path).exists() else ""
        plant(path, f"{before}\n{line}")
    broken, output = lint(copied)
    assert not broken, output


def test_every_rule_has_a_planted_violation(source: Path) -> None:
    assert set(contracts(source)) == {contract for contract, _, _ in VIOLATIONS}
