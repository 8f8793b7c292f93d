"""The gateway's own parts of the AsyncAPI document: servers, headers, bindings."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

ABOUT = """The API for AMQP 0-9-1 clients, where the operator has switched it on (`api.amqp_url`).

Publish a request as JSON to the exchange `mgmtnode.api` with the name of the API as routing key and the properties
`reply_to`, `correlation_id` and, for what may have to be sent again, `message_id`. A request for a change is
answered with the accepted job and later with its end; everything else at once. The property `type` of an answer
tells which it is: `result`, `problem`, `job.accepted` or `job.ended`. Answers and events can come twice; those that
can have the same `message_id` then."""

SERVERS: Json = {
    "broker": {
        "host": "{host}:{port}",
        "pathname": "/{vhost}",
        "protocol": "amqp",
        "protocolVersion": "0.9.1",
        "description": "RabbitMQ, with a virtual host of its own for this",
        "variables": {
            "host": {"default": "localhost"},
            "port": {"default": "5672"},
            "vhost": {"default": "mgmtnode-api"},
        },
        "security": [
            {"type": "plain", "description": "A user of the broker; the caller is told by the token"}
        ],
    }
}

CORRELATION: Json = {
    "location": "$message.header#/correlationId",
    "description": "The property correlation_id of the request, in each of its answers",
}


def _text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description} | more


AUTHORIZATION = _text("Bearer and the token of a session, or an API key", pattern="^[Bb]earer ")
COMMON = {
    "x-request-id": _text("The request's id, in the node's logs and in the answer; drawn if left out"),
    "traceparent": _text("The trace that the request belongs to (W3C Trace Context)"),
}
FOR_JOBS: Json = {
    "dry-run": {"type": "boolean", "description": "Check and plan, but do nothing"},
    "if-match": _text("Only if the resource still has this ETag"),
}

ANSWER_HEADERS: Json = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"type": "integer", "description": "The status that HTTP has for the same answer"},
        "x-request-id": COMMON["x-request-id"],
        "idempotent-replay": _text("true: the message_id had been used before"),
    },
}

EVENT_HEADERS: Json = {
    "type": "object",
    "properties": {
        "resource_type": {"type": "string"},
        "resource_uuid": {"type": "string", "format": "uuid"},
        "account_uuid": {"type": "string", "format": "uuid"},
        "revision": {"type": "integer", "description": "Counts the events of the resource from 1"},
    },
}


def ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def request_headers(*, public: bool, job: bool) -> Json:
    properties: Json = (
        ({} if public else {"authorization": AUTHORIZATION}) | COMMON | (FOR_JOBS if job else {})
    )
    required = {} if public else {"required": ["authorization"]}
    return {"type": "object", "properties": properties} | required


def binding(exchange: str) -> Json:
    about = {"name": exchange, "type": "topic", "durable": True, "autoDelete": False}
    return {"amqp": {"is": "routingKey", "exchange": about, "bindingVersion": "0.3.0"}}


def page_of(item: Json) -> Json:
    return {
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": {"type": "array", "items": item},
            "next_cursor": {"type": ["string", "null"], "description": "For the next page; null on the last"},
            "total": {"type": "integer", "description": "With count: how many match on all pages"},
        },
    }
