"""The operator's token of a local cluster: an API key, made by logging in with the password the nodes were given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgmtnode.client import Client, Denied
from mgmtnode.contracts.session import CreateApiKey, GetIdentity
from mgmtnode.testing.local_cluster.directory import write_secret

if TYPE_CHECKING:
    from mgmtnode.testing.local_cluster.cluster import LocalCluster

KEY = "local cluster"


def ensure_token(cluster: LocalCluster) -> str:
    """The token in ``DIR/admin-token``; a new one if the cluster does not know it (any more). Raises Denied when the
    operator's password was changed meanwhile."""
    kept = cluster.token
    if kept and _works(cluster.url, kept):
        return kept
    with Client(cluster.url) as client:
        client.login("admin", cluster.directory.password())
        for lost in client.api_keys.list(f"name={KEY}"):
            client.api_keys.delete(lost["uuid"], wait=30).result(30)
        made = client.call(CreateApiKey(name=KEY))
    write_secret(cluster.directory.token_file, made["token"])
    return cluster.token


def _works(url: str, token: str) -> bool:
    with Client(url, token) as client:
        try:
            client.call(GetIdentity())
        except Denied:
            return False
    return True
