"""The join graph: what declarations it refuses at boot, by name."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from mgmtnode.db.base import UuidText, ref
from mgmtnode.query.engine import Query
from mgmtnode.query.errors import GraphError
from mgmtnode.query.graph import build_graph
from mgmtnode.schema import Embed, Inventory, Ref, Resource, Uuid
from tests.query import schema as s

BOX = Resource("box", "boxes", Inventory)
SHELF = Resource("shelf", "shelves", Inventory)


def table(type_: str, *columns: Any) -> Table:
    return Table(type_, MetaData(), Column("uuid", UuidText, primary_key=True), *columns)


def kind(type_: str, **fields: Any) -> Resource:
    inventory = type(type_.title(), (Inventory,), {"__annotations__": fields, "__module__": __name__})
    return Resource(type_, f"{type_}s", inventory)


def refused(resources: list[Resource], tables: list[Table]) -> str:
    with pytest.raises(GraphError) as caught:
        build_graph(resources, tables)
    return str(caught.value)


def test_a_field_without_a_column_is_refused() -> None:
    assert refused([kind("box", height=int)], [table("box")]) == (
        "box, field height: table box has no such column, and no reference to box has back='height'"
    )


def test_a_column_that_the_core_has_already_is_refused() -> None:
    assert "table box, column name: the core" in refused([BOX], [table("box", Column("name", Integer))])


def test_a_reference_to_a_type_nobody_declared_is_refused() -> None:
    wrong = table("box", ref("shelf_uuid", "shlef"))
    assert "table box, column shelf_uuid: refers to 'shlef'" in refused([BOX, SHELF], [wrong])


def test_two_relations_of_one_name_are_refused() -> None:
    twice = table("box", ref("a_uuid", "shelf", back="boxes"), ref("b_uuid", "shelf", back="boxes"))
    words = "table box, column b_uuid: shelf already has a relation named 'boxes'"
    assert words in refused([BOX, SHELF], [twice, table("shelf")])


def test_a_way_back_to_a_table_without_resource_is_refused() -> None:
    log = table("log", ref("box_uuid", "box", back="logs"))
    assert "table log, column box_uuid: back='logs' leads nowhere" in refused([BOX], [table("box"), log])


def test_an_embedded_field_that_the_other_side_lacks_is_refused() -> None:
    brief = type("Brief", (Inventory,), {"__annotations__": {"colour": str}, "__module__": __name__})
    shelf = kind("shelf", boxes=list[brief])  # type: ignore[valid-type]
    words = "shelf, field boxes: box has no column for Brief.colour"
    assert words in refused(
        [BOX, shelf], [table("box", ref("shelf_uuid", "shelf", back="boxes")), table("shelf")]
    )


def test_references_to_services_that_are_not_enabled_lead_nowhere() -> None:
    boxes = table("box", ref("shelf_uuid", "shelf", back="boxes"), ref("room_uuid", "room"))
    graph = build_graph([BOX, SHELF], [boxes], known=["room"])
    assert list(graph) == ["box"] and graph["box"].edges == {}


def test_lists_of_what_no_enabled_service_has_are_empty() -> None:
    declared = kind("shelf", boxes=Annotated[list[Annotated[Uuid, Ref("box")]], Embed("boxes")])
    graph = build_graph([BOX, declared], [table("shelf")])
    field = graph["shelf"].fields["boxes"]
    assert field.column is None and field.embedded is None


def test_a_link_table_leads_from_either_side_to_the_other() -> None:
    graph = Query(s.RESOURCES, s.TABLES).graph
    assert graph["network"].edges["clusters"].target == "cluster"
    assert graph["cluster"].edges["networks"].target == "network"
