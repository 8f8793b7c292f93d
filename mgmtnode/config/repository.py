"""The only SQL on global configs and on the values that single resources carry."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from mgmtnode.config.global_config import RESOURCE_TYPE, GlobalConfig
from mgmtnode.db.base import metadata
from mgmtnode.db.session import Tx
from mgmtnode.db.tables import global_config, resource, resource_config
from mgmtnode.jobs.job import SYSTEM_ACCOUNT

TYPE_NAMES: dict[type, str] = {int: "integer", float: "number", bool: "boolean", str: "string"}
MANY = 500

AnyConfig = GlobalConfig[Any]

CHANGED = (
    select(resource.c.name, global_config.c.value)
    .join(global_config, global_config.c.uuid == resource.c.uuid)
    .where(global_config.c.changed)
)
OVERRIDDEN = select(resource_config.c.name).distinct()
PRESENT = select(resource.c.name, resource.c.description, *global_config.c).join(
    global_config, global_config.c.uuid == resource.c.uuid
)


def stored_values(tx: Tx) -> dict[str, str]:
    """What operators set, as text, by the names of the configs."""
    return {row.name: row.value for row in tx.execute(CHANGED)}


def overridden_names(tx: Tx) -> set[str]:
    """The configs that at least one resource carries a value of."""
    return set(tx.execute(OVERRIDDEN).scalars())


def save_value(tx: Tx, config: AnyConfig, value: str | None) -> None:
    """Stores what an operator set; None goes back to the default."""
    uuid = config.uuid
    values = {"value": config.text(config.default) if value is None else value, "changed": value is not None}
    tx.execute(update(global_config).where(global_config.c.uuid == uuid).values(values))
    tx.execute(update(resource).where(resource.c.uuid == uuid).values(updated_at=tx.now))


def synchronise(tx: Tx, declared: Collection[AnyConfig]) -> list[str]:
    """Makes the table say what this release declares, keeping what operators set.

    Returns the names of values that operators set and that nobody declares any more; they are kept. Several
    nodes may do this at the same time.
    """
    present = {row["name"]: dict(row) for row in tx.execute(PRESENT).mappings()}
    _insert(tx, [c for c in declared if c.name not in present])
    for config in declared:
        if config.name in present:
            _update(tx, config, present[config.name])
    gone = present.keys() - {c.name for c in declared}
    _remove(tx, [str(present[name]["uuid"]) for name in gone if not present[name]["changed"]])
    return sorted(name for name in gone if present[name]["changed"])


def save_override(tx: Tx, config: AnyConfig, resource_uuid: str, value: str) -> None:
    row = {"resource_uuid": resource_uuid, "name": config.name, "value": value}
    statement = _insert_into(tx, resource_config).values(row)
    tx.execute(
        statement.on_conflict_do_update(index_elements=["resource_uuid", "name"], set_={"value": value})
    )


def remove_override(tx: Tx, config: AnyConfig, resource_uuid: str) -> bool:
    """Whether there was one."""
    mine = (resource_config.c.resource_uuid == resource_uuid, resource_config.c.name == config.name)
    return tx.execute(delete(resource_config).where(*mine)).rowcount > 0


def overrides_of(
    tx: Tx, names: Collection[str], resource_uuids: Collection[str]
) -> dict[tuple[str, str], str]:
    """(config, resource uuid) → stored value, for the configs and resources that are asked for; one
    statement."""
    statement = select(resource_config).where(resource_config.c.name.in_(names))
    if len(resource_uuids) <= MANY:
        statement = statement.where(resource_config.c.resource_uuid.in_(resource_uuids))
    return {(row.name, row.resource_uuid): row.value for row in tx.execute(statement)}


def ancestors(tx: Tx, resource_type: str, uuid: str, wanted: Collection[str]) -> dict[str, str]:
    """type → uuid of the resource itself and of those of ``wanted`` types that it refers to, near or far
    (a host's cluster and zone), found over the declared references. One statement for each table on the
    way."""
    tables = {str(t.info["resource_type"]): t for t in metadata.tables.values() if "resource_type" in t.info}
    found, pending = {resource_type: uuid}, [resource_type]
    while pending and not found.keys() >= set(wanted):
        at = pending.pop(0)
        columns = (
            [c for c in tables[at].c if c.info.get("ref") in tables.keys() - found.keys()]
            if at in tables
            else []
        )
        row = tx.execute(select(*columns).where(tables[at].c.uuid == found[at])).first() if columns else None
        for column, value in zip(columns, row or (), strict=False):
            if value is not None and column.info["ref"] not in found:
                found[column.info["ref"]] = str(value)
                pending.append(column.info["ref"])
    return {kind: found[kind] for kind in {resource_type, *wanted} if kind in found}


def _insert(tx: Tx, configs: Sequence[AnyConfig]) -> None:
    if not configs:
        return
    core = [_core_row(tx, c) for c in configs]
    own = [_own_row(c) | {"uuid": c.uuid, "changed": False} for c in configs]
    tx.execute(_insert_into(tx, resource).on_conflict_do_nothing(), core)
    tx.execute(_insert_into(tx, global_config).on_conflict_do_nothing(), own)


def _update(tx: Tx, config: AnyConfig, row: dict[str, Any]) -> None:
    own = _own_row(config)
    if row["changed"]:
        del own["value"]
    if any(row[column] != value for column, value in own.items()):
        tx.execute(update(global_config).where(global_config.c.uuid == row["uuid"]).values(own))
    if row["description"] != config.description:
        changed = {"description": config.description, "updated_at": tx.now}
        tx.execute(update(resource).where(resource.c.uuid == row["uuid"]).values(changed))


def _remove(tx: Tx, uuids: Iterable[str]) -> None:
    if uuids := list(uuids):
        tx.execute(delete(global_config).where(global_config.c.uuid.in_(uuids), ~global_config.c.changed))
        kept = select(global_config.c.uuid)
        tx.execute(delete(resource).where(resource.c.uuid.in_(uuids), resource.c.uuid.not_in(kept)))


def _core_row(tx: Tx, config: AnyConfig) -> dict[str, Any]:
    return {
        "uuid": config.uuid,
        "type": RESOURCE_TYPE,
        "name": config.name,
        "unique_name": config.name,
        "description": config.description,
        "account_uuid": SYSTEM_ACCOUNT,
        "created_at": tx.now,
        "updated_at": tx.now,
    }


def _own_row(config: AnyConfig) -> dict[str, Any]:
    return {
        "category": config.category,
        "value": config.text(config.default),
        "default": config.text(config.default),
        "type": TYPE_NAMES[type(config.default)],
        "unit": config.unit,
        "low": config.low,
        "high": config.high,
        "choices": list(config.choices),
        "overridable": list(config.overridable),
    }


def _insert_into(tx: Tx, table: Any) -> Any:
    """An INSERT that knows ON CONFLICT, in the words of the database at hand."""
    return postgresql.insert(table) if tx.dialect == "postgresql" else sqlite.insert(table)
