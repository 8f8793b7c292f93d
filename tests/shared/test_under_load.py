"""A node whose Redis is killed while it is asked by many: nobody is told of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mgmtnode.config import core_properties as core
from mgmtnode.testing.cloud import Cloud, NodeThread, operator_token
from mgmtnode.testing.servers import RedisServer

pytestmark = pytest.mark.integration
CLIENTS, REQUESTS, KILL_AFTER = 8, 60, 150
ALLOW = {"effect": "Allow", "actions": ["zone.read"], "resources": ["*"]}


def test_killing_redis_under_load_changes_no_answer(tmp_path: Path) -> None:
    with RedisServer() as redis:
        thread = NodeThread(tmp_path / "node")
        thread.properties.override(core.REDIS_URL, redis.url, "the test")
        thread.start()
        cloud = Cloud(thread, operator_token(thread))
        try:
            cloud.call("PATCH", "/global-configs/api.requests_per_second", {"value": 100_000})
            tenants = [cloud.tenant(f"tenant-{n}") for n in range(CLIENTS)]
            shared = thread.node.parts.context.shared
            cloud.until(lambda: shared.up)
            answers: list[int] = []
            halfway = threading.Event()

            def ask(tenant: Cloud) -> None:
                for n in range(REQUESTS):
                    if n % 6:
                        answer = tenant.request("GET", "/zones")
                    else:
                        answer = tenant.request(
                            "POST", "/policies", {"name": f"p-{n}", "statements": [ALLOW]}
                        )
                    answers.append(answer.status_code)
                    if len(answers) >= KILL_AFTER:
                        halfway.set()

            clients = [threading.Thread(target=ask, args=(tenant,)) for tenant in tenants]
            for client in clients:
                client.start()
            assert halfway.wait(60)
            redis.halt("kill")
            for client in clients:
                client.join(120)
            assert len(answers) == CLIENTS * REQUESTS
            assert set(answers) == {200, 201}
            cloud.until(lambda: not shared.up)
            cloud.call("PATCH", "/global-configs/api.requests_per_second", {"value": 1})
            alone = [tenants[0].request("GET", "/zones").status_code for _ in range(10)]
            assert 429 in alone, "the node counts alone now"
            redis.revive()
            cloud.until(lambda: shared.up)
        finally:
            cloud.close()
            thread.stop()
