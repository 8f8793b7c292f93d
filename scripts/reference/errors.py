"""errors.md: every code, what status it has over HTTP, and what to make of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mgmtnode.api.problems import status_of
from mgmtnode.errors import RETRYABLE, ErrorCode
from mgmtnode.service import ServiceManifest
from scripts.reference.installation import Installation, own_codes
from scripts.reference.words import HEAD, code, table

INTRO = """\
# Error codes

Every failure is an RFC 9457 problem (`application/problem+json`) with a `code` from this page; codes
are never renamed. `category` is one of a closed list and decides the HTTP status, but for a few codes.
`retryable`: the same request may succeed later, without a change; `retry_after` and the header
`Retry-After` say when, where that is known. Jobs that failed carry the same object in `error`, and the
SDK raises it. [How the API answers](../how-to/use-the-api.md#errors) shows one.

"""


def page(here: Installation) -> str:
    parts = [HEAD, INTRO, "## The node\n\n", codes_table(code for _, code in here.core_codes())]
    for manifest in here.manifests:
        if codes := list(service_codes(manifest)):
            parts += [f"## {manifest.id}\n\n", codes_table(codes)]
    return "".join(parts).rstrip() + "\n"


def service_codes(manifest: ServiceManifest) -> Iterator[ErrorCode]:
    for module in manifest.contract:
        yield from own_codes(module)


def codes_table(codes: Iterable[ErrorCode]) -> str:
    rows = [
        (
            f'<a id="{each.id}"></a>{code(each.id)}',
            str(status_of(each.error().problem)),
            each.category,
            "yes" if each.category in RETRYABLE else "",
            each.summary,
        )
        for each in sorted(codes, key=lambda c: c.id)
    ]
    return table(("code", "HTTP", "category", "retryable", "meaning"), rows)
