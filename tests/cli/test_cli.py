"""The command line, in this process."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from mgmtnode.cli.main import COMMANDS, invoke
from mgmtnode.config.core_properties import CORE_PROPERTIES


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MGMTNODE_CONFIG", raising=False)
    monkeypatch.setattr("mgmtnode.cli.settings.USUAL_PLACE", tmp_path / "none.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path}/data"\n[api]\nhost = "127.0.0.1"\nport = 0\n')
    return path


def output(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    seen = capsys.readouterr()
    return seen.out, seen.err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0
    out, _ = output(capsys)
    assert all(f"\n  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([command, "--help"]) == 0
    assert output(capsys)[0].startswith(f"Usage: mgmtnode {command}")


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["config", "nope"], ["dev", "--port", "x"], ["dev", "--hosts", "-1"], ["run", "more"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(arguments) == 2
    assert "Usage: mgmtnode" in output(capsys)[1]


def test_a_bad_configuration_exits_with_78_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[api]\nprot = 1\n")
    for command in (["config", "check"], ["services"], ["doctor"], ["db", "check"]):
        assert invoke([*command, "--config", str(path)]) == 78
        assert output(capsys) == ("", f"mgmtnode: {path}:2: unknown key api.prot; did you mean api.port?\n")
    assert invoke(["run", "--config", str(tmp_path / "no.toml")]) == 78
    assert "no such file" in output(capsys)[1]


def test_an_unknown_service_exits_with_78(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MGMTNODE_SERVICES_ENABLED", "zoen")
    assert invoke(["services"]) == 78
    assert "'zoen'" in output(capsys)[1]


def test_the_example_is_a_valid_file_that_check_accepts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["config", "example"]) == 0
    text, _ = output(capsys)
    assert {p.section for p in CORE_PROPERTIES} <= tomllib.loads(text).keys()
    path = tmp_path / "example.toml"
    path.write_text(text)
    assert invoke(["config", "check", "--config", str(path)]) == 0
    assert "right; 0 of" in output(capsys)[0]


def test_show_tells_where_each_value_is_from_and_no_secret(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MGMTNODE_DATABASE_URL", "postgresql+psycopg2://mn:hunter2@db/mn")
    assert invoke(["config", "show", "--config", str(file), "--json"]) == 0
    shown = json.loads(output(capsys)[0])
    assert shown["api.port"] == {"value": 0, "source": f"{file}:5"}
    assert shown["database.url"] == {
        "value": "postgresql+psycopg2://mn:****@db/mn",
        "source": "MGMTNODE_DATABASE_URL",
    }
    assert invoke(["config", "show", "--config", str(file)]) == 0
    assert "hunter2" not in output(capsys)[0]


def test_services_lists_what_each_declares(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["services", "--json"]) == 0
    listed = {each["id"]: each for each in json.loads(output(capsys)[0])}
    zone, config = listed["zone"], listed["config"]
    assert zone["resources"] == ["zone  /v1/zones"]
    assert "CreateZone  zone.create  POST /v1/zones  (operator)" in zone["messages"]
    assert zone["tables"] == ["zone"]
    assert "zone.created" in zone["events"]
    assert config["global_configs"][0].startswith("config.refresh_interval = 30")
    assert any(line.startswith("config.unknown") for line in config["error_codes"])
    assert invoke(["services"]) == 0
    assert "  resources:\n    zone  /v1/zones\n" in output(capsys)[0]


def test_the_schema_is_made_once_and_checked(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for command in ("check", "upgrade", "upgrade", "check", "current"):
        code = invoke(["db", command, "--config", str(file)])
        seen.append((code, "".join(output(capsys))))
    assert [code for code, _ in seen] == [1, 0, 0, 0, 0]
    assert "there is no database at" in seen[0][1]
    assert "applied core_0001" in seen[1][1]
    assert seen[2][1] == "up to date already\n"
    assert seen[4][1].startswith("SQLite 3.")


def test_a_database_that_cannot_be_reached_is_temporary(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MGMTNODE_DATABASE_URL", "postgresql+psycopg2://mn:hunter2@127.0.0.1:1/mn")
    assert invoke(["db", "check"]) == 75
    out, err = output(capsys)
    assert out == ""
    assert err.startswith(
        "mgmtnode: database.url (postgresql+psycopg2://mn:***@127.0.0.1:1/mn): the database did not do it"
    )
    assert err.count("\n") == 1
    assert "hunter2" not in err


def test_an_unexpected_fault_is_one_line_unless_its_origin_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("mgmtnode.cli.services.read_all", broken)
    assert invoke(["services"]) == 1
    assert output(capsys)[1].startswith("mgmtnode: ZeroDivisionError: two lines; run 'mgmtnode --traceback")
    with pytest.raises(ZeroDivisionError):
        invoke(["--traceback", "services"])
