from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mgmtnode.config.core_properties import (
    API_PORT,
    CORE_PROPERTIES,
    DATA_DIR,
    DATABASE_URL,
    DRAIN_SECONDS,
    LOG_FORMAT,
    LOG_LEVEL,
    SERVICES_ENABLED,
)
from mgmtnode.config.example import example
from mgmtnode.config.file import ConfigFileError, Properties, without_secret
from mgmtnode.config.properties import GlobalProperty

WORKERS = GlobalProperty("box.workers", 4, "Threads", low=1, high=64)
ALIASES: GlobalProperty[list[str]] = GlobalProperty("box.aliases", [], "Other names", choices=("a", "b"))
SECRET = GlobalProperty("box.password", "", "Password of the box", secret=True)


def closed(text: str = "", *declared: GlobalProperty[Any], **environ: str) -> Properties:
    properties = Properties(text, environ=environ)
    properties.declare("box", declared)
    properties.close()
    return properties


def refused(text: str = "", *declared: GlobalProperty[Any], **environ: str) -> str:
    with pytest.raises(ConfigFileError) as raised:
        closed(text, *declared, **environ)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_without_a_file_everything_has_its_default() -> None:
    properties = closed()
    assert all(properties.get(p) == p.default for p in CORE_PROPERTIES)
    assert properties.source(API_PORT) == "default"


def test_the_environment_goes_before_the_file_and_both_are_named_as_source() -> None:
    text = '[api]\nport = 81\n[log]\nlevel = "debug"'
    properties = closed(text, MGMTNODE_API_PORT="82")
    assert (properties.get(API_PORT), properties.get(LOG_LEVEL)) == (82, "debug")
    assert (properties.source(API_PORT), properties.source(LOG_LEVEL)) == (
        "MGMTNODE_API_PORT",
        "mgmtnode.toml:4",
    )


