"""services.md: what each service declares."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from mgmtnode.bus.message import Internal, InTx, reply_type
from mgmtnode.loader import events, messages, values
from mgmtnode.schema import Resource
from mgmtnode.service import ServiceManifest
from scripts.reference.api import outside
from scripts.reference.errors import service_codes
from scripts.reference.installation import Installation
from scripts.reference.words import HEAD, code, listed, prose, table

INTRO = """\
# Services

What each service of this release declares in its `manifest.py` and contract; `mgmtnode services` prints
the same of what is installed on a machine. A *plugin* can be left out (`services.enabled`) without harm
to the others. *Internal* messages are calls over the bus, *in-transaction* messages are handled inside
the caller's transaction ([why](../adr/0004-messages-inside-the-callers-transaction.md)). An *extension
point* has any number of implementors, a *strategy* one for each key.

"""


def page(here: Installation) -> str:
    rows = [(f"[{m.id}](#{m.id})", "plugin" if m.plugin else "", m.summary) for m in here.manifests]
    parts = [HEAD, INTRO, table(("service", "", "what it is for"), rows)]
    parts += [_service(manifest) for manifest in here.manifests]
    return "".join(parts).rstrip() + "\n"


def _service(manifest: ServiceManifest) -> str:
    rows = [(title, text) for title, text in _facts(manifest) if text]
    text = f"## {manifest.id}\n\n{manifest.summary}.\n\n" + table(("", ""), rows)
    text += table(("message to it", "kind", "answer", "meaning"), _spoken(manifest))
    return text + table(("point", "kind", "meaning"), _points(manifest))


def _facts(manifest: ServiceManifest) -> Iterator[tuple[str, str]]:
    modules = manifest.contract
    calls = f"[API](api.md#{manifest.id})"
    resources = (r for m in modules for r in values(m, Resource))
    yield "contract", listed(code(m.__name__) for m in modules)
    yield "requires", listed(f"[{r}](#{r})" for r in manifest.requires)
    yield "resources", listed(f"{code(r.type)} at {code('/v1/' + r.plural)}" for r in resources)
    yield calls, listed(code(m.api.name) for m in outside(manifest))
    yield "[events](events.md)", listed(code(e.name) for m in modules for e in events(m))
    yield "implements", listed(_implements(manifest))
    yield "on deletion", listed(_cascades(manifest))
    yield "[global configs](global-configs.md)", listed(code(c.name) for c in manifest.config)
    yield "[global properties](global-properties.md)", listed(code(p.name) for p in manifest.properties)
    yield "[system tags](system-tags.md)", listed(f"{code(t.format)} on {t.on}" for t in manifest.tags)
    yield "tables", listed(code(t.name) for t in manifest.tables)
    yield "[error codes](errors.md)", listed(code(c.id) for c in service_codes(manifest))


def _implements(manifest: ServiceManifest) -> Iterator[str]:
    for extension in manifest.extensions:
        yield code(extension.point.__name__) + (f" as {code(extension.key)}" if extension.key else "")


def _cascades(manifest: ServiceManifest) -> Iterator[str]:
    for rule in manifest.cascade:
        if rule.nullify:
            yield f"{code(f'{rule.child}.{rule.column}')} is emptied when the {rule.parent} goes"
        else:
            yield f"each {rule.child} of a {rule.parent} that goes, by {code(f'{rule.child}.{rule.column}')}"


def _spoken(manifest: ServiceManifest) -> Iterable[tuple[str, str, str, str]]:
    for module in manifest.contract:
        for message in messages(module):
            if issubclass(message, Internal | InTx):
                kind = "in-transaction" if issubclass(message, InTx) else "internal"
                yield code(message.__name__), kind, code(_name(reply_type(message))), prose(message)


def _points(manifest: ServiceManifest) -> Iterable[tuple[str, str, str]]:
    for module in manifest.contract:
        for cls in _declared(module):
            kind = {"point": "extension point", "strategy": "strategy"}[vars(cls)["__extension__"]]
            yield code(cls.__name__), kind, prose(cls)


def _declared(module: ModuleType) -> list[type]:
    classes = [
        cls for cls in vars(module).values() if inspect.isclass(cls) and cls.__module__ == module.__name__
    ]
    return [cls for cls in classes if "__extension__" in vars(cls)]


def _name(reply: Any) -> str:
    return "" if reply.__name__ == "Nothing" else str(reply.__name__)
