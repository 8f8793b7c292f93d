"""Reads ``mgmtnode.toml`` and the environment, and checks them against the declared properties."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from mgmtnode.config.core_properties import CORE_PROPERTIES
from mgmtnode.config.properties import GlobalProperty
from mgmtnode.config.toml_lines import line_of

V = TypeVar("V", int, float, bool, str, list[str])

PREFIX = "MGMTNODE_"
FILE_SUFFIX = "_file"
SECRET_BYTES = 65536
HIDDEN = "****"


class ConfigFileError(Exception):
    """The configuration cannot be used. Its text is one line for the operator: where, what, and what was
    expected."""


class Properties:
    """The values of all global properties of this node, fixed once the node has booted.

    Made in two steps, because which services exist is itself a property: ``load`` reads everything and checks
    the core's properties, ``declare`` adds a service's, and ``close`` refuses what nobody declared.
    """

    def __init__(
        self, text: str = "", *, file: str = "mgmtnode.toml", environ: Mapping[str, str] | None = None
    ) -> None:
        self.file = file
        self._text = text
        self._environ = dict(environ or {})
        self._tables = self._parse(text)
        self._declared: dict[str, GlobalProperty[Any]] = {}
        self._values: dict[str, Any] = {}
        self._sources: dict[str, str] = {}
        self.declare("the node", CORE_PROPERTIES)

    @classmethod
    def load(cls, path: Path | str | None, environ: Mapping[str, str]) -> Properties:
        """Reads ``path`` (None: no file, only the environment). Raises ConfigFileError."""
        if path is None:
            return cls(file="(no file)", environ=environ)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigFileError(
                f"{path}: no such file; 'mgmtnode config example' prints one to start from"
            ) from None
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigFileError(f"{path}: cannot be read: {_reason(exc)}") from exc
        return cls(text, file=str(path), environ=environ)

    def declare(self, by: str, properties: Iterable[GlobalProperty[Any]]) -> None:
        """Adds the properties of ``by`` and reads their values. Raises ConfigFileError."""
        for declared in properties:
            if not declared.section or not declared.key or "." in declared.key:
                raise ConfigFileError(f"{by}: a property's name is section.key, not {declared.name!r}")
            if declared.name in self._declared:
                raise ConfigFileError(f"{by}: the property {declared.name} is declared twice")
            self._declared[declared.name] = declared
            self._read(declared)

    def close(self) -> None:
        """Refuses sections, keys and variables that nobody declared, naming the nearest that somebody did."""
        for section, table in self._tables.items():
            known = [p for p in self._declared.values() if p.section == section]
            if not known:
                sections = sorted({p.section for p in self._declared.values()})
                raise self._bad(section, "", f"unknown section {section}{_nearest(section, sections)}")
            keys = [p.key for p in known] + [p.key + FILE_SUFFIX for p in known if p.secret]
            for key in table:
                if key not in keys:
                    raise self._bad(
                        section, key, f"unknown key {section}.{key}{_nearest(key, keys, section + '.')}"
                    )
        self._refuse_unknown_variables()

    def get(self, prop: GlobalProperty[V]) -> V:
        if prop.name not in self._values:
            raise LookupError(f"the property {prop.name} is not declared in any manifest")
        return cast("V", self._values[prop.name])

    def override(self, prop: GlobalProperty[V], value: V, source: str = "the command line") -> None:
        """Sets a value over file and environment, checked like theirs. Raises ConfigFileError naming
        ``source``."""
        self._set(prop, Found(source, value, prop.parse))

    def source(self, prop: GlobalProperty[Any]) -> str:
        """Where the value comes from, for people: ``default``, ``mgmtnode.toml:3``, ``MGMTNODE_API_PORT``
        …"""
        return self._sources[prop.name]

    def shown(self, prop: GlobalProperty[V]) -> V | str:
        """The value for people to read; of a secret, only where it leads."""
        value = self.get(prop)
        return without_secret(value) if prop.secret and value else value

    @property
    def declared(self) -> tuple[GlobalProperty[Any], ...]:
        """All declared properties, in the order of their declaration."""
        return tuple(self._declared.values())

    def _parse(self, text: str) -> dict[str, dict[str, Any]]:
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as exc:
            raise ConfigFileError(f"{self.file}: not valid TOML: {exc}") from exc
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise self._bad(
                    name, "", f"{name} is outside of any section; write it below a line like [node]"
                )
        return tables

    def _read(self, prop: GlobalProperty[Any]) -> None:
        self._set(prop, Found("default", prop.default, prop.parse))
        for layer in (self._in_file(prop), self._in_environment(prop)):
            found = [each for each in layer if each.raw is not None]
            if len(found) > 1:
                raise ConfigFileError(
                    f"{found[1].where}: {prop.name} is given twice; {found[0].where} has it too"
                )
            for each in found:
                self._set(prop, each)

    def _in_environment(self, prop: GlobalProperty[Any]) -> Iterator[Found]:
        yield Found(prop.env, self._environ.get(prop.env), prop.parse_text)
        if prop.secret:
            name = prop.env + FILE_SUFFIX.upper()
            yield Found(name, self._environ.get(name), lambda path: prop.parse_text(_secret(path)))

    def _in_file(self, prop: GlobalProperty[Any]) -> Iterator[Found]:
        table = self._tables.get(prop.section, {})
        yield Found(self._place(prop.section, prop.key), table.get(prop.key), prop.parse)
        if prop.secret:
            key = prop.key + FILE_SUFFIX
            yield Found(
                self._place(prop.section, key), table.get(key), lambda path: prop.parse_text(_secret(path))
            )

    def _set(self, prop: GlobalProperty[Any], found: Found) -> None:
        try:
            self._values[prop.name] = found.parse(found.raw)
        except ValueError as exc:
            raise ConfigFileError(f"{found.where}: {prop.name}: {exc}") from None
        self._sources[prop.name] = found.where

    def _refuse_unknown_variables(self) -> None:
        """Only below a known section: MGMTNODE_URL and its like belong to the client, others to the
        platform."""
        known = {p.env for p in self._declared.values()}
        known |= {p.env + FILE_SUFFIX.upper() for p in self._declared.values() if p.secret}
        sections = tuple(f"{PREFIX}{p.section.upper().replace('-', '_')}_" for p in self._declared.values())
        for name in self._environ:
            if name.startswith(sections) and name not in known:
                raise ConfigFileError(
                    f"{name}: unknown variable of the environment{_nearest(name, sorted(known))}"
                )

    def _place(self, section: str, key: str) -> str:
        line = line_of(self._text, section, key)
        return f"{self.file}:{line}" if line else self.file

    def _bad(self, section: str, key: str, why: str) -> ConfigFileError:
        return ConfigFileError(f"{self._place(section, key)}: {why}")


@dataclass(frozen=True, slots=True)
class Found:
    """A place that may give a property its value: where it is, what stands there (None: nothing), how to
    read it."""

    where: str
    raw: Any
    parse: Callable[[Any], Any]


def without_secret(value: object) -> str:
    """What may be shown of a secret: of a URL scheme, user, host and path, of anything else nothing."""
    try:
        parts = urlsplit(str(value))
        if not parts.scheme or not parts.hostname:
            return HIDDEN
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:
        return HIDDEN
    user = (
        f"{parts.username or ''}:{HIDDEN}@"
        if parts.password
        else f"{parts.username}@"
        if parts.username
        else ""
    )
    return f"{parts.scheme}://{user}{host}{parts.path}"


def _secret(path: object) -> str:
    """The text of a secret's file without the newline at its end. Raises ValueError."""
    if not isinstance(path, str):
        raise ValueError(f"expected the name of a file, got {path!r}")
    try:
        with Path(path).expanduser().open("rb") as file:
            text = file.read(SECRET_BYTES).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"the secret's file {path} cannot be read: {_reason(exc)}") from exc
    if not text:
        raise ValueError(f"the secret's file {path} is empty")
    return text


def _nearest(word: str, known: Sequence[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {prefix}{near[0]}?" if near else f"; known are {', '.join(known[:12])}"


def _reason(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
