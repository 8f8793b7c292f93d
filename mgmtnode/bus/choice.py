"""Which transport a node has, from its configuration."""

from __future__ import annotations

from urllib.parse import urlsplit

from mgmtnode.bus.memory import Hub
from mgmtnode.bus.transport import Transport
from mgmtnode.ports import Clock, Rng

AMQP, REDIS = ("amqp", "amqps"), ("redis", "rediss")
EXAMPLE = "amqp://USER:PASSWORD@HOST:5672/VHOST"


class BadBusUrl(ValueError):
    """``bus.url`` leads to no broker this product can use. The text does not repeat the password."""


def check_url(url: str) -> None:
    """Empty is right: no broker. Several of one cluster are separated by semicolons. Raises BadBusUrl."""
    for broker in url.split(";") if url else ():
        try:
            parts = urlsplit(broker.strip())
            known = parts.scheme in (*AMQP, *REDIS) and parts.hostname and parts.port != 0
            known = known and not (parts.scheme in REDIS and ";" in url)
        except ValueError:  # a port that is no number
            known = False
        if not known:
            raise BadBusUrl(
                f"bus.url: expected {EXAMPLE}, amqps:// for TLS, several brokers of one cluster separated by "
                "semicolons; or redis://HOST:6379/0, rediss:// for TLS; or nothing, for one node"
            )


def transport_over(url: str, address: str, *, clock: Clock, rng: Rng, ca: str = "") -> Transport:
    """``ca``: file with the authority behind the broker's certificate; empty: the system's. Connects to nothing yet.
    Raises BadBusUrl."""
    check_url(url)
    if not url:
        return Hub().transport(address)
    if urlsplit(url).scheme in REDIS:
        from mgmtnode.bus.redis import RedisTransport

        return RedisTransport(url, address, clock=clock, rng=rng, ca=ca)
    from mgmtnode.bus.amqp import AmqpTransport  # kombu costs 0.1 s that one node can do without

    return AmqpTransport(url, address, rng=rng, ca=ca)
