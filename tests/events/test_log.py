"""The event log: gap-free and in order per resource, and no reader misses what was still being written."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from sqlalchemy import update

from mgmtnode.bus.message import Event
from mgmtnode.cluster import repository as cluster_repository
from mgmtnode.db import green, resource
from mgmtnode.db.base import metadata
from mgmtnode.db.engine import open_database
from mgmtnode.db.green import in_thread
from mgmtnode.db.session import SqlDatabase, Tx
from mgmtnode.db.tables import CORE_TABLES, cluster, event_log
from mgmtnode.db.tables import resource as resource_table
from mgmtnode.errors import ApiError
from mgmtnode.events import repository
from mgmtnode.events.log import EventLog
from mgmtnode.events.repository import LoggedEvent
from mgmtnode.jobs.job import SYSTEM, SYSTEM_ACCOUNT, Caller
from mgmtnode.ports import SystemClock
from mgmtnode.schema import Data, Resource

KIND = Resource("box", "boxes", Data)
BOXES = [f"0190eeee-0000-7000-8000-{n:012x}" for n in range(3)]
OTHER = "0190cccc-0000-7000-8000-000000000002"


class Touched(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "box.touched"
    number: int = 0


@pytest.fixture
def db(database_url: str, tmp_path: Path) -> Iterator[SqlDatabase]:
    url = database_url or f"sqlite:///{tmp_path / 'test.db'}"
    yield from opened(url)


def opened(url: str) -> Iterator[SqlDatabase]:
    db = open_database(url, SystemClock())

    def fill(tx: Tx) -> None:
        metadata.create_all(tx.connection, tables=CORE_TABLES)
        for number, uuid in enumerate(BOXES):
            account = SYSTEM_ACCOUNT if number else OTHER
            resource.create(tx, KIND, uuid, f"box {number}", account=account)

    db.run(fill)
    yield db
    db.engine.dispose()


def touch(uuid: str, number: int = 0) -> Callable[[Tx], None]:
    return lambda tx: repository.append(tx, Touched(resource_uuid=uuid, number=number))


def log(db: SqlDatabase) -> EventLog:
    return EventLog(db, lambda event: None)


async def all_of(events: EventLog, caller: Caller = SYSTEM, limit: int = 7) -> list[LoggedEvent]:
    found: list[LoggedEvent] = []
    while page := await events.read(found[-1].id if found else None, limit, caller):
        found += page
    return found


def of(found: list[LoggedEvent], uuid: str) -> list[int]:
    return [event.revision for event in found if event.resource_uuid == uuid]


def test_revisions_count_from_one_without_gap_although_some_transactions_fail(db: SqlDatabase) -> None:
    async def story() -> None:
        for number in range(20):
            uuid = BOXES[number % 3]

            def work(tx: Tx, uuid: str = uuid, number: int = number) -> None:
                touch(uuid)(tx)
                if number % 4 == 3:
                    raise ValueError

            try:
                await db.write(work)
            except ValueError:
                continue
        found = await all_of(log(db))
        for uuid in BOXES:
            assert of(found, uuid) == list(range(1, 6))

    asyncio.run(story())


def test_an_account_sees_its_own_events_only(db: SqlDatabase) -> None:
    async def story() -> None:
        for uuid in BOXES:
            await db.write(touch(uuid))
        found = await all_of(log(db), Caller(account_uuid=OTHER))
        assert [event.resource_uuid for event in found] == [BOXES[0]]

    asyncio.run(story())


def test_reading_from_the_head_gives_only_what_comes_after(db: SqlDatabase) -> None:
    async def story() -> None:
        await db.write(touch(BOXES[0], 1))
        head = await log(db).head()
        await db.write(touch(BOXES[0], 2))
        assert [event.revision for event in await log(db).read(head, 10, SYSTEM)] == [2]

    asyncio.run(story())


@pytest.mark.parametrize(
    "id_", ["x", "1", "1-", "-1", "1-2-3", "٣-٣", "9" * 50 + "-1", "9" * 30 + "-1", "1-" + "9" * 19]
)
def test_a_position_nobody_gave_out_is_refused(db: SqlDatabase, id_: str) -> None:
    with pytest.raises(ApiError, match=r"events\.bad-id"):
        asyncio.run(log(db).read(id_, 10, SYSTEM))


def test_what_is_older_than_the_retention_is_forgotten_and_the_rest_reads_on(db: SqlDatabase) -> None:
    async def story() -> None:
        for number in range(5):
            await db.write(touch(BOXES[0], number))
        found = await all_of(log(db))
        await log(db).forget(found[3].at)
        left = await all_of(log(db))
        assert of(left, BOXES[0]) == [4, 5]
        assert await log(db).oldest() == found[3].id
        await db.write(touch(BOXES[0]))
        assert of(await log(db).read(found[4].id, 10, SYSTEM), BOXES[0]) == [6]
        await log(db).forget(found[4].at + timedelta(days=1))
        assert await log(db).oldest() is None

    asyncio.run(story())


def test_a_waiting_reader_is_woken_by_a_commit(db: SqlDatabase) -> None:
    async def story() -> None:
        events = log(db)
        waiting = asyncio.ensure_future(events.changed(30))
        await asyncio.sleep(0)

        def work(tx: Tx) -> None:
            events.record(tx, Touched(resource_uuid=BOXES[0]))

        await db.write(work)
        await asyncio.wait_for(waiting, 5)

    asyncio.run(story())


def test_an_older_transaction_that_writes_second_does_not_come_first(postgres_url: str) -> None:
    """The order of the log is that of the revisions, although the first transaction began after the second."""
    (db,) = opened(postgres_url)

    async def story() -> None:
        begun, go = threading.Event(), threading.Event()

        def older(tx: Tx) -> None:
            touch(BOXES[1])(tx)  # has its transaction id now
            begun.set()
            assert in_thread(lambda: go.wait(2))
            touch(BOXES[0], 2)(tx)

        task = asyncio.ensure_future(db.write(older))
        await asyncio.to_thread(begun.wait)
        await db.write(touch(BOXES[0], 1))
        go.set()
        await task
        assert of(await all_of(log(db)), BOXES[0]) == [1, 2]

    asyncio.run(story())


def test_in_a_restored_database_nothing_old_is_hidden_and_nothing_new_comes_behind_a_reader(
    postgres_url: str,
) -> None:
    """A dump that is restored elsewhere brings positions along that transactions reach there in years."""
    (db,) = opened(postgres_url)

    def travel(tx: Tx) -> None:
        tx.execute(update(event_log).values(xid=event_log.c.xid + 10**9))
        tx.execute(update(resource_table).values(logged_xid=resource_table.c.logged_xid + 10**9))
        tx.execute(update(cluster).values(origin="elsewhere"))

    async def story() -> None:
        await db.write(lambda tx: cluster_repository.found_cluster(tx, OTHER))
        await db.write(touch(BOXES[0], 1))
        await db.write(travel)
        await db.close()
        restored = open_database(postgres_url, SystemClock())
        before = await all_of(log(restored))
        assert of(before, BOXES[0]) == [1]
        for number, uuid in enumerate(BOXES, 2):
            await restored.write(touch(uuid, number))
        after = await log(restored).read(before[-1].id, 10, SYSTEM)
        assert [event.resource_uuid for event in after] == BOXES
        await restored.close()

    asyncio.run(story())


def test_a_reader_beside_many_writers_misses_nothing_and_keeps_the_order(postgres_url: str) -> None:
    (db,) = opened(postgres_url)
    rounds, writers = 12, 6

    async def story() -> None:
        dice = random.Random(7)
        seen: list[LoggedEvent] = []
        done = asyncio.Event()

        async def read() -> None:
            while True:
                last = done.is_set()
                seen.extend(await log(db).read(seen[-1].id if seen else None, 5, SYSTEM))
                page = seen[-1:] and await log(db).read(seen[-1].id, 1, SYSTEM)
                if last and not page:
                    return

        async def write() -> None:
            for _ in range(rounds):
                uuids, pause = sorted(dice.sample(BOXES, 2)), dice.random() / 200

                def work(tx: Tx, uuids: list[str] = uuids, pause: float = pause) -> None:
                    for uuid in uuids:
                        touch(uuid)(tx)
                        green.pause(pause)

                await db.write(work)

        reading = asyncio.ensure_future(read())
        await asyncio.gather(*(write() for _ in range(writers)))
        done.set()
        await asyncio.wait_for(reading, 30)
        assert len(seen) == len({event.id for event in seen}) == 2 * rounds * writers
        for uuid in BOXES:
            revisions = of(seen, uuid)
            assert revisions == list(range(1, len(revisions) + 1))

    asyncio.run(story())
