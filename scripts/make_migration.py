"""See scripts/make-migration."""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from sqlalchemy import Table

from mgmtnode.db import generate
from mgmtnode.db.schema import CORE, CORE_PACKAGE, SchemaError, branch_name, branches, versions_of
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.loader import GROUP, discover
from mgmtnode.service import ServiceManifest

ROOT = Path(__file__).resolve().parent.parent
USAGE = "scripts/make-migration SERVICE|core MESSAGE | --initial SERVICE|core|all | --check"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/make-migration", usage=USAGE)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--initial", metavar="SERVICE")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    manifests = [manifest for manifest in discover(points=points()) if manifest.migrations]
    for folder in undeclared():
        print(f"note: services/{folder} is not in pyproject.toml and is left out", file=sys.stderr)
    if given.check and not given.words and not given.initial:
        return check(manifests)
    if given.initial and not given.words:
        return rewrite(manifests, given.initial)
    if len(given.words) == 2 and not given.initial:
        return add(manifests, *given.words)
    parser.print_usage()
    return 2


def points() -> list[EntryPoint]:
    """The services of this checkout as pyproject.toml has them now, and those of other installed distributions."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [EntryPoint(name, value, GROUP) for name, value in declared["entry-points"][GROUP].items()]
    others = [
        point for point in entry_points(group=GROUP) if point.dist and point.dist.name != declared["name"]
    ]
    return ours + others


def undeclared() -> list[str]:
    """Services with tables that no entry point names yet."""
    known = {point.name for point in points()}
    folders = (models.parent.name for models in (ROOT / "services").glob("*/models.py"))
    return sorted(folder for folder in folders if folder not in known)


def check(manifests: Sequence[ServiceManifest]) -> int:
    ours = [manifest for manifest in manifests if ROOT in versions_of(manifest.migrations).parents]
    try:
        found = generate.stale(branches(ours), owned(ours))
    except SchemaError as exc:
        found = [str(exc)]
    for line in found:
        print(line)
    if found:
        print(
            'run scripts/make-migration SERVICE "what changed"; before the first release: --initial SERVICE'
        )
    return 1 if found else 0


def rewrite(manifests: Sequence[ServiceManifest], wanted: str) -> int:
    """Replaces all revisions of a branch by one. Only while no release has shipped them."""
    packages = {CORE: CORE_PACKAGE} | {branch_name(m.id): m.migrations for m in manifests}
    tables = owned(manifests)
    names = list(packages) if wanted == "all" else [branch_name(wanted) if wanted != CORE else CORE]
    for name in names:
        if name not in packages:
            print(f"there is no service {name!r} with tables; there are {', '.join(packages)}")
            return 1
        if wanted == "all" and ROOT not in versions_of(packages[name]).parents:
            continue  # another distribution's: its own makers' business
        text = generate.initial(name, tables[name])
        for old in versions_of(packages[name]).glob("[0-9]*.py"):
            old.unlink()
        print(generate.write(packages[name], 1, "initial", text))
    return 0


def add(manifests: Sequence[ServiceManifest], service: str, message: str) -> int:
    name = CORE if service == CORE else branch_name(service)
    packages = {CORE: CORE_PACKAGE} | {branch_name(m.id): m.migrations for m in manifests}
    if name not in packages:
        print(f"there is no service {service!r} with tables; there are {', '.join(packages)}")
        return 1
    tables, package = owned(manifests)[name], packages[name]
    if not list(versions_of(package).glob("[0-9]*.py")):
        print(generate.write(package, 1, "initial", generate.initial(name, tables)))
        return 0
    known = branches([manifest for manifest in manifests if branch_name(manifest.id) == name])
    text = generate.change(known, known[-1], tables, message)
    if not text:
        print(f"{service}: the revisions have all that the models declare")
        return 0
    print(generate.write(package, known[-1].head + 1, message, text))
    print("Read it: a rename comes out as a drop and an add, and existing rows may need values.")
    return 0


def owned(manifests: Sequence[ServiceManifest]) -> dict[str, Sequence[Table]]:
    return {CORE: CORE_TABLES} | {branch_name(manifest.id): manifest.tables for manifest in manifests}


if __name__ == "__main__":
    raise SystemExit(main())
