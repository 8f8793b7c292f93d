"""What people and programs read: the API browser at /docs, the error codes, /openapi.json and /asyncapi.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from html import escape
from importlib.resources import files

import msgspec

from mgmtnode.api import asyncapi, openapi
from mgmtnode.api.http import Reply, Request
from mgmtnode.api.operations import Operations
from mgmtnode.api.paths import Endpoint
from mgmtnode.api.problems import Catalogue, status_of
from mgmtnode.bus.message import Event

HTML = "text/html; charset=utf-8"
# The pages bring all they need along, and may talk to nobody but the node that served them.
POLICY = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


class Docs:
    def __init__(
        self, operations: Operations, catalogue: Catalogue, events: Iterable[type[Event]] = ()
    ) -> None:
        self._operations, self._catalogue, self._events = operations, catalogue, tuple(events)

    def routes(self) -> Iterator[tuple[str, str, Endpoint, str]]:
        yield "GET", "/openapi.json", self._openapi, "openapi"
        yield "GET", "/asyncapi.json", self._asyncapi, "asyncapi"
        yield "GET", "/docs", self._browser, "docs"
        yield "GET", "/docs/errors", self._errors, "docs"

    async def _openapi(self, request: Request) -> Reply:
        return Reply(self._document)

    async def _asyncapi(self, request: Request) -> Reply:
        return Reply(self._async_document)

    async def _browser(self, request: Request) -> Reply:
        return Reply(_page("docs.html"), 200, POLICY, HTML)

    async def _errors(self, request: Request) -> Reply:
        return Reply(self._error_page, 200, POLICY, HTML)

    @cached_property
    def _document(self) -> bytes:
        return msgspec.json.encode(openapi.document(self._operations))

    @cached_property
    def _async_document(self) -> bytes:
        return msgspec.json.encode(asyncapi.document(self._operations, self._events))

    @cached_property
    def _error_page(self) -> bytes:
        rows = []
        for id_, code in sorted(self._catalogue.codes.items()):
            cells = (f"<code>{escape(id_)}</code>", str(status_of(code.error().problem)), code.category)
            columns = "".join(f"<td>{cell}</td>" for cell in (*cells, escape(code.summary)))
            rows.append(f'<tr id="{escape(id_, quote=True)}">{columns}</tr>')
        return _page("errors.html").replace(b"<!-- rows -->", "".join(rows).encode())


def _page(name: str) -> bytes:
    return (files("mgmtnode.api") / "static" / name).read_bytes()
