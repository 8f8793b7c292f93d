"""api.md: every call of the REST API, by the service that answers it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, get_type_hints

import msgspec

from mgmtnode.api.operations import PATH_FIELD
from mgmtnode.bus.message import ApiJob, ApiMessage, Nothing, reply_type
from mgmtnode.jobs.job import JOB
from mgmtnode.loader import messages, values
from mgmtnode.query.describe import ResourceDescription
from mgmtnode.schema import Resource
from mgmtnode.service import ServiceManifest
from scripts.reference.errors import service_codes
from scripts.reference.installation import Installation
from scripts.reference.words import (
    HEAD,
    code,
    field_rows,
    listed,
    prose,
    structs_below,
    structs_in,
    table,
    type_words,
)

Message = type[ApiMessage[Any]]

INTRO = """\
# The REST API

What holds for every call is in [How to use the API](../how-to/use-the-api.md): authentication, errors,
jobs, waiting, idempotency, dry runs, conditions, events. A running node has the same as
`/openapi.json`, and to click through at `/docs`. **Permission**: the name that policies allow or deny;
*operator* means accounts of the operator only, whatever a policy says. Beside the codes listed with a
service, any call may answer the [general ones](errors.md#the-node).

"""
NODE = """\
## The node

| | permission | |
|---|---|---|
| `GET /v1` | | version, resources and APIs of this installation |
| `GET /v1/jobs`, `GET /v1/jobs/{uuid}?wait=30` | `job.read` | `wait`: once it ended, at most 60 s later |
| `POST /v1/jobs/{uuid}/actions/cancel` | `job.cancel` | asks a job to stop and undo what it did |
| `GET /v1/events?types=vm.*&resource=UUID` | `event.read` | server-sent events, resumable |
| `GET /livez` `GET /readyz` `GET /metrics` | none needed | is it alive; does it serve; Prometheus metrics |
| `GET /openapi.json` `GET /docs` `GET /docs/errors` | none needed | documents |

"""


def page(here: Installation) -> str:
    parts = [HEAD, INTRO, _contents(here), NODE, _reading(JOB, here.queries[JOB.type])]
    told: set[type] = {Nothing}
    parts += _types([JOB.inventory], [], told)
    for manifest in here.manifests:
        if found := outside(manifest):
            parts += [f"## {manifest.id}\n\n{manifest.summary}.\n\n", *_service(here, manifest, found, told)]
    return "".join(parts).rstrip() + "\n"


def outside(manifest: ServiceManifest) -> list[Message]:
    """The messages of a service that come from outside, in the order of the contract."""
    found = [message for module in manifest.contract for message in messages(module)]
    return [m for m in found if issubclass(m, ApiMessage) and not (issubclass(m, ApiJob) and m.internal)]


def _contents(here: Installation) -> str:
    rows = [
        (f"[{manifest.id}](#{manifest.id})", listed(code(m.api.name) for m in outside(manifest)))
        for manifest in here.manifests
        if outside(manifest)
    ]
    return table(("service", "calls"), rows)


def _service(
    here: Installation, manifest: ServiceManifest, found: list[Message], told: set[type]
) -> Iterator[str]:
    declared = [r for module in manifest.contract for r in values(module, Resource)]
    resources = [r for r in declared if r.type in here.queries]
    for resource in resources:
        yield _reading(resource, here.queries[resource.type])
    for message in found:
        yield _call(message)
    shown: list[Any] = [*(r.inventory for r in resources), *found]
    yield from _types(shown, (reply_type(message) for message in found), told)
    if codes := sorted(each.id for each in service_codes(manifest)):
        yield f"Codes of this service: {listed(f'[{code(c)}](errors.md#{c})' for c in codes)}.\n\n"


def _reading(resource: Resource, query: ResourceDescription) -> str:
    path = f"/v1/{resource.plural}"
    name = resource.inventory.__name__
    title = f'<a id="{name.lower()}"></a>\n### {name}: `GET {path}`, `GET {path}/{{uuid}}`\n\n'
    named = " A name will do for the uuid." if resource.unique_name else ""
    hints = get_type_hints(resource.inventory, include_extras=True)
    shown = {f.name: f for f in query.fields}
    rows = [
        (code(name), type_words(hints[name]), "" if name in shown and shown[name].operators else "no")
        for name in resource.inventory.__struct_fields__
    ]
    about = prose(resource.inventory)
    text = f"{title}Permission `{resource.type}.read`.{named} {about}".rstrip() + "\n\n"
    return text + table(("field", "type", "in conditions"), rows) + _more(query)


def _more(query: ResourceDescription) -> str:
    hidden = [code(f.name) for f in query.fields if not f.shown]
    joins = [code(join.name) for join in query.joins]
    lines = [f"Also in conditions: {listed(hidden)}."] if hidden else []
    lines += [f"From here, conditions reach: {listed(joins)}."] if joins else []
    return " ".join(lines) + "\n\n" if lines else ""


def _call(message: Message) -> str:
    api, path = message.api, PATH_FIELD.findall(message.api.path)
    road = f"`{api.verb} /v1{api.path}`"
    head = f"### `{api.name}`: {api.summary}\n\n"
    parts = [head, f"{road} · {_permission(message)} · {_answer(message)}\n\n"]
    if about := prose(message):
        parts.append(f"{about}\n\n")
    where = "parameter" if api.verb in ("GET", "DELETE") else "field"
    parts.append(table((where, "type", "if left out"), field_rows(message, path)))
    return "".join(parts)


def _permission(message: Message) -> str:
    if message.api.public:
        return "no token needed"
    return f"permission `{message.api.name}`" + (", operator" if message.api.admin else "")


def _answer(message: Message) -> str:
    reply = reply_type(message)
    name = reply.__name__
    if issubclass(message, ApiJob):
        what = "" if name == "Nothing" else f" with a {name}"
        return f"a job, `202`; waited for `{201 if message.creates else 200}`{what}"
    return f"at once, `{message.api.status}`" + ("" if name == "Nothing" else f" with a {name}")


def _types(shown: Iterable[type[msgspec.Struct]], replies: Iterable[Any], told: set[type]) -> Iterator[str]:
    """What replies and fields are made of, each once on the page; ``shown`` were there with their fields."""
    told.update(shown)
    found = [s for struct in shown for s in structs_below(struct, told)]
    found += [s for reply in replies for s in structs_in(reply, told)]
    for struct in found:
        name = struct.__name__
        yield f'<a id="{name.lower()}"></a>\n**{name}** {prose(struct)}'.rstrip() + "\n\n"
        yield table(("field", "type"), (row[:2] for row in field_rows(struct)))
