"""What ``mgmtnode dev`` adds to a node: a token for its operator, and a small cloud of simulated hosts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mgmtnode.client.aio import AsyncClient
from mgmtnode.contracts.session import EnsureApiKey

if TYPE_CHECKING:
    from mgmtnode.node import ManagementNode

TOKEN_FILE = "admin-token"
KEY_NAME = "mgmtnode dev"
PARALLEL = 8
PATIENCE = 60.0


class Demo:
    """Runs once the node serves, on every start; what is there already is left as it is."""

    def __init__(self, hosts: int) -> None:
        self._hosts = hosts

    async def __call__(self, node: ManagementNode) -> None:
        token = await self._token(node)
        url = f"http://127.0.0.1:{node.api.port}"
        served = {resource.plural for resource in node.parts.resources}
        async with AsyncClient(url, token, retry_for=PATIENCE) as client:
            if {"zones", "clusters", "hosts"} <= served:
                await self._populate(client)
        _welcome(url, node.data_dir)

    async def _token(self, node: ManagementNode) -> str:
        """The token in the data directory if it is still good, else a new one, which is written there."""
        path = node.data_dir / TOKEN_FILE
        kept = path.read_text().strip() if path.exists() else ""
        made = await node.db.write(lambda tx: tx.call(EnsureApiKey(key_name=KEY_NAME, token=kept)))
        if made.token != kept:
            await asyncio.to_thread(_write_secret, path, made.token)
        return made.token

    async def _populate(self, client: AsyncClient) -> None:
        zone = await _ensure(client, "zones", {"name": "dev-zone"})
        cluster = await _ensure(
            client, "clusters", {"name": "dev-cluster", "zone_uuid": zone["uuid"], "hypervisor": "simulator"}
        )
        present = {h["name"] async for h in client.hosts.list([f"cluster_uuid={cluster['uuid']}"])}
        bound = asyncio.Semaphore(PARALLEL)

        async def add(number: int) -> None:
            name = f"sim-{number:02d}"
            if name in present:
                return
            async with bound:
                address = f"10.0.{number // 250}.{number % 250 + 1}"
                job = await client.hosts.create(
                    name=name, cluster_uuid=cluster["uuid"], management_ip=address, wait=PATIENCE / 2
                )
                await job.result(PATIENCE)

        await asyncio.gather(*(add(number) for number in range(1, self._hosts + 1)))


async def _ensure(client: AsyncClient, plural: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    collection = client.collection(plural)
    async for found in collection.list([f"name={body['name']}"], limit=1):
        return found
    job = await collection.create(body, wait=PATIENCE / 2)
    made: Mapping[str, Any] = await job.result(PATIENCE)
    return made


def _write_secret(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text + "\n")


def _welcome(url: str, data_dir: Path) -> None:
    lines = (
        f"API        {url}/v1   (documents: {url}/docs)",
        f"token      {data_dir / TOKEN_FILE}",
        f"try        MGMTNODE_TOKEN_FILE={data_dir / TOKEN_FILE} mnctl --url {url} zone list",
        "This is a development node: one process, no authority over real machines. Ctrl-C stops it.",
    )
    click.echo("\n".join(lines), err=True)
