"""The gateway's own parts of the OpenAPI document: headers, parameters, problems, core paths."""

from __future__ import annotations

from typing import Any

from mgmtnode.errors import HTTP_STATUS, Category

Json = dict[str, Any]


def ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _query(name: str, text: str, **schema: Any) -> Json:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _header(name: str, text: str, **schema: Any) -> Json:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string"} | schema}


PARAMETERS: Json = {
    "q": _query(
        "q",
        "A condition such as state=Running or host.cluster.zone.name=west; several must all hold. Operators: "
        "= != > >= < <=, ~= !~= (like), ?= !?= (in a list with commas), =null, !=null",
        type="array",
        items={"type": "string"},
    ),
    "sort": _query("sort", "A field; descending with a minus before it", type="string"),
    "limit": _query("limit", "Items on a page", type="integer", minimum=1, maximum=1000, default=100),
    "cursor": _query("cursor", "The next_cursor of the page before", type="string"),
    "fields": _query("fields", "Only these fields, with commas between", type="string"),
    "count": _query("count", "Also tell how many match", type="boolean", default=False),
    "DryRun": _query("dry_run", "Check and plan, but do nothing", type="boolean", default=False),
    "Wait": _query("wait", "Seconds to wait for the end of the job", type="number", minimum=0, default=0),
    "JobUuid": {
        "name": "uuid",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
    },
    "Prefer": _header("Prefer", "wait=30: answer when the job ended, or after 30 s (at most 60)"),
    "IdempotencyKey": _header(
        "Idempotency-Key", "Sent again with the same key, a request is done once", minLength=1, maxLength=255
    ),
    "IfMatch": _header("If-Match", "Only if the resource still has this ETag"),
    "IfNoneMatch": _header("If-None-Match", "Answer 304 if the resource still has this ETag"),
    "LastEventID": _header("Last-Event-ID", "Resume after this event"),
}

HEADERS: Json = {
    "X-Request-ID": {"description": "The request's id, in the node's logs too", "schema": {"type": "string"}},
    "Location": {"description": "Where the job or the new resource is", "schema": {"type": "string"}},
    "ETag": {"description": "The version of the resource", "schema": {"type": "string"}},
    "Idempotent-Replay": {"description": "true: the key had been used before", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds after which to try again", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "How to authenticate", "schema": {"type": "string"}},
}

PROBLEM: Json = {
    "type": "object",
    "description": "What went wrong (RFC 9457). Act on code or category, never on texts.",
    "required": ["type", "title", "status", "detail", "code", "category", "retryable"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string", "examples": ["core.not-found"]},
        "category": {"type": "string", "enum": [str(c) for c in Category]},
        "resource": {"type": "string"},
        "details": {"type": "object"},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed later"},
        "retry_after": {"type": "number", "description": "Seconds"},
        "request_id": {"type": "string"},
        "cause": ref("schemas", "ProblemDocument"),
    },
}


def _problem(text: str, *headers: str) -> Json:
    names = ("X-Request-ID", *headers)
    return {
        "description": text,
        "headers": {name: ref("headers", name) for name in names},
        "content": {"application/problem+json": {"schema": ref("schemas", "ProblemDocument")}},
    }


RESPONSES: Json = {
    "Problem": _problem("Another problem", "Retry-After"),
    "Problem400": _problem("The request is malformed"),
    "Problem401": _problem("No valid token", "WWW-Authenticate"),
    "Problem403": _problem("The caller may not do this"),
    "Problem404": _problem("There is no such resource"),
    "Problem409": _problem("The state of the resource, a name that is taken, or too little capacity"),
    "Problem503": _problem("Overloaded, or a part this needs is away", "Retry-After"),
}
assert HTTP_STATUS[Category.STATE] == 409  # the words above


def core_paths() -> dict[str, Json]:
    """Jobs, events and health: what is there without any service."""
    job = {"200": _answer("The job", ref("schemas", "Job"))}
    cancelled = job | {"202": _answer("The job, which will stop and undo", ref("schemas", "Job"))}
    return {
        "/v1": {
            "get": _get("about", "node", "Version, resources and APIs", {"200": _answer("About", _object())})
        },
        "/v1/jobs/{uuid}": {
            "get": _get("job.get", "job", "Show a job, or wait for its end", job)
            | {"parameters": [ref("parameters", "JobUuid"), ref("parameters", "Wait")]}
        },
        "/v1/jobs/{uuid}/actions/cancel": {
            "post": _get("job.cancel", "job", "Ask a job to stop and undo", cancelled)
            | {"parameters": [ref("parameters", "JobUuid")]}
        },
        "/v1/events": {"get": _events()},
        "/livez": {"get": _health("livez", "Whether the process lives")},
        "/readyz": {"get": _health("readyz", "Whether the node takes requests")},
    }


def _events() -> Json:
    parameters = [
        _query("types", "Names by glob with commas: vm.*,host.connected", type="string"),
        _query("resource", "Only events of this resource", type="string", format="uuid"),
        _query("after", "Resume after this event", type="string"),
        ref("parameters", "LastEventID"),
    ]
    text = "Server-sent events. A reset event says that some were missed: list again."
    stream = {"description": "The stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    found = _get("event.read", "event", "Follow what happens", {"200": stream})
    return found | {"description": text, "parameters": parameters}


def _get(name: str, tag: str, summary: str, outcomes: Json) -> Json:
    problems = {n: ref("responses", f"Problem{n}") for n in ("400", "401", "403", "404", "503")}
    responses = outcomes | problems | {"default": ref("responses", "Problem")}
    return {"operationId": name, "tags": [tag], "summary": summary, "responses": responses}


def _health(name: str, summary: str) -> Json:
    responses = {"200": _answer("Yes", _object()), "503": _answer("No", _object())}
    default = {"default": ref("responses", "Problem")}
    about = {"operationId": name, "tags": ["node"], "summary": summary, "security": []}
    return about | {"responses": responses | default}


def _answer(text: str, schema: Json) -> Json:
    return {
        "description": text,
        "headers": {"X-Request-ID": ref("headers", "X-Request-ID")},
        "content": {"application/json": {"schema": schema}},
    }


def _object() -> Json:
    return {"type": "object"}
