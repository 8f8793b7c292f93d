"""From a message to a request: where its answer goes, who asks, what is to be done once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from mgmtnode.api.amqp.frames import TOO_LARGE as OVERSIZED
from mgmtnode.api.amqp.intake import Delivery
from mgmtnode.api.amqp.topology import BODY_LIMIT, OURS
from mgmtnode.api.http import KEY_LENGTH
from mgmtnode.api.problems import INVALID_HEADER, TOO_LARGE, WRONG_TYPE

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
ENCODINGS = ("", "identity", "utf-8", "utf8")


@dataclass(frozen=True, slots=True)
class Address:
    """Where answers go, and what they bring along for the client to know them by."""

    reply_to: str
    correlation_id: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """What makes a request one that was made before. ``derived``: not the client's ``message_id`` but what the
    message is; then only a redelivery is the same request, never another message that says the same."""

    text: str
    derived: bool = False


class Headers:
    """The headers of a message, whatever the case of their names, read strictly."""

    def __init__(self, properties: dict[str, Any]) -> None:
        found = properties.get("application_headers") or {}
        self._values = {name.lower(): value for name, value in found.items() if isinstance(name, str)}

    def text(self, name: str) -> str | None:
        """Raises api.invalid-header."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise INVALID_HEADER.error(f"the header {name} must be a text", header=name)
        return value

    def wish(self, name: str) -> str:
        """A text that may be nonsense: then it is as good as none."""
        value = self._values.get(name)
        return value if isinstance(value, str) else ""

    def flag(self, name: str) -> bool:
        """Raises api.invalid-header."""
        value = self._values.get(name, False)
        if value in (True, "true") or value in (False, "false"):
            return value in (True, "true")
        raise INVALID_HEADER.error(f"the header {name} must be true or false", header=name)


def address_of(delivery: Delivery) -> Address | None:
    """None if nobody can be told anything: the message names no queue, or one of our own."""
    to = delivery.properties.get("reply_to") or ""
    if not to or not to.isprintable() or to.startswith(OURS):
        return None
    return Address(to, delivery.properties.get("correlation_id") or "")


def key_of(delivery: Delivery, address: Address) -> Key | None:
    """Raises api.invalid-header for a ``message_id`` that cannot be a key."""
    given = delivery.properties.get("message_id")
    if given:
        if not (given.isascii() and given.isprintable()):
            text = f"message_id must be 1 to {KEY_LENGTH} printable ASCII characters"
            raise INVALID_HEADER.error(text, header="message_id")
        return Key(given)
    if not address.correlation_id:
        return None
    parts = (address.reply_to, address.correlation_id, delivery.key)
    said = hashlib.sha256(b"\0".join(part.encode() for part in parts) + b"\0" + delivery.body)
    return Key(f"amqp:{said.hexdigest()}", derived=True)


def body_of(delivery: Delivery) -> bytes:
    """The body, once its size and kind are known to be right. Raises api.too-large, api.wrong-content-type."""
    if delivery.flaw == OVERSIZED:
        raise TOO_LARGE.error(f"the body has more than {BODY_LIMIT} bytes", limit=BODY_LIMIT)
    if not delivery.body:
        return b""
    kind, *parameters = str(delivery.properties.get("content_type") or "").lower().split(";")
    charset = next((p.strip() for p in parameters if p.strip().startswith("charset=")), "charset=utf-8")
    if kind.strip() not in (JSON, MERGE_PATCH) or charset.replace('"', "") != "charset=utf-8":
        raise WRONG_TYPE.error(f"content_type must be {JSON}, and the body UTF-8")
    if str(delivery.properties.get("content_encoding") or "").lower() not in ENCODINGS:
        raise WRONG_TYPE.error("the body must not be compressed")
    return delivery.body


def check_address(address: Address) -> None:
    """Raises api.invalid-header for a ``correlation_id`` that cannot be kept with a job."""
    if "\0" in address.correlation_id:
        raise INVALID_HEADER.error("correlation_id holds a NUL character", header="correlation_id")
