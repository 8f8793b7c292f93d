"""A node that cannot start says why in one line, exits, leaves nothing behind, and harms nothing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

START = "from mgmtnode.cli.main import main; main()"
PATIENCE = 60.0
NOBODY = 65534
IMPATIENT = {"MGMTNODE_NODE_BOOT_SECONDS": "1"}  # else a database that is away is waited for
WITHOUT_POWER = (
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
)  # root, but no file is open to it
FAILED, TEMPORARY, CONFIGURATION = 1, 75, 78


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", START, *arguments]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MGMTNODE_")}
    return kept | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)} | more


def refused(*arguments: str, code: int, before: Sequence[str] = (), **variables: str) -> str:
    """The one line that a node writes before it exits with ``code``."""
    done = subprocess.run(
        [*before, *command(*arguments)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert len(lines) == 1 and not done.stdout, done.stderr + done.stdout
    assert lines[0].startswith("mgmtnode: ") and "Traceback" not in lines[0] and "sqlalche.me" not in lines[0]
    return lines[0]


def dev(directory: Path, *more: str) -> list[str]:
    return ["dev", "--port", "0", "--hosts", "0", "--data-dir", str(directory), *more]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(scope="session")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a node that served and was stopped. Tests work on copies."""
    directory = tmp_path_factory.mktemp("used") / "data"
    for _ in running(directory):
        pass
    return directory


