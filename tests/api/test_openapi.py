from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from mgmtnode.api.openapi import document


@pytest.fixture
def doc(world) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(document(world.gateway.operations)))
    return found


def test_the_document_is_valid_openapi(doc) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(doc)


def test_every_operation_is_described_once(world, doc) -> None:
    ids = [op["operationId"] for verbs in doc["paths"].values() for op in verbs.values()]
    assert len(ids) == len(set(ids))
    assert world.gateway.operations.by_name.keys() <= set(ids)


def test_a_create_tells_body_example_answers_and_problems(doc) -> None:
    op = doc["paths"]["/v1/vms"]["post"]
    content = op["requestBody"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/CreateVm"}
    assert content["example"] == {"name": "my-name"}
    assert op["responses"].keys() >= {"200", "201", "202", "400", "401", "default"}
    assert op["description"] == "Makes a VM and starts it."
    assert op["tags"] == ["vm"]


def test_path_fields_are_parameters_and_not_in_the_body(doc) -> None:
    op = doc["paths"]["/v1/vms/{uuid}/actions/stop"]["post"]
    assert op["parameters"][0]["name"] == "uuid" and op["parameters"][0]["in"] == "path"
    assert doc["components"]["schemas"]["StopVm"]["properties"].keys() == {"grace_seconds"}


def test_fields_of_get_and_delete_are_query_parameters(doc) -> None:
    force = [p for p in doc["paths"]["/v1/zones/{uuid}"]["delete"]["parameters"] if p.get("name") == "force"]
    assert force[0]["in"] == "query" and force[0]["schema"]["default"] is False
    assert "DeleteZone" not in doc["components"]["schemas"]


def test_a_public_api_needs_no_token(doc) -> None:
    assert doc["paths"]["/v1/sessions"]["post"]["security"] == []
    assert "security" not in doc["paths"]["/v1/vms"]["post"]


def test_every_reference_leads_somewhere(doc) -> None:
    def references(value: Any) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    for reference in references(doc):
        at = doc
        for key in reference.removeprefix("#/").split("/"):
            at = at[key]


def test_the_api_browser_loads_nothing_from_elsewhere(world, run) -> None:
    async def story() -> None:
        async with world.client(None) as client:
            page = await client.get("/docs")
            errors = await client.get("/docs/errors")
        assert len(page.content) < 25_000
        assert "http://" not in page.text and "https://" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert 'id="core.not-found"' in errors.text

    run(story())
