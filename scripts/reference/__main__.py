"""``python -m scripts.reference [--check]``, run in the checkout."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from scripts.reference import api, commands, errors, events, metrics, services, settings
from scripts.reference.installation import Installation, installation

ROOT = Path(__file__).resolve().parents[2]
PAGES: dict[str, Callable[[Installation], str]] = {
    "services.md": services.page,
    "api.md": api.page,
    "errors.md": errors.page,
    "events.md": events.page,
    "metrics.md": metrics.page,
    "global-configs.md": settings.global_configs,
    "global-properties.md": settings.global_properties,
    "mgmtnode.toml": settings.example_file,
    "system-tags.md": settings.system_tags,
    "cli.md": commands.page,
}


def stale(directory: Path, pages: dict[str, str]) -> list[str]:
    """The names of pages that are missing, differ, or are made by nobody any more."""
    there = {path.name: path.read_text() for path in directory.glob("*") if path.is_file()}
    return sorted(name for name in pages.keys() | there.keys() if pages.get(name) != there.get(name))


def write(directory: Path, pages: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in stale(directory, pages):
        if name in pages:
            (directory / name).write_text(pages[name])
        else:
            (directory / name).unlink()


def main(arguments: list[str]) -> int:
    here = installation(ROOT)
    pages = {name: make(here) for name, make in PAGES.items()}
    directory = ROOT / "docs" / "reference"
    names = stale(directory, pages)
    if arguments == ["--check"]:
        for name in names:
            print(f"docs/reference/{name} is not current; run scripts/generate-docs")
        return 1 if names else 0
    write(directory, pages)
    print(f"docs/reference: {len(names)} of {len(pages)} pages changed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
