"""Rules on imports that need more than the import graph: types count too, and strings are no back door.

- A service imports no other service and the node imports none, not even for types.
- A contract imports nothing but declarations.
- No string in the node or in a service names another service's module.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

DECLARATIONS = (
    "mgmtnode.schema",
    "mgmtnode.errors",
    "mgmtnode.bus.message",
    "mgmtnode.config.global_config",
    "mgmtnode.extension.point",
    "mgmtnode.tags.system_tag",
    "msgspec",
)
# Extension points mention what their implementors get; only their signatures do, so only for types.
SIGNATURES = ("mgmtnode.db.session", "mgmtnode.workflow.handle")


parsed = cache(ast.parse)  # the copies of the tree are the same text again and again


def modules(root: Path, *folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root), parsed(path.read_text())


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, wherever it stands; a relative one as "." and its tail."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield node.lineno, base
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def home(path: Path) -> str:
    """``services.zone`` for the files of that service, ``mgmtnode`` for the node's."""
    return ".".join(path.parts[:2]) if path.parts[0] == "services" else path.parts[0]


def is_foreign(name: str, path: Path) -> bool:
    """Whether a dotted name is below ``services``, and not in the service that ``path`` belongs to."""
    return name.startswith("services.") and f"{name}.".split(".")[1] not in ("", *home(path).split(".")[1:])


def foreign_imports(root: Path) -> list[str]:
    return [
        f"{path}:{line} imports {name}"
        for path, tree in modules(root, "mgmtnode", "services")
        for line, name in imported(tree)
        if is_foreign(name, path) or name.startswith("..")
    ]


def foreign_names(root: Path) -> list[str]:
    """Strings such as "services.host.service" or "services/host", in code but not in docstrings."""
    services = {folder.name for folder in (root / "services").iterdir() if folder.is_dir()}
    return [
        f"{path}:{node.lineno} says {node.value!r}"
        for path, tree in modules(root, "mgmtnode", "services")
        for node in strings(tree)
        if is_foreign(name := node.value.replace("/", "."), path) and f"{name}.".split(".")[1] in services
    ]


def strings(tree: ast.Module) -> Iterator[ast.Constant]:
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node


def impure_contracts(root: Path) -> list[str]:
    complaints = []
    for path, tree in modules(root, "mgmtnode/contracts"):
        for_types = type_checking_lines(tree)
        for line, name in imported(tree):
            allowed = (*DECLARATIONS, *SIGNATURES) if line in for_types else DECLARATIONS
            if name.split(".")[0] not in sys.stdlib_module_names and not is_below(name, allowed):
                complaints.append(f"{path}:{line} imports {name}")
    return complaints


def type_checking_lines(tree: ast.Module) -> set[int]:
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return {line for block in blocks for line in range(block.lineno, (block.end_lineno or block.lineno) + 1)}


def is_below(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


RULES = [foreign_imports, foreign_names, impure_contracts]
Rule = Callable[[Path], list[str]]


@pytest.mark.parametrize("rule", RULES)
def test_this_tree_keeps_the_rule(rule: Rule, source: Path) -> None:
    assert rule(source) == []


FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {}"


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (
            foreign_imports,
            "services/planted/x.py",
            FOR_TYPES.format("services.zone.service import ZoneService"),
        ),
        (foreign_imports, "services/planted/x.py", "from services import zone"),
        (foreign_imports, "services/planted/x.py", "from ..zone import service"),
        (
            foreign_imports,
            "mgmtnode/planted.py",
            FOR_TYPES.format("services.zone.service import ZoneService"),
        ),
        (foreign_names, "services/planted/x.py", 'importlib.import_module("services.zone.service")'),
        (foreign_names, "mgmtnode/planted.py", 'MODULE = f"services.zone.{name}"'),
        (foreign_names, "mgmtnode/planted.py", 'PATH = "services/zone/manifest.py"'),
        (impure_contracts, "mgmtnode/contracts/planted.py", "import sqlalchemy"),
        (impure_contracts, "mgmtnode/contracts/planted.py", "from mgmtnode import service"),
        (impure_contracts, "mgmtnode/contracts/planted.py", "from mgmtnode.workflow.handle import JobHandle"),
        (impure_contracts, "mgmtnode/contracts/planted.py", "from mgmtnode.bus import bus"),
        (
            impure_contracts,
            "mgmtnode/contracts/planted.py",
            FOR_TYPES.format("mgmtnode.contracts.zone import Zone"),
        ),
        (impure_contracts, "mgmtnode/contracts/planted.py", "from .zone import Zone"),
    ],
)
def test_a_violation_is_caught(
    rule: Rule, path: str, text: str, copied: Path, plant: Callable[[str, str], Path]
) -> None:
    before = rule(copied)
    plant(path, text)
    caught = [complaint for complaint in rule(copied) if complaint not in before]
    assert caught
    assert all(complaint.startswith(path) for complaint in caught)


def test_a_service_may_name_and_import_itself(copied: Path, plant: Callable[[str, str], Path]) -> None:
    plant("services/planted/x.py", 'from services.planted import y\nZ = "services.planted.migrations"')
    assert [c for rule in RULES for c in rule(copied) if "planted" in c] == []
