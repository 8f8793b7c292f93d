"""The OpenAPI 3.1 document, written from the contracts: nothing in it is said a second time."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from mgmtnode import __version__
from mgmtnode.api.openapi_examples import example
from mgmtnode.api.openapi_parts import HEADERS, PARAMETERS, PROBLEM, RESPONSES, core_paths, ref
from mgmtnode.api.operations import Operation, Operations
from mgmtnode.jobs.job import JOB, Job, Plan
from mgmtnode.schema import Resource

Json = dict[str, Any]
REPLY = "-> reply"
ABOUT = """The API of a management plane for virtual machines.

Every mutation is a job: it is answered `202` with the job, whose `resource_uuid` is already decided. Ask with
`Prefer: wait=30` to get the result instead, if the job ends in time. Send an `Idempotency-Key` with what you
may have to send again. Errors are RFC 9457 problems with a stable `code`."""


def document(operations: Operations) -> Json:
    """The whole document, as JSON-encodable values."""
    schemas = _Schemas(operations)
    paths: dict[str, Json] = core_paths()
    for resource in operations.resources.values():
        _add(paths, f"/v1/{resource.plural}", "get", schemas.listed(resource))
        if resource.type != JOB.type:
            _add(paths, f"/v1/{resource.plural}/{{uuid}}", "get", schemas.read(resource))
    for operation in operations.by_name.values():
        _add(paths, "/v1" + operation.api.path, operation.api.verb.lower(), schemas.operation(operation))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Management node", "version": __version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": _tags(operations),
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted((schemas.components | {"ProblemDocument": PROBLEM}).items())),
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "responses": RESPONSES,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of a session (POST /v1/sessions) or an API key",
                }
            },
        },
    }


def _add(paths: dict[str, Json], path: str, verb: str, found: Json) -> None:
    paths.setdefault(path, {})[verb] = found


def tag_of(operation: Operation) -> str:
    """The service's word: the part of an API's name before the dot."""
    return operation.api.name.partition(".")[0]


def _tags(operations: Operations) -> list[Json]:
    """One tag a service, described by the first line of its contract's docstring."""
    texts: dict[str, str] = {r.type: "" for r in operations.resources.values()}
    texts |= {tag_of(o): _summary(o) for o in operations.by_name.values()}
    texts |= {"job": "What was asked for and how far it is.", "event": "What happens, as it happens."}
    texts["node"] = "About this node."
    return [{"name": name, "description": text} for name, text in sorted(texts.items())]


def _summary(operation: Operation) -> str:
    text = sys.modules[operation.message.__module__].__doc__ or ""
    return text.strip().partition("\n")[0]


