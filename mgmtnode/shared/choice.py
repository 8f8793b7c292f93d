"""Which Shared a node has, from its configuration."""

from __future__ import annotations

from urllib.parse import urlsplit

from mgmtnode.ports import Clock, Rng
from mgmtnode.shared.port import Alone, Shared
from mgmtnode.telemetry.telemetry import Telemetry

SCHEMES = ("redis", "rediss", "unix")


class BadRedisUrl(ValueError):
    """``redis.url`` leads to no Redis. The text does not repeat the password."""


def check_url(url: str) -> None:
    """Empty is right: no Redis. Raises BadRedisUrl."""
    if url and urlsplit(url).scheme not in SCHEMES:
        raise BadRedisUrl("redis.url: expected redis://HOST:6379/0, rediss://… with TLS, or unix://PATH")


def shared_over(
    url: str, cluster: str, *, clock: Clock, rng: Rng, telemetry: Telemetry, ca: str = ""
) -> Shared:
    """``cluster`` sets the keys of this cluster apart from those of others on the same Redis. Connects to nothing yet.
    Raises BadRedisUrl."""
    check_url(url)
    if not url:
        return Alone()
    from mgmtnode.shared.redis import RedisShared  # it costs 0.1 s that most nodes can do without

    return RedisShared(url, cluster, clock=clock, rng=rng, telemetry=telemetry, ca=ca)
