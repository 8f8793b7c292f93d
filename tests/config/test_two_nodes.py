"""Several nodes that boot at the same time write the same rows."""

from __future__ import annotations

import asyncio

import pytest

from mgmtnode.config.configs import GlobalConfigs
from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.db.base import metadata
from mgmtnode.db.engine import open_database
from mgmtnode.db.tables import CORE_TABLES
from mgmtnode.ports import SystemClock

CONFIGS = [GlobalConfig(f"box.number_{n}", n, "A number", low=0) for n in range(50)]


@pytest.mark.integration
def test_four_nodes_boot_at_once_on_an_empty_database(postgres_url: str) -> None:
    databases = [open_database(postgres_url, SystemClock(), label=f"mn/n{n}") for n in range(4)]
    metadata.create_all(databases[0].engine, tables=CORE_TABLES)
    nodes = []
    for _ in databases:
        nodes.append(GlobalConfigs())
        nodes[-1].declare("box", CONFIGS)

    async def boot() -> None:
        await asyncio.gather(*(node.load(db) for node, db in zip(nodes, databases, strict=True)))
        await databases[0].write(lambda tx: nodes[0].set(tx, "box.number_7", 70))
        await asyncio.gather(*(node.refresh(db) for node, db in zip(nodes, databases, strict=True)))
        for db in databases:
            await db.close()

    asyncio.run(boot())
    assert [node.get(CONFIGS[7]) for node in nodes] == [70] * 4
    assert [node.get(CONFIGS[8]) for node in nodes] == [8] * 4
