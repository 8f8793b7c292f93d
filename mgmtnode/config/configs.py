"""The global configs of a running node: declared by services, stored in the database, read without SQL."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from mgmtnode.config import repository
from mgmtnode.config.global_config import CONFIG_NOT_OVERRIDABLE, CONFIG_UNKNOWN, GlobalConfig
from mgmtnode.db import resource
from mgmtnode.errors import NOT_FOUND, ApiError, DeclarationError

if TYPE_CHECKING:
    from mgmtnode.db.session import Database, Tx

V = TypeVar("V", int, float, bool, str)
AnyConfig = GlobalConfig[Any]
log = logging.getLogger(__name__)


class ResourceValue(NamedTuple):
    """What a config is for one resource: the value, and the type and uuid of the resource that carries it
    ("" and None for the global value)."""

    config: AnyConfig
    value: Any
    carrier_type: str
    carrier_uuid: str | None


class GlobalConfigs:
    """Every node holds all values in memory. They change when this node commits a change, and on ``refresh``,
    which the config service calls when it hears of a change elsewhere, and now and then in case it does not.

    What changes a value records no event; the config service does that, and only it changes values.
    """

    def __init__(self) -> None:
        self._declared: dict[str, AnyConfig] = {}
        self._by_uuid: dict[str, AnyConfig] = {}
        self._values: dict[str, Any] = {}
        self._overridden: set[str] = set()
        self._listeners: dict[str, list[Callable[[Any], None]]] = {}
        self._reading = asyncio.Lock()

    def declare(self, by: str, configs: Iterable[AnyConfig]) -> None:
        """Adds the configs of a manifest. Raises DeclarationError for a name that is taken or a bad
        default."""
        for config in configs:
            if config.name in self._declared:
                raise DeclarationError(f"{by}: the global config {config.name} is declared twice")
            try:
                default = config.parse(config.default)
            except ApiError as exc:
                raise DeclarationError(f"{by}: the default does not fit: {exc.problem.message}") from exc
            self._declared[config.name] = config
            self._by_uuid[config.uuid] = config
            self._values[config.name] = default

    @property
    def declared(self) -> tuple[AnyConfig, ...]:
        return tuple(self._declared.values())

    def find(self, name: str) -> AnyConfig:
        """The declared config of that name. Raises config.unknown naming the nearest."""
        if config := self._declared.get(name):
            return config
        near = difflib.get_close_matches(name, self._declared, 1)
        raise CONFIG_UNKNOWN.error(
            f"there is no config {name!r}" + (f"; did you mean {near[0]}?" if near else "")
        )

    def by_uuid(self, uuid: str) -> AnyConfig:
        """The declared config whose resource has ``uuid``. Raises config.unknown."""
        if config := self._by_uuid.get(uuid):
            return config
        raise CONFIG_UNKNOWN.error(f"no installed service declares the config {uuid}", resource=uuid)

    def get(self, config: GlobalConfig[V]) -> V:
        """The value in force. No SQL."""
        try:
            return cast("V", self._values[config.name])
        except KeyError:
            raise DeclarationError(
                f"the global config {config.name} is not declared in any manifest"
            ) from None

    async def load(self, db: Database) -> list[str]:
        """At boot: brings the table up to what is declared, then reads it. Returns the names of stored
        values that nobody declares any more; they are kept for a release or plugin that does."""
        orphans = await db.write(lambda tx: repository.synchronise(tx, self._declared.values()))
        for name in orphans:
            log.warning(
                "the stored value of %s is kept but has no effect: no installed service declares it", name
            )
        await self.refresh(db)
        return orphans

    async def refresh(self, db: Database) -> None:
        """Reads all stored values again: one transaction, two short statements. Later calls never see
        older values."""
        async with self._reading:
            stored, overridden = await db.read(
                lambda tx: (repository.stored_values(tx), repository.overridden_names(tx))
            )
            self._overridden = overridden
            for config in self._declared.values():
                value = self._parsed(config, stored.get(config.name))
                self._put(config, config.default if value is None else value)

    def on_change(self, config: GlobalConfig[V], listener: Callable[[V], None]) -> None:
        """``listener(value)`` is called on the event loop of every node after the value in force changed."""
        self._listeners.setdefault(config.name, []).append(listener)

    def set(self, tx: Tx, name: str, value: object) -> None:
        """Raises config.unknown or config.invalid-value."""
        config = self.find(name)
        parsed = config.parse(value)
        self._save(tx, config, parsed, config.text(parsed))

    def reset(self, tx: Tx, name: str) -> None:
        """Back to the default, and to whatever a later release makes it. Raises config.unknown."""
        config = self.find(name)
        self._save(tx, config, config.default, None)

    def _save(self, tx: Tx, config: AnyConfig, value: Any, stored: str | None) -> None:
        repository.save_value(tx, config, stored)
        tx.after_commit(lambda: self._put(config, value))

    def set_for(self, tx: Tx, config: AnyConfig, resource_uuid: str, value: object) -> str:
        """Gives one resource a value of its own and returns its text. Raises core.not-found,
        config.invalid-value or config.not-overridable."""
        self.check_for(tx, config, resource_uuid)
        text = config.text(config.parse(value))
        repository.save_override(tx, config, resource_uuid, text)
        self._overridden.add(config.name)  # before the commit: too early costs a statement, too late is wrong
        return text

    def reset_for(self, tx: Tx, config: AnyConfig, resource_uuid: str) -> bool:
        """Takes the resource's own value away. Whether it had one."""
        return repository.remove_override(tx, config, resource_uuid)

    def check_for(self, tx: Tx, config: AnyConfig, resource_uuid: str) -> None:
        """Refuses a resource that is not there, or of a type that cannot carry the config."""
        kind = _type_of(tx, resource_uuid)
        if kind not in config.overridable:
            allowed = ", ".join(config.overridable) or "no resource"
            raise CONFIG_NOT_OVERRIDABLE.error(
                f"{config.name} can be overridden on: {allowed}; not on a {kind}", resource=resource_uuid
            )

    def get_for(self, tx: Tx, config: GlobalConfig[V], chain: Mapping[str, str]) -> V:
        """The value for a resource: of the nearest in ``chain`` (type → uuid) that carries one, else the
        global one. At most one statement; none while no resource at all carries this config."""
        return self.get_many_for(tx, config, [chain])[0]

    def get_many_for(self, tx: Tx, config: GlobalConfig[V], chains: Sequence[Mapping[str, str]]) -> list[V]:
        """``get_for`` of several resources, in their order, with the same one statement."""
        value = self.get(config)
        if config.name not in self._overridden:
            return [value] * len(chains)
        uuids = {chain[kind] for chain in chains for kind in config.overridable if kind in chain}
        stored = repository.overrides_of(tx, [config.name], uuids)
        return [self._nearest(config, chain, stored).value for chain in chains]

    def effective(self, tx: Tx, resource_uuid: str) -> list[ResourceValue]:
        """Every config that the resource may carry, with the value in force for it and where that comes
        from."""
        kind = _type_of(tx, resource_uuid)
        configs = [c for c in self._declared.values() if kind in c.overridable]
        wanted = {each for config in configs for each in config.overridable}
        chain = repository.ancestors(tx, kind, resource_uuid, wanted)
        stored = repository.overrides_of(tx, [c.name for c in configs], list(chain.values()))
        return [self._nearest(config, chain, stored) for config in configs]

    def _nearest(
        self, config: AnyConfig, chain: Mapping[str, str], stored: Mapping[tuple[str, str], str]
    ) -> ResourceValue:
        for kind in config.overridable:
            value = self._parsed(config, stored.get((config.name, chain.get(kind, ""))))
            if value is not None:
                return ResourceValue(config, value, kind, chain[kind])
        return ResourceValue(config, self.get(config), "", None)

    def _parsed(self, config: AnyConfig, text: str | None) -> Any:
        """A stored text as a value. None if there is none, or if this release refuses what an older one
        stored."""
        try:
            return None if text is None else config.parse(text)
        except ApiError as exc:
            log.warning("a stored value is ignored: %s", exc.problem.message)
            return None

    def _put(self, config: AnyConfig, value: Any) -> None:
        if self._values[config.name] == value:
            return
        self._values[config.name] = value
        for listener in self._listeners.get(config.name, ()):
            try:
                listener(value)
            except Exception:
                log.exception("a listener of %s failed; the others go on", config.name)


def _type_of(tx: Tx, uuid: str) -> str:
    kind = resource.type_of(tx, uuid)
    if kind is None:
        raise NOT_FOUND.error(f"there is no resource {uuid}", resource=uuid)
    return kind
