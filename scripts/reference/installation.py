"""What this tree declares: the manifests that pyproject.toml names, and the core's own declarations."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

from mgmtnode.errors import ErrorCode
from mgmtnode.loader import GROUP, discover
from mgmtnode.parts import declared_resources, query_over
from mgmtnode.query.describe import ResourceDescription, describe
from mgmtnode.schema import Resource
from mgmtnode.service import ServiceManifest

DECLARES_CODE = re.compile(r"^[A-Z_]+ = ErrorCode\(", re.MULTILINE)


@dataclass(frozen=True)
class Installation:
    """Manifests in the order of their ids; resources and what can be asked of them, by type."""

    root: Path
    manifests: list[ServiceManifest]
    resources: dict[str, Resource]
    queries: dict[str, ResourceDescription]

    def core_codes(self) -> Iterator[tuple[str, ErrorCode]]:
        """(module, code) of every code that the node itself declares, in the order of the modules' names."""
        for path in sorted((self.root / "mgmtnode").rglob("*.py")):
            if "contracts" not in path.parts and DECLARES_CODE.search(path.read_text()):
                name = ".".join(path.relative_to(self.root).with_suffix("").parts)
                module = import_module(name)
                yield from ((name, code) for code in own_codes(module))


def own_codes(module: ModuleType) -> list[ErrorCode]:
    """The codes assigned in a module; those it imports have their home elsewhere."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    targets = [node.targets[0] for node in tree.body if isinstance(node, ast.Assign)]
    assigned = [target.id for target in targets if isinstance(target, ast.Name)]
    return [code for name in assigned if isinstance(code := getattr(module, name), ErrorCode)]


def installation(root: Path) -> Installation:
    """Reads the tree's own pyproject.toml: what else is installed on this machine is left out."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    points = [EntryPoint(name, value, GROUP) for name, value in project["entry-points"][GROUP].items()]
    manifests = sorted(discover(points=points), key=lambda manifest: manifest.id)
    resources = declared_resources(manifests)
    return Installation(
        root=root,
        manifests=manifests,
        resources={resource.type: resource for resource in resources},
        queries=describe(query_over(manifests, resources).graph),
    )
