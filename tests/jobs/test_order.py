"""Acceptances of one resource become visible in the order of their numbers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from mgmtnode.db.engine import open_database
from mgmtnode.db.green import in_thread
from mgmtnode.db.session import Tx
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.ports import SystemClock

ONE, OTHER = "0190aaaa-0000-7000-8000-000000000001", "0190aaaa-0000-7000-8000-000000000002"


def test_an_acceptance_waits_for_the_one_before_it_on_the_resource_and_for_no_other(
    postgres_url: str,
) -> None:
    begun, go, order = threading.Event(), threading.Event(), list[str]()

    def first(tx: Tx) -> None:
        JobRepository().enqueue(tx, ONE)
        begun.set()
        assert in_thread(lambda: go.wait(2))
        order.append("first")

    def later(resource_uuid: str, name: str) -> Callable[[Tx], None]:
        def work(tx: Tx) -> None:
            JobRepository().enqueue(tx, resource_uuid)
            order.append(name)

        return work

    async def story() -> None:
        db = open_database(postgres_url, SystemClock())
        one = asyncio.ensure_future(db.write(first))
        assert await asyncio.to_thread(begun.wait, 10)
        two = asyncio.ensure_future(db.write(later(ONE, "second")))
        await db.write(later(OTHER, "elsewhere"))
        go.set()
        await asyncio.gather(one, two)
        await db.close()

    asyncio.run(story())
    assert order == ["elsewhere", "first", "second"]
