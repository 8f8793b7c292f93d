"""The tags of a running node: which system tags are declared, and who carries what."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mgmtnode.errors import INVALID, NOT_FOUND, DeclarationError
from mgmtnode.tags import repository
from mgmtnode.tags.overlap import overlap
from mgmtnode.tags.repository import SYSTEM, USER, TagRow
from mgmtnode.tags.system_tag import TAG_EXISTS, TAG_INHERENT, TAG_INVALID, TAG_UNKNOWN, SystemTag

if TYPE_CHECKING:
    from mgmtnode.db.session import Tx
    from mgmtnode.ports import UuidSource

LONGEST = 1024


class Applied(NamedTuple):
    """A system tag of a request, recognised."""

    tag: SystemTag
    tokens: dict[str, str]
    text: str


class Tags:
    """Tags go with their resource: the database deletes them when its core row is deleted."""

    def __init__(self, uuids: UuidSource) -> None:
        self._uuids = uuids
        self._declared: dict[str, list[SystemTag]] = {}

    def declare(self, by: str, tags: Iterable[SystemTag]) -> None:
        """Adds the tags of a manifest. Raises DeclarationError if one text could be of two declarations."""
        for tag in tags:
            for other in self._declared.setdefault(tag.on, []):
                if overlap(tag.format, other.format):
                    raise DeclarationError(
                        f"{by}: the {tag.on} tags {tag.format!r} and {other.format!r} match the same text"
                    )
            self._declared[tag.on].append(tag)

    @property
    def declared(self) -> tuple[SystemTag, ...]:
        return tuple(tag for tags in self._declared.values() for tag in tags)

    def parse(self, resource_type: str, text: str) -> Applied:
        """Recognises a system tag. Raises tag.unknown naming the nearest, or tag.invalid."""
        for tag in self._declared.get(resource_type, ()):
            if (tokens := tag.match(text)) is not None:
                _check(tag, tokens, text)
                return Applied(tag, tokens, text)
        formats = [tag.format for tag in self._declared.get(resource_type, ()) if not tag.inherent]
        near = difflib.get_close_matches(text, formats, 1, 0.4) or formats[:8]
        hint = f"; known are {', '.join(near)}" if near else ""
        raise TAG_UNKNOWN.error(f"a {resource_type} has no system tag of the form {text[:80]!r}{hint}")

    def check(self, resource_type: str, system_tags: Sequence[str], admin: bool) -> list[Applied]:
        """What ``apply`` would do, without doing it: recognises tags that a caller sent, or refuses them."""
        applied = [self.parse(resource_type, text) for text in system_tags]
        for tag, _, text in applied:
            _allow(tag, text, admin)
        for tag in {a.tag for a in applied if a.tag.unique}:
            texts = [a.text for a in applied if a.tag is tag]
            if len(texts) > 1:
                raise TAG_EXISTS.error(
                    f"only one tag of the form {tag.format} is allowed, got {', '.join(texts)}"
                )
        _distinct(system_tags)
        return applied

    def apply(
        self,
        tx: Tx,
        resource_type: str,
        resource_uuid: str,
        *,
        system_tags: Sequence[str] = (),
        user_tags: Sequence[str] = (),
        admin: bool = False,
    ) -> list[Applied]:
        """Tags a resource that was just made with what its caller sent. Returns the ephemeral ones, which are
        checked and not stored. Raises the tag.* errors."""
        applied = self.check(resource_type, system_tags, admin)
        _distinct(user_tags)
        for text in user_tags:
            _plain(text)
        stored = [a.text for a in applied if not a.tag.ephemeral]
        rows = [self._row(resource_type, resource_uuid, SYSTEM, text) for text in stored]
        rows += [self._row(resource_type, resource_uuid, USER, text) for text in user_tags]
        repository.add(tx, rows)
        return [a for a in applied if a.tag.ephemeral]

    def ephemeral(self, tag: SystemTag, system_tags: Iterable[str]) -> list[dict[str, str]]:
        """The tokens of those among a request's ``system_tags`` that are of ``tag``."""
        return [tokens for text in system_tags if (tokens := tag.match(text)) is not None]

    def set(self, tx: Tx, tag: SystemTag, resource_uuid: str, **tokens: str | int) -> None:
        """For services: the resource carries this tag from now on; a unique one replaces its predecessor."""
        text = tag.render(**tokens)
        _check(tag, tag.match(text), text)
        present = self._rows(tx, tag, [resource_uuid])
        if any(row.text == text for row in present):
            return
        if tag.unique:
            repository.remove(tx, [row.uuid for row in present])
        repository.add(tx, [self._row(tag.on, resource_uuid, SYSTEM, text, inherent=tag.inherent)])

    def of(self, tx: Tx, tag: SystemTag, resource_uuid: str) -> list[dict[str, str]]:
        """The tokens of each such tag on the resource ({} each for a tag without tokens)."""
        return self.of_many(tx, tag, [resource_uuid])[resource_uuid]

    def of_many(
        self, tx: Tx, tag: SystemTag, resource_uuids: Collection[str]
    ) -> dict[str, list[dict[str, str]]]:
        """``of`` several resources with one statement."""
        found: dict[str, list[dict[str, str]]] = {uuid: [] for uuid in resource_uuids}
        for row in self._rows(tx, tag, resource_uuids):
            found[row.resource_uuid].append(tag.match(row.text) or {})
        return found

    def remove(self, tx: Tx, tag: SystemTag, resource_uuid: str, **tokens: str | int) -> None:
        """For services: takes all such tags off the resource, or those with the ``tokens`` given."""
        wanted = {name: str(value) for name, value in tokens.items()}
        rows = self._rows(tx, tag, [resource_uuid])
        repository.remove(tx, [r.uuid for r in rows if wanted.items() <= (tag.match(r.text) or {}).items()])

    def add_user(self, tx: Tx, resource_type: str, resource_uuid: str, text: str) -> str:
        """Tags a resource with free text and returns the tag's uuid. Raises core.invalid or tag.exists."""
        _plain(text)
        return self._add(tx, self._row(resource_type, resource_uuid, USER, text))

    def add_system(self, tx: Tx, resource_type: str, resource_uuid: str, text: str, *, admin: bool) -> str:
        """For callers: adds a system tag and returns its uuid. Raises the tag.* errors; a unique one that
        is there already is not replaced."""
        applied = self.parse(resource_type, text)
        _allow(applied.tag, text, admin)
        if applied.tag.ephemeral:
            raise TAG_INVALID.error(f"{text!r} can only be given when the {resource_type} is made")
        present = [row for row in self._rows(tx, applied.tag, [resource_uuid]) if row.text != text]
        if applied.tag.unique and present:
            raise TAG_EXISTS.error(
                f"the {resource_type} carries {present[0].text!r}; change or delete that one"
            )
        return self._add(tx, self._row(resource_type, resource_uuid, SYSTEM, text))

    def change(self, tx: Tx, resource_uuid: str, uuid: str, text: str, *, admin: bool) -> None:
        """For callers: another text, of the same declaration, for a system tag. Raises the tag.* errors."""
        row = self._own(tx, resource_uuid, uuid)
        if row.kind != SYSTEM:
            raise TAG_INVALID.error("a user tag is not changed; delete it and add another", resource=uuid)
        old, new = self.parse(row.resource_type, row.text), self.parse(row.resource_type, text)
        _allow(old.tag, row.text, admin)
        if new.tag is not old.tag:
            raise TAG_INVALID.error(f"{text!r} is not of the form {old.tag.format}", resource=uuid)
        if text != row.text:
            self._refuse_second(tx, resource_uuid, SYSTEM, text)
            repository.change_text(tx, uuid, text)

    def delete(self, tx: Tx, resource_uuid: str, uuid: str, *, admin: bool) -> None:
        """For callers: takes one tag away. A system tag that nobody declares any more may go too."""
        row = self._own(tx, resource_uuid, uuid)
        if row.inherent:
            raise TAG_INHERENT.error(f"{row.text!r} is taken away by its service only", resource=uuid)
        if row.kind == SYSTEM:
            for tag in self._declared.get(row.resource_type, ()):
                if tag.match(row.text) is not None:
                    _allow(tag, row.text, admin)
        repository.remove(tx, [uuid])

    def _own(self, tx: Tx, resource_uuid: str, uuid: str) -> TagRow:
        row = repository.find(tx, uuid)
        if row is None or row.resource_uuid != resource_uuid:
            raise NOT_FOUND.error(f"the resource carries no tag {uuid}", resource=resource_uuid)
        return row

    def _add(self, tx: Tx, row: TagRow) -> str:
        self._refuse_second(tx, row.resource_uuid, row.kind, row.text)
        repository.add(tx, [row])
        return row.uuid

    def _refuse_second(self, tx: Tx, resource_uuid: str, kind: str, text: str) -> None:
        if repository.carries(tx, resource_uuid, kind, text):
            raise TAG_EXISTS.error(f"the resource carries {text!r} already", resource=resource_uuid)

    def _rows(self, tx: Tx, tag: SystemTag, resource_uuids: Collection[str]) -> list[TagRow]:
        return [r for r in repository.of(tx, resource_uuids, SYSTEM) if tag.match(r.text) is not None]

    def _row(self, resource_type: str, uuid: str, kind: str, text: str, *, inherent: bool = False) -> TagRow:
        return TagRow(self._uuids.draw(), uuid, resource_type, kind, text, inherent)


def _allow(tag: SystemTag, text: str, admin: bool) -> None:
    if tag.inherent:
        raise TAG_INHERENT.error(f"{text!r} is set by its service only")
    if tag.admin and not admin:
        raise TAG_INHERENT.error(f"{text!r} may be set by the operator only")


def _check(tag: SystemTag, tokens: dict[str, str] | None, text: str) -> None:
    _plain(text)
    if tokens is None:
        raise TAG_INVALID.error(f"{text!r} is not of the form {tag.format}")
    if tag.check and (why := tag.check(tokens)):
        raise TAG_INVALID.error(f"{text[:80]!r}: {why}")


def _plain(text: str) -> None:
    if not 0 < len(text) <= LONGEST or not text.isprintable() or not text.strip():
        raise INVALID.error(f"a tag is 1 to {LONGEST} printable characters, got {text[:40]!r}")


def _distinct(texts: Sequence[str]) -> None:
    for text in texts:
        if texts.count(text) > 1:
            raise TAG_EXISTS.error(f"the tag {text!r} is given twice")
