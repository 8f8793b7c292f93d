"""REST: paths from contracts, requests to the gateway, its answers as HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mgmtnode import __version__
from mgmtnode.api import json
from mgmtnode.api.auth import bearer
from mgmtnode.api.edge import Edge
from mgmtnode.api.gateway import Accepted, Answer, Done, Gateway, Options, Planned, etag, matches
from mgmtnode.api.http import Receive, Reply, Request, Scope, Send
from mgmtnode.api.operations import Operation
from mgmtnode.api.parameters import Parameters, listing, message_fields
from mgmtnode.api.paths import Endpoint, Paths
from mgmtnode.api.problems import INVALID_FIELD
from mgmtnode.errors import CANCELLED, INTERNAL, ApiError
from mgmtnode.jobs.job import Job, JobState
from mgmtnode.schema import Resource

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JOB_WAIT = 60.0
BASE = "/v1"


class Rest:
    """The ASGI application's routes. ``extra``: (method, path, endpoint, name) of health, docs and events."""

    def __init__(self, gateway: Gateway, extra: Iterable[tuple[str, str, Endpoint, str]] = ()) -> None:
        self._gateway = gateway
        self._v1, self._root = Paths(), Paths()
        for operation in gateway.operations.by_name.values():
            api = operation.api
            self._v1.add(api.verb, BASE + api.path, self._operation(operation), api.name)
        self._add_jobs()
        self._v1.add("GET", BASE, self._about, "about")
        for resource in gateway.operations.resources.values():
            self._add_resource(resource)
        for method, path, endpoint, name in extra:
            (self._v1 if path.startswith(BASE + "/") else self._root).add(method, path, endpoint, name)

    def app(self, edge: Edge) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """The whole application: ``edge`` around the routes."""
        below = f"{BASE}/"

        async def route(request: Request) -> Reply | None:
            paths = self._v1 if request.path.startswith(below) or request.path == BASE else self._root
            return await paths(request)

        return edge.around(route)

    def _add_resource(self, resource: Resource) -> None:
        path = f"{BASE}/{resource.plural}"
        for at, endpoint in ((path, self._list(resource)), (path + "/{uuid}", self._get(resource))):
            if not self._v1.has("GET", at):
                self._v1.add("GET", at, endpoint, f"{resource.type}.read")

    def _add_jobs(self) -> None:
        self._v1.add("GET", f"{BASE}/jobs/{{uuid}}", self._job, "job.read")
        self._v1.add("POST", f"{BASE}/jobs/{{uuid}}/actions/cancel", self._cancel, "job.cancel")

    def _operation(self, operation: Operation) -> Endpoint:
        async def endpoint(request: Request) -> Reply:
            key = request.idempotency_key
            token = None if operation.api.public else bearer(request.headers.get("authorization"))
            caller = await self._gateway.caller_of(operation, token)
            params = Parameters(request.scope["query_string"])
            dry_run = operation.api.verb != "GET" and params.flag("dry_run")
            fields = await self._fields(operation, request, params)
            options = Options(key, request.wait, dry_run, request.headers.get("if-match"), operation.in_query)
            outcome = await self._gateway.invoke(operation, fields, caller, options)
            return answer(outcome, request, self._gateway)

        return endpoint

    async def _fields(self, operation: Operation, request: Request, params: Parameters) -> dict[str, Any]:
        """The message's fields, from where its verb has them: the query or the body, and the path."""
        fields: dict[str, Any] = message_fields(params, operation) if operation.in_query else {}
        params.finish()
        body = b"" if operation.api.verb == "GET" else await request.body()
        if body:
            allowed = (JSON, MERGE_PATCH) if operation.api.verb == "PATCH" else (JSON,)
            request.check_content_type(*allowed)
            fields |= _body_fields(operation, json.parse(body))
        for name, value in request.params.items():
            if fields.get(name, value) != value:
                text = f"the field {name!r} is in the path; leave it out of the body"
                raise INVALID_FIELD.error(text, field=name)
            fields[name] = value
        return fields

    def _list(self, resource: Resource) -> Endpoint:
        async def endpoint(request: Request) -> Reply:
            caller = await self._gateway.authenticate(bearer(request.headers.get("authorization")))
            wanted = listing(Parameters(request.scope["query_string"]))
            page = await self._gateway.page(resource, wanted, caller)
            body = {"items": page.items, "next_cursor": page.next_cursor}
            return Reply(body | {"total": page.total} if wanted.count else body)

        return endpoint

    def _get(self, resource: Resource) -> Endpoint:
        async def endpoint(request: Request) -> Reply:
            caller = await self._gateway.authenticate(bearer(request.headers.get("authorization")))
            Parameters(request.scope["query_string"]).finish()
            found = await self._gateway.get(resource, request.params["uuid"], caller)
            tag = etag(found)
            headers = {} if tag is None else {"etag": tag}
            known = request.headers.get("if-none-match")
            if known is not None and matches(tag, known):
                return Reply(b"", 304, headers)
            return Reply(found, 200, headers)

        return endpoint

    async def _job(self, request: Request) -> Reply:
        caller = await self._gateway.authenticate(bearer(request.headers.get("authorization")))
        params = Parameters(request.scope["query_string"])
        wait = params.seconds("wait", JOB_WAIT)
        params.finish()
        return Reply(await self._gateway.job(request.params["uuid"], caller, wait))

    async def _cancel(self, request: Request) -> Reply:
        caller = await self._gateway.authenticate(bearer(request.headers.get("authorization")))
        Parameters(request.scope["query_string"]).finish()
        body = await request.body()
        if body:
            request.check_content_type(JSON)
            for name in json.parse(body):
                raise INVALID_FIELD.error(f"there is no field {name[:80]!r}", field=name[:80])
        job = await self._gateway.cancel(request.params["uuid"], caller)
        return Reply(job, 200 if job.ended else 202, {"location": f"{BASE}/jobs/{job.uuid}"})

    async def _about(self, request: Request) -> Reply:
        await self._gateway.authenticate(bearer(request.headers.get("authorization")))
        resources = sorted(self._gateway.operations.resources.values(), key=lambda r: r.plural)
        return Reply(
            {
                "version": __version__,
                "resources": [{"type": r.type, "path": f"{BASE}/{r.plural}"} for r in resources],
                "apis": sorted(self._gateway.operations.by_name),
            }
        )