def test_each_type_is_read_from_file_and_environment() -> None:
    text = '[node]\ndrain_seconds = 5\n[services]\nenabled = ["zone", "vm"]\n[box]\nworkers = 8'
    properties = closed(text, WORKERS)
    assert properties.get(DRAIN_SECONDS) == 5.0
    assert isinstance(properties.get(DRAIN_SECONDS), float)
    assert (properties.get(SERVICES_ENABLED), properties.get(WORKERS)) == (["zone", "vm"], 8)
    environ = {
        "MGMTNODE_NODE_DRAIN_SECONDS": "2.5",
        "MGMTNODE_SERVICES_ENABLED": " zone, vm ,",
        "MGMTNODE_BOX_WORKERS": "9",
    }
    properties = closed("", WORKERS, **environ)
    assert (properties.get(DRAIN_SECONDS), properties.get(SERVICES_ENABLED)) == (2.5, ["zone", "vm"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[api]\nport = 1\nprot = 2", "mgmtnode.toml:3: unknown key api.prot; did you mean api.port?"),
        ("\n[apy]\nport = 1", "mgmtnode.toml:2: unknown section apy; did you mean api?"),
        ("port = 1", "mgmtnode.toml:1: port is outside of any section"),
        ("api.port = 'x'", "mgmtnode.toml:1: api.port: expected an integer, got 'x'"),
        ("[api]\nport = 70000", "mgmtnode.toml:2: api.port: expected at most 65535, got 70000"),
        ("[api]\nport = -1", "mgmtnode.toml:2: api.port: expected at least 0, got -1"),
        ("[api]\nport = true", "expected an integer, got True"),
        ("[api]\nport = 1.0", "expected an integer, got 1.0"),
        ("[api]\nport = [1]", "expected an integer"),
        ("[node]\ndrain_seconds = nan", "expected at least 0, got nan"),
        ("[services]\nenabled = [1]", "expected a list of strings"),
        ("[log]\nformat = 'xml'", "expected one of text, json, got 'xml'"),
        ("[box]\naliases = ['c']", "expected one of a, b, got 'c'"),
        ("[api.port]\nx = 1", "expected an integer"),
        ("[api", "mgmtnode.toml: not valid TOML"),
        ("[api]\nport = 1\nport = 2", "not valid TOML"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, message: str) -> None:
    assert message in refused(text, ALIASES)


def test_a_mistake_in_the_environment_is_told_by_the_name_of_the_variable() -> None:
    assert refused(MGMTNODE_API_PORT="http") == "MGMTNODE_API_PORT: api.port: expected an integer, got 'http'"
    assert "did you mean MGMTNODE_API_PORT?" in refused(MGMTNODE_API_PROT="1")


def test_variables_of_the_client_and_the_platform_are_left_alone() -> None:
    closed(MGMTNODE_URL="http://x", MGMTNODE_TOKEN="x", MGMTNODE_SERVICE_HOST="10.0.0.1", PATH="/bin")


def test_a_section_of_a_service_is_known_once_the_service_declares_it() -> None:
    text = "[box]\nworkers = 8"
    assert "unknown section box" in refused(text)
    assert closed(text, WORKERS).get(WORKERS) == 8


def test_a_property_declared_twice_or_without_a_section_is_refused() -> None:
    assert refused("", API_PORT) == "box: the property api.port is declared twice"
    assert "a property's name is section.key" in refused("", GlobalProperty("port", 1, ""))


def test_a_property_nobody_declared_cannot_be_read() -> None:
    with pytest.raises(LookupError, match=r"box\.workers is not declared"):
        closed().get(WORKERS)


def test_a_secret_comes_from_a_file_without_its_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("s3cret \n")
    from_file = closed(f'[box]\npassword_file = "{path}"', SECRET)
    from_environment = closed("", SECRET, MGMTNODE_BOX_PASSWORD_FILE=str(path))
    assert from_file.get(SECRET) == from_environment.get(SECRET) == "s3cret"
    assert (
        closed(f'[box]\npassword_file = "{path}"', SECRET, MGMTNODE_BOX_PASSWORD="other").get(SECRET)
        == "other"
    )


def test_a_secret_given_twice_missing_or_empty_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert "is given twice" in refused(f'[box]\npassword = "x"\npassword_file = "{empty}"', SECRET)
    assert f"the secret's file {empty} is empty" in refused(f'[box]\npassword_file = "{empty}"', SECRET)
    assert "No such file" in refused(f'[box]\npassword_file = "{tmp_path}/no"', SECRET)
    assert "unknown key box.workers_file" in refused("[box]\nworkers_file = 'x'", WORKERS)


def test_a_secret_is_not_shown_nor_told_in_errors() -> None:
    assert "hunter2" not in refused("[box]\npassword = ['hunter2']", SECRET)
    assert closed("[box]\npassword = 'hunter2'", SECRET).shown(SECRET) == "****"
    assert closed().shown(DATABASE_URL) == ""


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("postgresql+psycopg2://mn:pw@db:5432/mn?password=x", "postgresql+psycopg2://mn:****@db:5432/mn"),
        ("amqp://guest@broker/%2f", "amqp://guest@broker/%2f"),
        ("redis://:pw@cache", "redis://:****@cache"),
        ("http://[::bad", "****"),
        ("plain", "****"),
    ],
)
def test_of_a_secret_url_only_the_way_is_shown(secret: str, shown: str) -> None:
    assert without_secret(secret) == shown


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    assert closed('[node]\ndata_dir = "~/mn"').get(DATA_DIR) == "/home/ana/mn"


def test_an_override_is_checked_like_the_rest() -> None:
    properties = closed("[api]\nport = 81")
    properties.override(API_PORT, 90, "--port")
    assert (properties.get(API_PORT), properties.source(API_PORT)) == (90, "--port")
    with pytest.raises(
        ConfigFileError, match=r"--format: log\.format: expected one of text, json, got 'xml'"
    ):
        properties.override(LOG_FORMAT, "xml", "--format")


def test_a_missing_file_and_one_that_is_not_text_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=r"no such file; 'mgmtnode config example'"):
        Properties.load(tmp_path / "no.toml", {})
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigFileError, match=r"broken\.toml: cannot be read"):
        Properties.load(broken, {})


def test_the_example_uncommented_is_a_valid_file_with_all_defaults() -> None:
    declared = [*CORE_PROPERTIES, WORKERS, ALIASES, SECRET]
    text = example(declared)
    assert tomllib.loads(text) == {p.section: {} for p in declared}
    properties = closed(re.sub(r"(?m)^# (\w+ = )", r"\1", text), WORKERS, ALIASES, SECRET)
    assert all(properties.get(p) == p.default for p in declared)
    assert all(properties.source(p) != "default" for p in declared)


def test_the_example_says_what_is_accepted() -> None:
    text = example([WORKERS, SECRET])
    assert "# Threads. An integer, 1 to 64. MGMTNODE_BOX_WORKERS\n# workers = 4\n" in text
    assert "MGMTNODE_BOX_PASSWORD (secret)" in text
