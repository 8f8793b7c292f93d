"""Which transport a node has, from its configuration."""

from __future__ import annotations

from urllib.parse import urlsplit

from mgmtnode.bus.memory import Hub
from mgmtnode.bus.transport import Transport
from mgmtnode.ports import Rng

AMQP = ("amqp", "amqps")
EXAMPLE = "amqp://USER:PASSWORD@HOST:5672/VHOST"


class BadBusUrl(ValueError):
    """``bus.url`` leads to no broker this product can use. The text does not repeat the password."""


def brokers(url: str) -> list[str]:
    """The brokers of one cluster: ``url`` has one, or several separated by semicolons."""
    return [part.strip() for part in url.split(";") if part.strip()]


def check_url(url: str) -> None:
    """Empty is right: no broker. Raises BadBusUrl."""
    for broker in brokers(url):
        try:
            parts = urlsplit(broker)
            known = parts.scheme in AMQP and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number
            known = False
        if not known:
            raise BadBusUrl(
                f"bus.url: expected {EXAMPLE}, amqps:// for TLS, several separated by semicolons, or nothing"
            )


def transport_over(url: str, address: str, *, rng: Rng) -> Transport:
    """Connects to nothing yet. Raises BadBusUrl."""
    check_url(url)
    if not url:
        return Hub().transport(address)
    from mgmtnode.bus.amqp import (
        AmqpTransport,
    )  # kombu costs a tenth of a second that one node can do without

    return AmqpTransport(url, address, rng=rng)