class _Schemas:
    """All schemas at once, so that a type has one component and one name everywhere."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        types = dict(self._types(operations))
        found, components = msgspec.json.schema_components(
            types.values(), ref_template="#/components/schemas/{name}"
        )
        self._of: dict[Any, Json] = dict(zip(types, found, strict=True))
        self.components = {name: _tidy(schema) for name, schema in components.items()}
        for operation in operations.by_name.values():
            self._leave_path_fields_out(operation)

    def _types(self, operations: Operations) -> Iterable[tuple[Any, Any]]:
        """Keys to look schemas up by, and their types: structs, (message, its field), (message, REPLY)."""
        yield from ((Job, Job), (Plan, Plan))
        for resource in operations.resources.values():
            yield resource.inventory, resource.inventory
        for operation in operations.by_name.values():
            message = operation.message
            yield message, message
            yield (message, REPLY), operation.reply
            for info in msgspec.structs.fields(message):
                yield (message, info.name), info.type

    def schema(self, key: Any) -> Json:
        return self._of[key]

    def _name(self, struct: Any) -> str:
        name: str = self.schema(struct)["$ref"].rpartition("/")[2]
        return name

    def _leave_path_fields_out(self, operation: Operation) -> None:
        name = self._name(operation.message)
        schema = self.components[name]
        for field in operation.path_fields:
            schema.get("properties", {}).pop(field, None)
        schema["required"] = [f for f in schema.get("required", []) if f not in operation.path_fields]
        if not schema["required"]:
            del schema["required"]
        if operation.in_query:
            del self.components[name]  # its fields are parameters

    def listed(self, resource: Resource) -> Json:
        items = {"type": "array", "items": self.schema(resource.inventory)}
        page = {
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": items,
                "next_cursor": {
                    "type": ["string", "null"],
                    "description": "For the next page; null on the last",
                },
                "total": {"type": "integer", "description": "With count=true: how many match on all pages"},
            },
        }
        name = f"{self._name(resource.inventory)}Page"
        self.components[name] = page
        names = ("q", "sort", "limit", "cursor", "fields", "count")
        return {
            "operationId": f"{resource.type}.list",
            "tags": [resource.type],
            "summary": f"List {resource.plural.replace('-', ' ')}",
            "parameters": [ref("parameters", n) for n in names],
            "responses": _responses({"200": _json("A page", ref("schemas", name))}),
        }

    def read(self, resource: Resource) -> Json:
        text = "Its uuid or name" if resource.unique_name else "Its uuid"
        ok = _json(f"The {resource.type}", self.schema(resource.inventory))
        ok["headers"]["ETag"] = ref("headers", "ETag")
        return {
            "operationId": f"{resource.type}.get",
            "tags": [resource.type],
            "summary": f"Show one {resource.type}",
            "parameters": [
                {
                    "name": "uuid",
                    "in": "path",
                    "required": True,
                    "description": text,
                    "schema": {"type": "string"},
                },
                ref("parameters", "IfNoneMatch"),
            ],
            "responses": _responses({"200": ok, "304": {"description": "It is still as you know it"}}),
        }

    def operation(self, operation: Operation) -> Json:
        api = operation.api
        text = (operation.message.__doc__ or "").strip()
        admin = "For accounts of the operator." if api.admin else ""
        found: Json = {
            "operationId": api.name,
            "tags": [tag_of(operation)],
            "summary": api.summary or api.name,
            "description": "\n\n".join(part for part in (text, admin) if part),
            "parameters": self._parameters(operation),
            "responses": _responses(self._outcomes(operation), public=api.public),
        }
        if not operation.in_query:
            found["requestBody"] = self._body(operation)
        if api.public:
            found["security"] = []
        return {key: value for key, value in found.items() if value or key == "security"}

    def _parameters(self, operation: Operation) -> list[Json]:
        found = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": self._path_schema(operation, name),
            }
            for name in operation.path_fields
        ]
        if operation.in_query:
            for name, info in operation.fields.items():
                schema = _with_default(self.schema((operation.message, info.name)), info)
                found.append({"name": name, "in": "query", "required": info.required, "schema": schema})
        names = ["DryRun", "IdempotencyKey"] if operation.once else []
        if operation.job:
            names.append("Prefer")
        if operation.job and not operation.creates and operation.path_fields:
            names.append("IfMatch")
        return found + [ref("parameters", n) for n in names]

    def _path_schema(self, operation: Operation, name: str) -> Json:
        resource = operation.addressed.get(name)
        if resource and resource.unique_name:
            return {"type": "string", "description": "Its uuid or name"}
        return self.schema((operation.message, name))

    def _body(self, operation: Operation) -> Json:
        kind = "application/merge-patch+json" if operation.api.verb == "PATCH" else "application/json"
        required = any(info.required for info in operation.fields.values())
        content: Json = {"schema": self.schema(operation.message)}
        if sample := example(operation):
            content["example"] = sample
        body = {kind: content}
        if operation.api.verb == "PATCH":
            body["application/json"] = content
        return {"required": required, "content": body}

    def _outcomes(self, operation: Operation) -> dict[str, Json]:
        reply = self.schema((operation.message, REPLY))
        if not operation.job:
            return _answers_at_once(operation, reply, self.schema(Plan) if operation.once else None)
        accepted = _json("Accepted: the job", self.schema(Job))
        for header in ("Location", "Idempotent-Replay"):
            accepted["headers"][header] = ref("headers", header)
        plan, result = self.schema(Plan), "The result, with Prefer: wait, if the job succeeded in time"
        if operation.creates:
            return {
                "200": _json("With dry_run: the plan", plan),
                "201": _json(result, reply),
                "202": accepted,
            }
        return {"200": _json(f"{result}; with dry_run: the plan", {"anyOf": [reply, plan]}), "202": accepted}


def _answers_at_once(operation: Operation, reply: Json, plan: Json | None) -> dict[str, Json]:
    """``plan`` if it can be tried dry."""
    answer = _json("The answer", reply)
    if plan is None:
        return {str(operation.api.status): answer}
    answer["headers"]["Idempotent-Replay"] = ref("headers", "Idempotent-Replay")
    if operation.api.status == 200:
        answer = _json("The answer; with dry_run: the plan", {"anyOf": [reply, plan]}) | {
            "headers": answer["headers"]
        }
        return {"200": answer}
    return {"200": _json("With dry_run: the plan", plan), str(operation.api.status): answer}


def _responses(outcomes: dict[str, Json], public: bool = False) -> dict[str, Json]:
    names = ["400", "404", "409", "503"] if public else ["400", "401", "403", "404", "409", "503"]
    return (
        outcomes
        | {n: ref("responses", f"Problem{n}") for n in names}
        | {"default": ref("responses", "Problem")}
    )


def _json(text: str, schema: Json) -> Json:
    return {
        "description": text,
        "headers": {"X-Request-ID": ref("headers", "X-Request-ID")},
        "content": {"application/json": {"schema": schema}},
    }


def _with_default(schema: Json, info: msgspec.structs.FieldInfo) -> Json:
    plain = isinstance(info.default, bool | int | float | str)
    return schema | {"default": info.default} if plain and "$ref" not in schema else schema


def _tidy(schema: Json) -> Json:
    """Titles only repeat the component's name, and docstrings are one paragraph."""
    schema.pop("title", None)
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    return schema
