"""The OpenAPI document as tests read it: operations, samples that fit a schema, and values that do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
NOWHERE = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000"  # the uuid of nothing
OFTEN: Json = {
    "management_ip": "192.0.2.9",
    "cidr": "10.9.0.0/24",
    "start_ip": "10.9.0.10",
    "end_ip": "10.9.0.99",
    "gateway": "10.9.0.1",
}
JSON_TYPES: dict[str, Any] = {
    "string": "text",
    "integer": 7,
    "number": 7.5,
    "boolean": True,
    "array": [[]],
    "object": {"x": 1},
    "null": None,
}


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    id: str
    method: str
    path: str
    parameters: dict[str, Json] = field(default_factory=dict)  # in the query
    body: Json | None = None
    needed: tuple[str, ...] = ()  # required ones of the parameters

    @property
    def path_fields(self) -> list[str]:
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]

    @property
    def changes(self) -> bool:
        return self.method != "GET"

    def at(self, **values: str) -> str:
        return self.path.format(**dict.fromkeys(self.path_fields, NOWHERE) | values)


class Document:
    def __init__(self, raw: Json) -> None:
        self.raw = raw
        self.operations = [
            self._operation(method.upper(), path, found)
            for path, methods in raw["paths"].items()
            for method, found in methods.items()
            if path.startswith("/v1/") and path != "/v1/events"
        ]

    @property
    def mutations(self) -> list[Operation]:
        return [o for o in self.operations if o.changes]

    @property
    def with_body(self) -> list[Operation]:
        return [o for o in self.operations if o.body is not None]

    def plain(self, schema: Json) -> Json:
        """``schema`` with its reference followed."""
        while "$ref" in schema:
            node: Any = self.raw
            for part in schema["$ref"].removeprefix("#/").split("/"):
                node = node[part]
            schema = node
        return schema

    def fields(self, operation: Operation) -> dict[str, Json]:
        """The fields of the body."""
        if operation.body is None:
            return {}
        return {n: self.plain(s) for n, s in operation.body.get("properties", {}).items()}

    def sample(self, operation: Operation, known: dict[str, str] | None = None) -> Json:
        """A body with all required fields; ``known`` has uuids by type."""
        if operation.body is None:
            return {}
        required = operation.body.get("required", [])
        return {
            n: self._sample(n, s, known or {}) for n, s in self.fields(operation).items() if n in required
        }

    def types(self, schema: Json) -> set[str]:
        """The JSON types that fit; all of them if the schema does not say."""
        schema = self.plain(schema)
        found: set[str] = set()
        for inner in schema.get("anyOf", ()):
            found |= self.types(inner)
        named = schema.get("type", [])
        found |= set([named] if isinstance(named, str) else named)
        found |= {
            _type_of(value)
            for value in [*schema.get("enum", ()), *[schema.get("const")]]
            if value is not None
        }
        return found or set(JSON_TYPES)

    def misfits(self, schema: Json) -> Iterator[Any]:
        """Values that the schema refuses."""
        fitting = self.types(schema)
        for name, value in JSON_TYPES.items():
            if name not in fitting and not (name == "integer" and "number" in fitting):
                yield value
        for part in [schema, *schema.get("anyOf", ())]:
            yield from _out_of_bounds(self.plain(part), fitting)

    def _operation(self, method: str, path: str, found: Json) -> Operation:
        parameters = [self.plain(p) for p in found.get("parameters", ())]
        content = self.plain(found.get("requestBody", {})).get("content", {})
        body = self.plain(content["application/json"]["schema"]) if "application/json" in content else None
        return Operation(
            found["operationId"],
            method,
            path,
            {p["name"]: p["schema"] for p in parameters if p["in"] == "query"},
            body,
            tuple(p["name"] for p in parameters if p["in"] == "query" and p.get("required")),
        )

    def _sample(self, name: str, schema: Json, known: dict[str, str]) -> Any:
        schema = self.plain(schema)
        if name in OFTEN:
            return OFTEN[name]
        if name.endswith("_uuid"):
            return known.get(name.removesuffix("_uuid"), NOWHERE)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        if "enum" in schema:
            return schema["enum"][0]
        if "anyOf" in schema:
            return self._sample(name, schema["anyOf"][0], known)
        return self._of_type(name, schema, known)

    def _of_type(self, name: str, schema: Json, known: dict[str, str]) -> Any:
        kind = schema.get("type", "string")
        kind = kind if isinstance(kind, str) else kind[0]
        if kind in ("integer", "number"):
            return max(int(schema.get("minimum", 1)), 1)
        if kind == "array":
            return [self._sample(name, schema.get("items", {}), known)] if schema.get("minItems") else []
        if kind == "object":
            required = schema.get("required", ())
            return {
                n: self._sample(n, s, known) for n, s in schema.get("properties", {}).items() if n in required
            }
        if schema.get("format") == "uuid":
            return NOWHERE
        return {"boolean": True, "null": None}.get(kind, "sample")


def _out_of_bounds(schema: Json, fitting: set[str]) -> Iterator[Any]:
    if "integer" in fitting and "number" not in fitting:
        yield from (1.5, 2**63, -(2**63) - 1, 2**64, 10**300)
    if "maximum" in schema:
        yield schema["maximum"] + 1
    if "minimum" in schema:
        yield schema["minimum"] - 1
    if "maxLength" in schema:
        yield "x" * (schema["maxLength"] + 1)
    if schema.get("minLength"):
        yield ""
    if "maxItems" in schema:
        yield ["x"] * (schema["maxItems"] + 1)
    if "pattern" in schema or "enum" in schema or schema.get("format") in ("uuid", "date-time"):
        yield "no\nsuch\x7fthing"


def _type_of(value: Any) -> str:
    names: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}
    return names.get(type(value), "object")