def running(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A node that serves; told to stop when the caller goes on."""
    node = subprocess.Popen(
        command(*dev(directory)), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    too_late = threading.Timer(PATIENCE, node.kill)
    too_late.start()
    try:
        assert node.stdout is not None and node.stderr is not None
        assert node.stdout.readline().startswith("ready http://"), node.stderr.read()
        yield node
        node.send_signal(signal.SIGTERM)
        assert node.wait(PATIENCE) == 0
    finally:
        too_late.cancel()
        node.kill()
        node.communicate()


def starts(directory: Path) -> None:
    """Whether a node serves from this directory: the refusal left neither a lock nor damage."""
    for _ in running(directory):
        token = (directory / "admin-token").read_text().strip()
        assert token
        with sqlite3.connect(directory / "mgmtnode.db") as database:
            assert database.execute("select count(*) from resource where type = 'zone'").fetchone() == (1,)
        database.close()


def test_a_second_node_on_a_data_directory_is_refused_and_the_first_one_serves_on(data: Path) -> None:
    for first in running(data):
        line = refused(*dev(data), code=FAILED)
        assert str(data) in line and f"pid {first.pid}" in line and "PostgreSQL" in line
        assert first.poll() is None


def test_what_a_node_keeps_can_be_read_by_its_own_account_only(used: Path) -> None:
    kept = [used, *used.rglob("*")]
    assert {"mgmtnode.db", "admin-token"} <= {path.name for path in kept}
    assert not [path for path in kept if path.stat().st_mode & 0o077]


def test_a_taken_port_is_refused_and_the_data_can_be_used_afterwards(used: Path, data: Path) -> None:
    shutil.copytree(used, data)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused("dev", "--port", port, "--hosts", "0", "--data-dir", str(data), code=FAILED)
        assert f"127.0.0.1:{port}" in line and "in use" in line
    starts(data)


def test_a_file_that_is_no_database_is_named_and_left_as_it_is(data: Path) -> None:
    data.mkdir()
    for content in (b"not a database at all\n" * 100, os.urandom(50_000)):
        (data / "mgmtnode.db").write_bytes(content)
        line = refused(*dev(data), code=FAILED)
        assert "mgmtnode.db" in line and "not a database" in line and "backup" in line
        assert (data / "mgmtnode.db").read_bytes() == content


def test_a_database_with_a_damaged_page_is_named_and_left_as_it_is(used: Path, data: Path) -> None:
    shutil.copytree(used, data)
    damaged = bytearray((data / "mgmtnode.db").read_bytes())
    damaged[100:8192] = b"\xff" * (8192 - 100)  # the schema's own pages
    (data / "mgmtnode.db").write_bytes(bytes(damaged))
    line = refused(*dev(data), code=FAILED)
    assert "mgmtnode.db" in line and "backup" in line
    assert (data / "mgmtnode.db").read_bytes() == bytes(damaged)


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="NOT TESTED: needs root and setpriv"
)
def test_a_data_directory_that_cannot_be_written_is_named(data: Path) -> None:
    data.mkdir()
    os.chown(data, NOBODY, NOBODY)
    line = refused(*dev(data), code=FAILED, before=WITHOUT_POWER)
    assert str(data) in line and "Permission denied" in line and "write" in line
    assert contents(data) == {}
    line = refused(*dev(data / "below"), code=FAILED, before=WITHOUT_POWER)
    assert "Permission denied" in line


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="NOT TESTED: needs root and setpriv"
)
def test_a_database_that_cannot_be_written_is_named_and_unharmed(used: Path, data: Path) -> None:
    shutil.copytree(used, data)
    os.chown(data / "mgmtnode.db", NOBODY, NOBODY)
    (data / "mgmtnode.db").chmod(0o644)  # it can be read
    (data / "node.lock").unlink(missing_ok=True)
    before = (data / "mgmtnode.db").read_bytes()
    line = refused(*dev(data), code=TEMPORARY, before=WITHOUT_POWER)
    assert "mgmtnode.db" in line and "readonly" in line and "write" in line
    assert (data / "mgmtnode.db").read_bytes() == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)],
            capture_output=True,
            check=False,
        ).returncode
    )
    if not mounted:
        pytest.skip(
            "NOT TESTED: a full disk; only root may mount a small file system, and not in every container"
        )
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_disk_is_refused_and_nothing_is_lost(used: Path, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 900_000)
    line = refused(*dev(small_disk / "data"), code=TEMPORARY)
    assert "disk is full" in line or "No space left" in line
    (small_disk / "ballast").unlink()


TYPOS = [
    ("[api]\nprot = 1\n", ":4: unknown key api.prot; did you mean api.port?"),
    ("[aip]\nport = 1\n", ":3: unknown section aip; did you mean api?"),
    ("[api]\nport = '80'\n", ":4: api.port: expected an integer"),
    ("[api]\nport = 65536\n", ":4: api.port: expected at most 65535"),
    ("[api]\nport = -1\n", ":4: api.port: expected at least 0"),
    ("[api]\nport = true\n", ":4: api.port: expected an integer"),
    ("[log]\nlevel = 'loud'\n", ":4: log.level: expected one of"),
    ("[services]\nenabled = 'zone'\n", ":4: services.enabled: expected"),
    ("[services]\nenabled = ['zoen']\n", "'zoen'"),
    ("[services]\nenabled = ['cluster']\n", "requires the service"),
    ("[api\nport = 1\n", "not valid TOML"),
    ("port = 1\n", "port"),
    ("[database]\nurl = 'mysql://a:sekret@h/x'\n", "mysql is not supported"),
    ("[database]\nurl = 'nonsense sekret'\n", "database.url is not like postgresql"),
    ("[database]\nurl = 'postgresql://a:sekret@h:99999/x'\n", "database.url"),
    ("[database]\nurl_file = '/nowhere/sekret.txt'\n", "/nowhere/sekret.txt cannot be read"),
]


@pytest.mark.parametrize(("text", "expected"), TYPOS, ids=lambda v: None)
def test_a_fault_in_the_configuration_is_named_before_anything_is_touched(
    text: str, expected: str, tmp_path: Path
) -> None:
    file, data = tmp_path / "mgmtnode.toml", tmp_path / "data"
    file.write_text(f'[node]\ndata_dir = "{data}"\n{text}')
    line = refused("run", "--config", str(file), code=CONFIGURATION)
    assert expected in line
    assert "a:sekret" not in line and "nonsense sekret" not in line
    assert not data.exists() or not (data / "mgmtnode.db").exists()


def test_a_choice_of_services_without_one_that_a_node_needs_is_refused_before_anything_is_touched(
    tmp_path: Path,
) -> None:
    file, data = tmp_path / "mgmtnode.toml", tmp_path / "data"
    for enabled, expected in {
        "zone": "identity): nobody could log in",
        "vm": "requires the service",
        "identity,zoen": "'zoen'",
    }.items():
        file.write_text(
            f'[node]\ndata_dir = "{data}"\n[services]\nenabled = {enabled.split(",")}\n'.replace("'", '"')
        )
        assert expected in refused("run", "--config", str(file), code=CONFIGURATION)
        assert not data.exists()


def test_a_second_node_on_an_sqlite_database_that_is_given_by_its_url_is_refused(data: Path) -> None:
    for first in running(data):
        url = f"sqlite:///{data / 'mgmtnode.db'}"
        line = refused(*dev(data.parent / "other"), code=FAILED, MGMTNODE_DATABASE_URL=url, **IMPATIENT)
        assert f"pid {first.pid}" in line


def test_a_configuration_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    assert "no such file" in refused("run", "--config", str(tmp_path / "none.toml"), code=CONFIGURATION)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "binary.toml" in refused("run", "--config", str(tmp_path / "binary.toml"), code=CONFIGURATION)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MGMTNODE_API_PROT", "1", "did you mean MGMTNODE_API_PORT?"),
        ("MGMTNODE_LOG_LEVEL", "loud", "MGMTNODE_LOG_LEVEL"),
        ("MGMTNODE_NODE_DRAIN_SECONDS", "nan", "MGMTNODE_NODE_DRAIN_SECONDS"),
        ("MGMTNODE_SERVICES_ENABLED", "zone,zoen", "'zoen'"),
    ],
)
def test_a_variable_of_the_environment_is_checked_like_the_file(
    name: str, value: str, expected: str, data: Path
) -> None:
    assert expected in refused(*dev(data), code=CONFIGURATION, **{name: value})
    assert not data.exists()


def test_a_postgresql_that_cannot_be_reached_is_named_without_its_password(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"postgresql+psycopg2://admin:sekret@127.0.0.1:{port}/cloud"
    line = refused(*dev(data), code=TEMPORARY, MGMTNODE_DATABASE_URL=url, **IMPATIENT)
    assert str(port) in line and "refused" in line and "database.url" in line and "sekret" not in line


@pytest.mark.integration
def test_a_postgresql_without_the_database_or_the_user_is_named(postgres_url: str, data: Path) -> None:
    missing = postgres_url.rpartition("/")[0] + "/nowhere"
    line = refused(*dev(data), code=TEMPORARY, MGMTNODE_DATABASE_URL=missing, **IMPATIENT)
    assert '"nowhere" does not exist' in line
    scheme, _, rest = postgres_url.partition("://")
    stranger = f"{scheme}://stranger:sekret@{rest.partition('@')[2] or rest}"
    line = refused(*dev(data), code=TEMPORARY, MGMTNODE_DATABASE_URL=stranger, **IMPATIENT)
    assert "stranger" in line and "sekret" not in line


def test_a_database_that_lacks_what_its_revisions_make_is_named(used: Path, data: Path) -> None:
    shutil.copytree(used, data)
    with sqlite3.connect(data / "mgmtnode.db") as database:
        database.execute("drop table mn_lease")
    database.close()
    line = refused(*dev(data), code=CONFIGURATION)
    assert "no such table: mn_lease" in line and "mgmtnode db check" in line


def test_a_database_of_a_later_release_is_refused_and_unharmed(used: Path, data: Path) -> None:
    shutil.copytree(used, data)
    with sqlite3.connect(data / "mgmtnode.db") as database:
        database.execute(
            "update alembic_version set version_num = 'zone_9999' where version_num like 'zone%'"
        )
    database.close()
    line = refused(*dev(data), code=CONFIGURATION)
    assert "newer than this release" in line and "zone_9999" in line
    with sqlite3.connect(data / "mgmtnode.db") as database:
        assert ("zone_9999",) in database.execute("select version_num from alembic_version").fetchall()
    database.close()


STRANGERS = {
    "raises": ("raise RuntimeError('boom')\n", "RuntimeError: boom"),
    "syntax": ("def broken(:\n", "SyntaxError"),
    "nothing": ("", "manifest"),
    "other": ("manifest = 7\n", "not a ServiceManifest"),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_a_malformed_third_party_service_is_named(kind: str, tmp_path: Path, data: Path) -> None:
    source, expected = STRANGERS[kind]
    (tmp_path / "stranger.py").write_text(source)
    metadata = tmp_path / "stranger-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mgmtnode.services]\nstranger = stranger:manifest\n")
    path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    line = refused(*dev(data), code=CONFIGURATION, PYTHONPATH=path)
    assert "'stranger' (stranger:manifest)" in line and expected in line
    assert not data.exists()


def test_a_node_that_was_killed_leaves_no_lock(used: Path, data: Path) -> None:
    shutil.copytree(used, data)
    (data / "node.lock").write_text("1")
    starts(data)
