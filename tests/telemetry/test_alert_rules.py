"""The alert rules that come with the product speak of metrics that there are, and fire when they should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mgmtnode.telemetry.families import FAMILIES, Counter, Family, Histogram, Total

HERE = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((HERE / "mgmtnode.rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
SERIES = re.compile(r"\bmgmtnode_\w+(?:\{[^}]*\})?")


def series(family: Family) -> list[str]:
    name = f"mgmtnode_{family.name}"
    if isinstance(family, Histogram):
        return [f"{name}{part}" for part in ("_bucket", "_sum", "_count")]
    return [f"{name}_total" if isinstance(family, Counter | Total) else name]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_what_a_node_tells_and_says_what_to_do(rule: dict[str, Any]) -> None:
    labels = {name: family.labels for family in FAMILIES for name in series(family)}
    for found in SERIES.findall(rule["expr"]):
        name, _, conditions = found.partition("{")
        assert name in labels, f"there is no metric {name}"
        for label in re.findall(r"(\w+)\s*[=!]", conditions):
            assert label in labels[name], f"{name} has no label {label}"
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "action"}


def test_the_rules_fire_when_they_should_and_only_then() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "mgmtnode.test.yml"]):
        done = subprocess.run([promtool, *command], cwd=HERE, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
