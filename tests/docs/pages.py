"""Pages of the documentation: their blocks and links, and a shell session that runs a page as a reader would.

A block ```` ```sh ```` is run; ```` ```sh skip ```` is not. A page that starts no node finds a development node
running. A block ```` ```output ```` after one that is run shows what it prints on stdout: ``…`` stands for any text,
on a line of its own for any number of lines, and blanks for any number of blanks.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
ANCHOR = re.compile(r'<a id="([^"]+)"')
MARK = "\x1e"
SECONDS = 270.0
START = (
    "scripts/run >node.log & until grep -q ^ready node.log; do sleep 0.2; done"  # pages that start no node
)


@dataclass(frozen=True)
class Block:
    """``line`` is where its text begins in the page."""

    info: str
    text: str
    line: int


def pages() -> list[Path]:
    """Every page that people read, without what is generated."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(page for page in found if "measurements" not in page.parts)


def blocks(text: str) -> list[Block]:
    return [
        Block(m["info"].strip(), m["text"], text.count("\n", 0, m.start()) + 2) for m in FENCE.finditer(text)
    ]


def prose(text: str) -> str:
    """The page without its blocks."""
    return FENCE.sub("", text)


def links(text: str) -> list[str]:
    without_code = re.sub(r"`[^`\n]*`", "", prose(text))
    return LINK.findall(without_code)


def anchors(text: str) -> set[str]:
    """What links into a page may name: its headings as they are turned into ids, and explicit ones."""
    slugs = (
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(prose(text))
    )
    return {*slugs, *ANCHOR.findall(text)}


def steps(page: Path) -> list[tuple[Block, str | None]]:
    """The blocks to run, each with the output that is expected of it, if the page shows one."""
    found = blocks(page.read_text())
    following = [*found[1:], Block("", "", 0)]
    return [
        (block, after.text if after.info == "output" else None)
        for block, after in zip(found, following, strict=False)
        if block.info == "sh"
    ]


class Checkout:
    """A directory in which a page's commands find what they find in a checkout: ``scripts/run`` and ``.venv/bin``."""

    def __init__(self, directory: Path, port: int, replace: dict[str, str]) -> None:
        self.directory, self.port = directory, port
        self._replace = {"127.0.0.1:8080": f"127.0.0.1:{port}", "port = 8080": f"port = {port}", **replace}
        python = f"exec {sys.executable} -m"
        self._script("scripts/run", f"{python} mgmtnode.cli dev --port {port}")
        self._script(".venv/bin/mgmtnode", f"{python} mgmtnode.cli")
        self._script(".venv/bin/mnctl", f"{python} mgmtnode.client.mnctl")
        self._script(".venv/bin/python", f"exec {sys.executable}")

    def run(self, page: Path) -> list[str]:
        """Runs the page's blocks in one shell and returns what each printed. Fails naming the block's line."""
        todo = [block for block, _ in steps(page)]
        starts_one = "scripts/run" in todo[0].text or any("mgmtnode run" in block.text for block in todo)
        begin = "" if starts_one else START
        script = "\n".join(
            ["set -eu -o pipefail", begin, *(f"{self.here(b.text)}\nprintf '{MARK}'" for b in todo)]
        )
        code, out, err = self._shell(script)
        printed = out.split(MARK)
        if code != 0:
            failed = todo[min(len(printed), len(todo)) - 1]
            raise AssertionError(f"{page.name}:{failed.line}: exit code {code}\n{printed[-1]}\n{err[-3000:]}")
        return printed[:-1]

    def _shell(self, script: str) -> tuple[int, str, str]:
        out, err = self.directory / "stdout", self.directory / "stderr"
        with out.open("w") as stdout, err.open("w") as stderr:
            shell = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                code = shell.wait(SECONDS)
            finally:
                self._end(shell.pid)
        return code, out.read_text(), err.read_text()

    def _end(self, group: int) -> None:
        """What the page left running in the background ends with it."""
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MGMTNODE_")}
        return kept | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path)]),
            "MGMTNODE_URL": f"http://127.0.0.1:{self.port}",
            "HOME": str(self.directory),
            "XDG_CONFIG_HOME": str(self.directory / ".config"),
            "NO_COLOR": "1",
        }

    def here(self, text: str) -> str:
        """The page's text with this checkout's port and database in it."""
        for written, real in self._replace.items():
            text = text.replace(written, real)
        return text

    def _script(self, path: str, command: str) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'#!/bin/sh\n{command} "$@"\n')
        file.chmod(0o755)


def fits(expected: str, printed: str) -> bool:
    return re.fullmatch(_pattern(expected), _squeezed(printed), re.DOTALL) is not None


def _pattern(expected: str) -> str:
    parts = []
    for line in _squeezed(expected).splitlines():
        any_lines = line == "…"
        parts.append(
            r"(?:[^\n]*\n)*" if any_lines else r"[^\n]*".join(map(re.escape, line.split("…"))) + "\n"
        )
    return "".join(parts)


def _squeezed(text: str) -> str:
    """One blank for many, none at line ends, one newline at the end."""
    lines = [" ".join(line.split()) for line in text.strip("\n").splitlines()]
    return "".join(f"{line}\n" for line in lines)
