"""What a service's ``models.py`` is written with: one metadata, column types, and references between services."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, MetaData, String, Table, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

UuidText = String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
BigInt = BigInteger().with_variant(BigInteger(), "sqlite")


def words(length: int | None = None) -> TypeEngine[str]:
    """Text that people search and sort by: in the order of its characters' code points, on both databases."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps it as text of fixed width, so that its order is the order of time."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(
            String(27) if dialect.name == "sqlite" else postgresql.TIMESTAMP(timezone=True)
        )

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        # Not strftime: the C library writes the year 999 with three digits.
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or isinstance(value, datetime):
            return value
        return datetime.fromisoformat(value)


class JsonOf(TypeDecorator[Any]):
    """A JSON value of a declared msgspec type, stored as text: written and read whole, never searched inside."""

    impl = Text
    cache_ok = True

    def __init__(self, of: Any = Any) -> None:
        super().__init__()
        self.of = of
        self._decode = msgspec.json.Decoder(of).decode

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else self._decode(value)

    @property
    def python_type(self) -> type[Any]:
        return object


def ref(
    name: str,
    type_: str,
    *,
    as_: str = "",
    back: str = "",
    nullable: bool = False,
    index: bool = True,
    part_of: bool = False,
) -> Column[Any]:
    """A column with the uuid of another resource: ``ref("cluster_uuid", "cluster", as_="cluster", back="hosts")``.

    ``as_`` is how queries reach the resource from here (default: the column's name without ``_uuid``), ``back``
    how they reach this table from there. ``part_of``: what is here belongs to whoever that belongs to, always. A
    foreign key to ``resource``, ON DELETE RESTRICT: a deletion that forgot
    somebody fails instead of leaving a dangling uuid.
    """
    return Column(
        name,
        UuidText,
        ForeignKey("resource.uuid", ondelete="RESTRICT"),
        nullable=nullable,
        index=index,
        info={"ref": type_, "as": as_ or name.removesuffix("_uuid"), "back": back, "part_of": part_of},
    )


def resource_table(type_: str, *columns: Any) -> Table:
    """The table of a resource type: named after it, its primary key shared with the core table ``resource``.

    Its texts sort as ``words`` do.
    """
    for column in columns:
        if isinstance(column, Column) and type(column.type) is String and column.type is not UuidText:
            column.type = words(column.type.length)
    return Table(
        type_,
        metadata,
        Column("uuid", UuidText, ForeignKey("resource.uuid", ondelete="RESTRICT"), primary_key=True),
        *columns,
        info={"resource_type": type_},
    )
