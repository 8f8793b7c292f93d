"""The AsyncAPI 3.0 document of the AMQP API, written from the contracts like the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from mgmtnode import __version__
from mgmtnode.api.amqp.routes import CancelRoute, GetFields, GetRoute, ListFields, ListRoute, Route, Routes
from mgmtnode.api.amqp.topology import API, EVENTS
from mgmtnode.api.asyncapi_parts import (
    ABOUT,
    ANSWER_HEADERS,
    CORRELATION,
    EVENT_HEADERS,
    SERVERS,
    binding,
    page_of,
    ref,
    request_headers,
)
from mgmtnode.api.openapi import tag_of
from mgmtnode.api.openapi_examples import example
from mgmtnode.api.openapi_parts import PROBLEM
from mgmtnode.api.operations import Operation, Operations
from mgmtnode.bus.message import Event
from mgmtnode.events.repository import LoggedEvent
from mgmtnode.jobs.job import Job, Plan

Json = dict[str, Any]
REPLIES = "replies"
PROBLEM_MESSAGE = "problem"
ACCEPTED_MESSAGE = "job.accepted"


def document(operations: Operations, events: Iterable[type[Event]]) -> Json:
    """The whole document, as JSON-encodable values."""
    told = sorted(events, key=lambda event: event.name)
    routes = Routes(operations)
    writer = _Writer(routes, told)
    for name, route in sorted(routes.by_name.items()):
        writer.add_request(name, route)
    for event in told:
        writer.add_event(event)
    return writer.document()


class _Writer:
    """Collects channels, operations and messages. ``_schema`` has one component for each type."""

    def __init__(self, routes: Routes, events: list[type[Event]]) -> None:
        self._routes = routes
        types = list(dict.fromkeys(_types(routes, events)))
        found, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
        self._schema: dict[Any, Json] = dict(zip(types, found, strict=True))
        self._schemas = components | {"ProblemDocument": PROBLEM}
        self._channels: dict[str, Json] = {REPLIES: {"address": None, "messages": {}}}
        self._operations: dict[str, Json] = {}
        self._messages: dict[str, Json] = {
            PROBLEM_MESSAGE: _answer("What went wrong", ref("schemas", "ProblemDocument"))
            | {"contentType": "application/problem+json"},
            ACCEPTED_MESSAGE: _answer("The accepted job", self._schema[Job]),
        }
        self._offer(PROBLEM_MESSAGE)
        self._offer(ACCEPTED_MESSAGE)

    def document(self) -> Json:
        return {
            "asyncapi": "3.0.0",
            "info": {"title": "Management node", "version": __version__, "description": ABOUT},
            "defaultContentType": "application/json",
            "servers": SERVERS,
            "channels": self._channels,
            "operations": self._operations,
            "components": {
                "messages": self._messages,
                "schemas": dict(sorted(self._schemas.items())),
                "correlationIds": {"request": CORRELATION},
            },
        }

    def add_request(self, name: str, route: Route) -> None:
        message = f"{name}.request"
        public = isinstance(route, Operation) and route.api.public
        job = isinstance(route, Operation) and route.job
        self._messages[message] = {
            "name": name,
            "headers": request_headers(public=public, job=job),
            "payload": self._body(route),
            "correlationId": ref("correlationIds", "request"),
            "contentType": "application/json",
            **_examples(route),
        }
        self._channels[name] = {
            "address": name,
            "messages": {"request": ref("messages", message)},
            "bindings": binding(API),
        }
        self._operations[name] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{name}"},
            **_about(name, route),
            "messages": [{"$ref": f"#/channels/{name}/messages/request"}],
            "reply": {
                "address": {"location": "$message.header#/replyTo", "description": "The property reply_to"},
                "channel": {"$ref": f"#/channels/{REPLIES}"},
                "messages": [self._offered(answer) for answer in self._answers(name, route)],
            },
        }

    def add_event(self, event: type[Event]) -> None:
        summary = " ".join((event.__doc__ or "").split())
        payload = {
            "allOf": [
                self._schema[LoggedEvent],
                {"type": "object", "properties": {"body": self._schema[event]}},
            ]
        }
        name = f"{event.name}.event"
        self._messages[name] = {"name": event.name, "headers": EVENT_HEADERS, "payload": payload}
        self._channels[f"events.{event.name}"] = {
            "address": event.name,
            "messages": {"event": ref("messages", name)},
            "bindings": binding(EVENTS),
        }
        self._operations[f"events.{event.name}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/events.{event.name}"},
            "summary": summary or event.name,
            "messages": [{"$ref": f"#/channels/events.{event.name}/messages/event"}],
        }

    def _body(self, route: Route) -> Json:
        if isinstance(route, Operation):
            return self._schema[route.message]
        return self._schema[ListFields if isinstance(route, ListRoute) else GetFields]

    def _answers(self, name: str, route: Route) -> list[str]:
        """The messages that may answer a request, each made known when it is first named."""
        if isinstance(route, Operation) and route.job:
            ended = {
                "type": "object",
                "properties": {"result": {"anyOf": [self._schema[route.reply], {"type": "null"}]}},
            }
            self._answer_with(f"{name}.ended", "The job, ended", {"allOf": [self._schema[Job], ended]})
            self._answer_with("plan", "With dry-run: the plan", self._schema[Plan])
            return [ACCEPTED_MESSAGE, f"{name}.ended", "plan", PROBLEM_MESSAGE]
        self._answer_with(f"{name}.result", "The answer", self._result(route))
        return [f"{name}.result", PROBLEM_MESSAGE]

    def _result(self, route: Route) -> Json:
        if isinstance(route, Operation):
            return self._schema[route.reply]
        if isinstance(route, CancelRoute):
            return self._schema[Job]
        one = self._schema[route.resource.inventory]
        return page_of(one) if isinstance(route, ListRoute) else one

    def _answer_with(self, message: str, summary: str, payload: Json) -> None:
        if message not in self._messages:
            self._messages[message] = _answer(summary, payload)
            self._offer(message)

    def _offer(self, message: str) -> None:
        self._channels[REPLIES]["messages"][message] = ref("messages", message)

    def _offered(self, message: str) -> Json:
        return {"$ref": f"#/channels/{REPLIES}/messages/{message}"}


def _types(routes: Routes, events: list[type[Event]]) -> Iterable[Any]:
    yield from (Job, Plan, LoggedEvent, ListFields, GetFields)
    for route in routes.by_name.values():
        if isinstance(route, Operation):
            yield from (route.message, route.reply)
        elif isinstance(route, ListRoute | GetRoute):
            yield route.resource.inventory
    yield from events


def _about(name: str, route: Route) -> Json:
    if isinstance(route, Operation):
        text = " ".join((route.message.__doc__ or "").split())
        found = {"summary": route.api.summary or name, "tags": [{"name": tag_of(route)}]}
        return found | ({"description": text} if text else {})
    if isinstance(route, CancelRoute):
        return {"summary": "Ask a job to stop and undo", "tags": [{"name": "job"}]}
    if isinstance(route, ListRoute):
        return {
            "summary": f"List {route.resource.plural.replace('-', ' ')}",
            "tags": [{"name": route.resource.type}],
        }
    return {"summary": f"Show one {route.resource.type}", "tags": [{"name": route.resource.type}]}


def _examples(route: Route) -> Json:
    sample = example(route) if isinstance(route, Operation) and not route.path_fields else None
    return {"examples": [{"payload": sample}]} if sample else {}


def _answer(summary: str, payload: Json) -> Json:
    return {
        "summary": summary,
        "headers": ANSWER_HEADERS,
        "payload": payload,
        "correlationId": ref("correlationIds", "request"),
    }
