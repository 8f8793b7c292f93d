"""Sizes and names: modules and functions stay small, and nothing is called a drawer."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

MODULE_LINES = 400
CONTRACT_LINES = 300
FUNCTION_LINES = 50
DRAWERS = {"util", "utils", "common", "helper", "helpers", "misc", "tools", "stuff", "lib"}


parsed = cache(ast.parse)  # the copies of the tree are the same text again and again


def modules(root: Path) -> Iterator[Path]:
    for package in ("mgmtnode", "services"):
        for path in sorted((root / package).rglob("*.py")):
            if "versions" not in path.parts:  # a migration is a list of statements, written once
                yield path


def long_modules(root: Path) -> list[str]:
    found = []
    for path in modules(root):
        limit = CONTRACT_LINES if path.parent == root / "mgmtnode/contracts" else MODULE_LINES
        lines = len(path.read_text().splitlines())
        if lines >= limit:
            found.append(
                f"{path.relative_to(root)} has {lines} lines; split it by what it is for (below {limit})"
            )
    return found


def long_functions(root: Path) -> list[str]:
    found = []
    for path in modules(root):
        for node in ast.walk(parsed(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    where = f"{path.relative_to(root)}:{node.lineno}"
                    found.append(f"{where} {node.name} has {lines} lines (at most {FUNCTION_LINES})")
    return found


def drawers(root: Path) -> list[str]:
    """Modules and packages named after nothing."""
    return [
        f"{path.relative_to(root)}: name it after what is in it"
        for path in modules(root)
        if DRAWERS & set((path.parent if path.name == "__init__.py" else path).stem.split("_"))
    ]


RULES = [long_modules, long_functions, drawers]
Rule = Callable[[Path], list[str]]


@pytest.mark.parametrize("rule", RULES)
def test_this_tree_keeps_the_rule(rule: Rule, source: Path) -> None:
    assert rule(source) == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (long_modules, "services/planted/x.py", "x = 1\n" * MODULE_LINES),
        (long_modules, "mgmtnode/contracts/planted.py", "x = 1\n" * CONTRACT_LINES),
        (long_functions, "services/planted/x.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES),
        (
            long_functions,
            "mgmtnode/jobs/planted.py",
            "class A:\n async def f():\n" + "  x = 1\n" * FUNCTION_LINES,
        ),
        (drawers, "services/planted/utils.py", ""),
        (drawers, "mgmtnode/common/__init__.py", ""),
        (drawers, "mgmtnode/jobs/job_helpers.py", ""),
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


def test_what_is_just_small_enough_passes(copied: Path, plant: Callable[[str, str], Path]) -> None:
    before = [rule(copied) for rule in RULES]
    plant("services/planted/x.py", "def f():\n" + "    x = 1\n" * (FUNCTION_LINES - 1) + "y = 1\n" * 340)
    assert [rule(copied) for rule in RULES] == before
