"""The documentation: what it tells people to type works, and what it links to is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mgmtnode.testing.local_cluster.directory import ClusterDirectory
from mgmtnode.testing.servers import free_port
from tests.docs.pages import ROOT, Block, Checkout, anchors, blocks, fits, links, pages, steps

RUNNABLE = [page for page in pages() if steps(page)]
DOCUMENTED_DATABASE = "postgresql+psycopg2://mgmtnode:secret@127.0.0.1/mgmtnode"
DOCUMENTED_BROKER = "amqp://guest:guest@127.0.0.1:5672/mgmtnode-api"
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|root|tmp/[\w-]+|home/\w+|Users)\b")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_what_a_page_tells_to_type_works_and_prints_what_it_shows(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    replace = {}
    if DOCUMENTED_DATABASE in page.read_text():
        replace[DOCUMENTED_DATABASE] = str(request.getfixturevalue("postgres_url"))
    if DOCUMENTED_BROKER in page.read_text():
        replace[DOCUMENTED_BROKER] = str(request.getfixturevalue("rabbit_url"))
    cluster = "--nodes" in " ".join(block.text for block, _ in steps(page))
    if (
        cluster
    ):  # it has its own servers; these are asked for so that the test is skipped where there are none
        request.getfixturevalue("postgres_server"), request.getfixturevalue("rabbit_server")
    checkout = Checkout(tmp_path, free_port(), replace)
    try:
        printed = checkout.run(page)
    finally:
        if cluster:
            ClusterDirectory(tmp_path / "data").remove_servers()
    wrong = [
        f"{name(page)}:{block.line}: expected\n{expected}\nbut it printed\n{said}"
        for (block, expected), said in zip(steps(page), printed, strict=True)
        if expected is not None and not fits(checkout.here(expected), said)
    ]
    if wrong:
        pytest.fail("\n\n".join(wrong), pytrace=False)


@pytest.mark.parametrize("page", pages(), ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page.read_text()):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        inside = anchor and target.suffix == ".md"
        if not target.exists() or (inside and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=name)
def test_no_page_names_a_path_of_some_machine(page: Path) -> None:
    assert MACHINE_PATHS.findall(page.read_text()) == []


@pytest.mark.parametrize("page", pages(), ids=name)
def test_files_that_are_named_in_code_exist(page: Path) -> None:
    said = re.findall(r"`((?:mgmtnode|services|scripts|docs|tests)/[\w./-]+)`", page.read_text())
    assert [path for path in said if not (ROOT / path).exists() and "…" not in path] == []


def test_the_reference_is_what_would_be_generated_now() -> None:
    from scripts.reference.__main__ import PAGES, stale
    from scripts.reference.installation import installation

    made = {page: make(installation(ROOT)) for page, make in PAGES.items()}
    assert stale(ROOT / "docs" / "reference", made) == []


@pytest.mark.parametrize("script", ["run", "test", "check", "generate-docs"])
def test_every_script_explains_itself(script: str) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / script, "--help"], check=True, capture_output=True, text=True, timeout=30
    )
    assert "usage: scripts/" + script in done.stdout


def test_expected_output_stands_for_what_is_printed() -> None:
    assert fits("NAME  UUID\nweb   …\n", "NAME   UUID\nweb    0192\n")
    assert fits("a\n…\nz\n", "a\nb\nc\nz\n")
    assert not fits("a\nz\n", "a\nb\nz\n")
    assert not fits("a … z\n", "a b\n")


def test_blocks_say_whether_they_are_run() -> None:
    text = "x\n```sh\none\n```\n\n```output\n1\n```\n```sh skip\ntwo\n```\n"
    assert blocks(text) == [
        Block("sh", "one\n", 3),
        Block("output", "1\n", 7),
        Block("sh skip", "two\n", 10),
    ]


def bare(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def test_the_tutorial_shows_the_example_as_it_is() -> None:
    example = ROOT / "docs" / "examples" / "greeting"
    files = [example / "pyproject.toml", *example.rglob("*.py")]
    code = "\n".join(bare(file.read_text()) for file in files)
    page = (ROOT / "docs" / "tutorial" / "write-a-service.md").read_text()
    shown = [bare(block.text) for block in blocks(page) if block.info in ("python", "toml")]
    assert [text for text in shown if text not in code] == []
    assert len(shown) > 3
