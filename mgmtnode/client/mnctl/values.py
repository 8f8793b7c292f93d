"""Option values: sizes, ``--set`` pairs, names of resources; and the bodies made from them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click
import msgspec

from mgmtnode.client.errors import NotFound
from mgmtnode.client.mnctl.app import App, interactive
from mgmtnode.client.mnctl.kinds import BY_NOUN, Field, Kind, kind_of
from mgmtnode.errors import NOT_FOUND
from mgmtnode.schema import UUID_PATTERN

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?B?)", re.IGNORECASE)


class Size(click.ParamType):  # type: ignore[type-arg]  # generic only in newer releases
    """Bytes: ``2GiB`` and ``2G`` are powers of 1024, ``2GB`` of 1000."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a size such as 512MiB, 2GiB or a number of bytes", param, ctx)
        number, prefix, suffix = match.groups()
        base = 1000 if suffix.lower() == "b" and prefix else 1024
        return int(float(number) * base ** " KMGTP".index(prefix.upper() or " "))


class Json(click.ParamType):  # type: ignore[type-arg]  # as above
    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return msgspec.json.decode(str(value))
        except msgspec.DecodeError as exc:
            self.fail(f"not JSON: {exc}", param, ctx)


TYPES: dict[str, Any] = {
    "text": str,
    "int": int,
    "float": float,
    "bytes": Size(),
    "json": Json(),
    "secret": str,
}


def option(field: Field) -> click.Option:
    from mgmtnode.client.mnctl.complete import names

    if field.type == "flag":
        return click.Option(
            [f"--{field.option}/--no-{field.option}", field.name], default=None, help=field.help
        )
    return click.Option(
        [f"--{field.option}", parameter(field)],
        type=TYPES[field.type],
        multiple=field.many,
        help=field.help,
        metavar=f"{field.ref.upper()}" if field.ref else None,
        shell_complete=names(BY_NOUN[field.ref]) if field.ref else None,
    )


def parameter(field: Field) -> str:
    return field.name.replace(".", "__")


def setter() -> click.Option:
    return click.Option(
        ["--set", "assignments"], multiple=True, metavar="FIELD=VALUE",
        help="Any field; the value is read as JSON if it is JSON, else as text. Repeatable.",
    )  # fmt: skip


def body(
    app: App, fields: Iterable[Field], given: Mapping[str, Any], assignments: Iterable[str]
) -> dict[str, Any]:
    """The fields that were given, with names of resources resolved to their uuids."""
    result: dict[str, Any] = {}
    for field in fields:
        value = given.get(field.name if field.type == "flag" else parameter(field))
        if value is not None and value != ():
            _put(result, field.name, _read(app, field, value))
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--set {text!r}: write it as field=value")
        _put(result, name, loose(value))
    return result


def loose(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _read(app: App, field: Field, value: Any) -> Any:
    if field.ref:
        one = [resolve(app, field.ref, item) for item in (value if field.many else (value,))]
        return one if field.many else one[0]
    if field.type == "secret" and value == "-":
        return sys.stdin.readline().rstrip("\r\n")
    return list(value) if field.many else value


def _put(target: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for word in parents:
        inner = target.setdefault(word, {})
        if not isinstance(inner, dict):
            raise click.UsageError(f"{path}: {word} was given a plain value before")
        target = inner
    target[last] = value


def is_uuid(text: str) -> bool:
    return re.match(UUID_PATTERN, text) is not None


def resolve(app: App, word: str, key: str) -> str:
    """The uuid of what ``key``, a name or a uuid, names; raises NotFound, or StateConflict with the
    candidates.
    """
    if is_uuid(key.lower()):
        return key.lower()
    if not key:
        raise click.UsageError(f"the name of the {word} is empty")
    kind = kind_of(word)
    owner, slash, name = key.partition("/")
    if kind.within and slash and owner and name:
        return _of_account(app, kind, owner, name)
    return str(app.client.collection(kind.plural).find(key)["uuid"])


def _of_account(app: App, kind: Kind, owner: str, name: str) -> str:
    account = resolve(app, "account", owner)
    found = list(
        app.client.collection(kind.plural).list((f"name={name}", f"account_uuid={account}"), limit=2)
    )
    if len(found) != 1:
        text = f"account {owner!r} has {len(found) or 'no'} {kind.plural} called {name!r}"
        raise NotFound(NOT_FOUND.error(text, resource=name).problem)
    return str(found[0]["uuid"])


def confirm(question: str, yes: bool) -> None:
    """Goes on only with a yes; a program has to say it beforehand."""
    if yes:
        return
    if not interactive():
        raise click.UsageError(f"{question} Nobody is there to answer: add --yes")
    click.confirm(question, abort=True, err=True)
