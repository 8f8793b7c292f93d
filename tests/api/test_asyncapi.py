from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import jsonschema
import pytest

from mgmtnode.api.asyncapi import document
from mgmtnode.bus.message import Event
from mgmtnode.contracts import zone
from mgmtnode.loader import events
from mgmtnode.testing.cloud import Cloud
from tests import npm


class Painted(Event, frozen=True, kw_only=True):
    """A VM got a colour."""

    name: ClassVar[str] = "vm.painted"

    colour: str


@pytest.fixture
def doc(world) -> dict[str, Any]:
    return document(world.gateway.operations, [Painted, *events(zone)])


def validate(doc: dict[str, Any]) -> None:
    """By the schema that the AsyncAPI Initiative publishes."""
    schemas = npm.package("@asyncapi/specs", "6") / "schemas"
    schema = json.loads((schemas / "3.0.0.json").read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(doc)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def found(doc: Any, pointer: str) -> Any:
    for part in pointer.removeprefix("#/").split("/"):
        doc = doc[part.replace("~1", "/").replace("~0", "~")]
    return doc


def test_the_document_is_valid_asyncapi(doc) -> None:
    validate(doc)


def test_what_is_not_asyncapi_is_told_apart(doc) -> None:
    doc["operations"]["vm.create"]["action"] = "shout"
    with pytest.raises(jsonschema.ValidationError):
        validate(doc)


def test_every_reference_leads_somewhere(doc) -> None:
    assert [r for r in set(references(doc)) if not isinstance(found(doc, r), dict)] == []


def test_every_api_and_every_read_has_a_channel_and_an_operation(world, doc) -> None:
    names = {*world.gateway.operations.by_name, "zone.list", "zone.get", "vm.list", "job.get", "job.cancel"}
    assert names <= doc["channels"].keys() and names <= doc["operations"].keys()
    assert doc["channels"]["vm.create"]["address"] == "vm.create"
    assert doc["channels"]["vm.create"]["bindings"]["amqp"]["exchange"]["name"] == "mgmtnode.api"


def test_a_change_is_answered_by_the_job_and_its_end_with_the_result(doc) -> None:
    operation = doc["operations"]["vm.create"]
    answers = [ref["$ref"].rpartition("/")[2] for ref in operation["reply"]["messages"]]
    assert answers == ["job.accepted", "vm.create.ended", "plan", "problem"]
    ended = doc["components"]["messages"]["vm.create.ended"]["payload"]
    assert "Vm" in json.dumps(ended)
    body = found(doc, doc["components"]["messages"]["vm.stop.request"]["payload"]["$ref"])
    assert body["required"] == ["uuid"]


def test_who_must_bring_a_token_is_told(doc) -> None:
    messages = doc["components"]["messages"]
    assert messages["vm.create.request"]["headers"]["required"] == ["authorization"]
    assert "required" not in messages["session.create.request"]["headers"]


def test_events_are_told_with_what_is_in_them(doc) -> None:
    operation = doc["operations"]["events.vm.painted"]
    assert (operation["action"], operation["summary"]) == ("send", "A VM got a colour.")
    assert "colour" in doc["components"]["schemas"]["Painted"]["properties"]


def test_the_document_of_a_whole_node_is_valid_and_needs_no_token(cloud: Cloud) -> None:
    answer = httpx.get(f"{cloud.turn().url}/asyncapi.json")
    assert answer.status_code == 200
    validate(answer.json())
    assert {"vm.create", "host.list", "events.job.ended", "events.vm.created"} <= answer.json()[
        "channels"
    ].keys()