def _body_fields(operation: Operation, body: dict[str, Any]) -> dict[str, Any]:
    if operation.in_query:
        raise INVALID_FIELD.error(f"{operation.api.verb} takes its fields from the query, not from a body")
    return body


def answer(outcome: Answer, request: Request, gateway: Gateway) -> Reply:
    """The gateway's answer as HTTP. Raises the problem of a job that was waited for and did not succeed."""
    if isinstance(outcome, Done):
        again = {"idempotent-replay": "true"} if outcome.replayed else {}
        return Reply(outcome.reply, outcome.operation.api.status, again)
    if isinstance(outcome, Planned):
        return Reply(outcome.plan)
    headers = {"location": f"{BASE}/jobs/{outcome.job.uuid}", "x-job-uuid": outcome.job.uuid}
    if outcome.replayed:
        headers["idempotent-replay"] = "true"
    if request.wait and outcome.job.ended:
        return _ended(outcome, headers, gateway)
    return Reply(outcome.job, 202, headers)


def _ended(outcome: Accepted, headers: dict[str, str], gateway: Gateway) -> Reply:
    job = outcome.job
    headers["preference-applied"] = "wait"
    if job.state is not JobState.SUCCEEDED:
        raise failure(job, headers)
    resource = gateway.operations.resources.get(job.resource_type)
    if resource and outcome.operation.creates:
        headers["location"] = f"{BASE}/{resource.plural}/{job.resource_uuid}"
    if tag := etag(job.result):
        headers["etag"] = tag
    return Reply({} if job.result is None else job.result, 201 if outcome.operation.creates else 200, headers)


def failure(job: Job, headers: dict[str, str]) -> ApiError:
    """The problem a job ended with."""
    problem = job.error
    if problem is None:
        code = CANCELLED if job.state is JobState.CANCELLED else INTERNAL
        problem = code.error(f"job {job.uuid} ended {job.state}", resource=job.resource_uuid).problem
    return ApiError(problem, headers)
