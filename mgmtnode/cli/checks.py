"""The checks of ``mgmtnode doctor``: each returns how it went and one line, or raises with the reason."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import sqlite3
import ssl
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from mgmtnode.cli.db import open_configured
from mgmtnode.config.core_properties import (
    API_AMQP_URL,
    API_HOST,
    API_PORT,
    BUS_CA,
    BUS_URL,
    DATA_DIR,
    DATABASE_URL,
    REDIS_CA,
    REDIS_URL,
)

if TYPE_CHECKING:
    from mgmtnode.config.file import Properties
    from mgmtnode.config.properties import GlobalProperty

CONNECT_SECONDS = 5.0
SKEW_SECONDS = 5.0
SPARE_BYTES = 1 << 30
SQLITE = (3, 35)
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Finding(NamedTuple):
    check: str
    level: Level
    text: str


Outcome = tuple[Level, str]


def python(_: Properties) -> Outcome:
    found = ".".join(map(str, sys.version_info[:3]))
    return (Level.OK if sys.version_info >= (3, 11) else Level.FAILED, f"{found} (3.11 or newer is needed)")


def packages(_: Properties) -> Outcome:
    try:
        wanted = [r for r in requires("mgmtnode") or () if "extra ==" not in r]
    except PackageNotFoundError:
        return (
            Level.WARNING,
            "mgmtnode runs from a source tree that is not installed; versions are not checked",
        )
    faults = [fault for requirement in wanted if (fault := _unmet(requirement))]
    return (
        (Level.FAILED, "; ".join(faults)) if faults else (Level.OK, f"{len(wanted)} packages, all new enough")
    )


def sqlite(_: Properties) -> Outcome:
    with tempfile.TemporaryDirectory() as directory:
        connection = sqlite3.connect(Path(directory) / "probe.db")
        mode = connection.execute("pragma journal_mode=wal").fetchone()[0]
        connection.close()
    fits = sqlite3.sqlite_version_info >= SQLITE and mode == "wal"
    return Level.OK if fits else Level.FAILED, f"{sqlite3.sqlite_version}, journal mode {mode}"


def data_directory(properties: Properties) -> Outcome:
    directory = Path(properties.get(DATA_DIR))
    place = directory
    while not place.exists():
        place = place.parent
    with tempfile.TemporaryFile(dir=place):
        pass
    free = shutil.disk_usage(place).free
    text = f"{directory}, {free / (1 << 30):.1f} GiB free" + ("" if place == directory else "; will be made")
    return (Level.OK if free >= SPARE_BYTES else Level.WARNING), text


def port(properties: Properties) -> Outcome:
    host, number = properties.get(API_HOST), properties.get(API_PORT)
    family, kind, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as exc:
            return (
                Level.FAILED,
                f"{host}:{number} cannot be taken: {exc.strerror}; is a node running already?",
            )
    return Level.OK, f"{host}:{number} is free"


def database(properties: Properties) -> Outcome:
    if not properties.get(DATABASE_URL):
        return Level.OK, "embedded SQLite in the data directory; for one node only"
    return Level.OK, f"{_server(properties)[0]} at {properties.shown(DATABASE_URL)}"


def broker(properties: Properties) -> Outcome:
    if urlsplit(properties.get(BUS_URL)).scheme in ("redis", "rediss"):
        return _redis(properties, BUS_URL, BUS_CA)
    return _amqp(properties, BUS_URL, "in memory; for one node only")


def amqp_api(properties: Properties) -> Outcome:
    return _amqp(properties, API_AMQP_URL, "not used")


def _amqp(properties: Properties, prop: GlobalProperty[str], unset: str) -> Outcome:
    """Only that an AMQP 0-9-1 broker answers; user and password are tried when the node starts."""
    url = properties.get(prop)
    if not url:
        return Level.OK, unset
    parts = urlsplit(url)
    with _connected(parts.hostname or "", parts.port or (5671 if parts.scheme == "amqps" else 5672)) as raw:
        link = _wrapped(raw, parts.hostname or "", properties.get(BUS_CA)) if parts.scheme == "amqps" else raw
        link.sendall(AMQP_HEADER)
        answer = link.recv(8)
    if answer[:1] != METHOD_FRAME:
        return Level.FAILED, f"{properties.shown(prop)} does not speak AMQP 0-9-1 (it said {answer!r})"
    return Level.OK, f"AMQP 0-9-1 at {properties.shown(prop)}"


def redis(properties: Properties) -> Outcome:
    return _redis(properties, REDIS_URL, REDIS_CA) if properties.get(REDIS_URL) else (Level.OK, "not used")


def _redis(properties: Properties, prop: GlobalProperty[str], ca: GlobalProperty[str]) -> Outcome:
    """Only that a Redis answers; a password is tried when the node starts."""
    parts = urlsplit(properties.get(prop))
    with _connected(parts.hostname or "", parts.port or 6379) as raw:
        link = _wrapped(raw, parts.hostname or "", properties.get(ca)) if parts.scheme == "rediss" else raw
        link.sendall(b"PING\r\n")
        answer = link.recv(64)
    talks = answer.startswith((b"+PONG", b"-NOAUTH", b"-DENIED"))
    text = f"{properties.shown(prop)} answers {answer.strip().decode(errors='replace')}"
    return (Level.OK if talks else Level.FAILED), text


def clock(properties: Properties) -> Outcome:
    """Nothing depends on clocks that agree, but people who read logs of two machines do."""
    now = datetime.now(UTC)
    theirs = _server(properties)[1] if properties.get(DATABASE_URL) else None
    if theirs is None:
        return Level.OK, f"{now:%Y-%m-%d %H:%M:%S} UTC"
    skew = now.timestamp() - theirs
    level = Level.OK if abs(skew) <= SKEW_SECONDS else Level.WARNING
    return (
        level,
        f"{now:%Y-%m-%d %H:%M:%S} UTC, {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the database",
    )


CHECKS: dict[str, Callable[[Properties], Outcome]] = {
    "python": python,
    "packages": packages,
    "sqlite": sqlite,
    "data directory": data_directory,
    "port": port,
    "database": database,
    "broker": broker,
    "AMQP API": amqp_api,
    "redis": redis,
    "clock": clock,
}


def _unmet(requirement: str) -> str:
    """What is wrong with the installed package of ``name>=version``, or nothing."""
    found = re.match(r"([\w.-]+)(?:\[.*?\])?\s*>=\s*([\d.]+)", requirement)
    if not found:
        return ""
    name, least = found.groups()
    try:
        here = version(name)
    except PackageNotFoundError:
        return f"{name} is not installed"
    return f"{name} {here} is older than {least}" if _numbers(here) < _numbers(least) else ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", text)[:3])


def _server(properties: Properties) -> tuple[str, float | None]:
    from mgmtnode.db.schema import server

    opened = open_configured(properties)
    try:
        return server(opened)
    finally:
        asyncio.run(opened.close())


def _connected(host: str, number: int) -> socket.socket:
    link = socket.create_connection((host, number), CONNECT_SECONDS)
    link.settimeout(CONNECT_SECONDS)
    return link


def _wrapped(raw: socket.socket, host: str, ca: str) -> socket.socket:
    context = ssl.create_default_context(cafile=ca or None)
    return context.wrap_socket(raw, server_hostname=host)
