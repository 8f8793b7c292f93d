"""The load balancer in front of a local cluster: HAProxy where it is installed, else our own small forwarder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mgmtnode.testing.process import HOST

Kind = Literal["haproxy", "forwarder"]

# Kept in step with deploy/haproxy/haproxy.cfg, which says why; tests/deploy compares them.
HAPROXY = """\
global
    maxconn 4096
    hard-stop-after 30s
    log stdout format raw local0 notice

defaults
    mode http
    log global
    option dontlognull
    option dontlog-normal
    option redispatch 1
    retries 3
    retry-on conn-failure
    timeout connect 1s
    timeout http-request 15s
    timeout http-keep-alive 60s
    timeout queue 5s
    timeout client 120s
    timeout server 120s
    timeout check 2500ms

frontend api
    bind {host}:{port}
    use_backend anyway if {{ nbsrv(nodes) eq 0 }}
    default_backend nodes

backend nodes
    balance leastconn
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host mgmtnode
    http-check expect status 200
    default-server check inter 500ms fall 2 rise 1 pool-purge-delay 5s
{servers}

backend anyway
    balance leastconn
    option httpchk
    http-check send meth GET uri /livez ver HTTP/1.1 hdr Host mgmtnode
    http-check expect status 200
    default-server check inter 500ms fall 2 rise 1 pool-purge-delay 5s
{servers}
"""


def find_haproxy() -> str | None:
    return shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin")


def choose() -> Kind:
    return "haproxy" if find_haproxy() else "forwarder"


def command(kind: Kind, host: str, port: int, nodes: Mapping[str, int], config: Path) -> list[str]:
    """What runs a balancer at ``host``:``port`` before nodes at these loopback ports; HAProxy's ``config`` is
    written."""
    if kind == "forwarder":
        words = [f"--node={name}={HOST}:{node}" for name, node in nodes.items()]
        module = "mgmtnode.testing.local_cluster.forwarder"
        return [sys.executable, "-m", module, "--host", host, "--port", str(port), *words]
    servers = "\n".join(f"    server {name} {HOST}:{node}" for name, node in nodes.items())
    at = f"[{host}]" if ":" in host else host
    config.write_text(HAPROXY.format(host=at, port=port, servers=servers))
    return [find_haproxy() or "haproxy", "-db", "-f", str(config)]
