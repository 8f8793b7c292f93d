"""Whose turn it is to tell the end of a job, and the events: several nodes on one database, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from mgmtnode.api.amqp import repository
from mgmtnode.api.amqp.ends import MOST_ADDRESSES, Ends
from mgmtnode.api.amqp.feed import READER, Feed
from mgmtnode.api.amqp.outlet import Fate, Outgoing
from mgmtnode.api.amqp.request import Address
from mgmtnode.api.problems import TOO_MANY_REPLIES
from mgmtnode.contracts.zone import CreateZone
from mgmtnode.errors import ApiError
from mgmtnode.jobs.ending import JobEnded
from mgmtnode.jobs.job import SYSTEM, Job
from mgmtnode.ring.slots import Slots
from mgmtnode.testing.cloud import Cloud

# The other nodes are made by the tests, on the one that runs.
pytestmark = pytest.mark.parametrize("flavour", ["sqlite", "postgresql"], indirect=True)

OURS = Address("answers", "c-1")


class Sender:
    """Takes everything, or says of everything what ``fate`` is."""

    def __init__(self, fate: Fate = Fate.TAKEN, connected: bool = True) -> None:
        self.fate, self.connected = fate, connected
        self.sent: list[Outgoing] = []

    async def send(self, messages: Sequence[Outgoing]) -> list[Fate]:
        self.sent += messages
        return [self.fate] * len(messages)


class Nodes:
    """The parts that several nodes have on the database of a booted one. ``stranger`` owns no slot."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.node = cloud, cloud.node
        self.stranger = Slots("stranger")
        self.stranger.replace({}, 1)

    def ends(self, sender: Sender, *, owner: bool) -> Ends:
        slots = self.node.slots if owner else self.stranger
        return Ends(self.node.db, slots, self.node.parts.repository, sender, sweep_seconds=0.0)

    def feed(self, sender: Sender, *, owner: bool = True) -> Feed:
        return Feed(self.node.db, self.node.slots if owner else self.stranger, self.node.parts.events, sender)

    def run(self, work: Any) -> Any:
        return self.cloud.thread.run(work)

    async def job(self, ends: Ends, address: Address = OURS) -> Job:
        """Accepts a job whose end ``ends`` owes to somebody, and waits for that end."""
        jobs = self.node.parts.context.jobs
        made = await jobs.accept(
            CreateZone(name="z"), SYSTEM, beside=lambda tx, job: ends.owe(tx, job.uuid, address)
        )
        return await jobs.wait(made.uuid, 30, SYSTEM)

    async def owed(self) -> int:
        return len(await self.node.db.read(lambda tx: repository.owed(tx, 100)))


@pytest.fixture
def nodes(cloud: Cloud) -> Nodes:
    return Nodes(cloud)


def ended(job: Job) -> JobEnded:
    return JobEnded(resource_uuid=job.uuid, state=job.state, api=job.api, target_uuid=job.resource_uuid)


def test_who_accepted_the_job_tells_its_end_when_it_hears_of_it(nodes: Nodes) -> None:
    async def story() -> None:
        ours, others = Sender(), Sender()
        acceptor, owner = nodes.ends(ours, owner=False), nodes.ends(others, owner=True)
        job = await nodes.job(acceptor)
        for ends in (acceptor, owner):
            ends.heard(ended(job))
        await acceptor.turn()
        [message] = ours.sent
        assert (message.key, message.properties["type"]) == ("answers", "job.ended")
        assert message.properties["correlation_id"] == "c-1"
        assert await nodes.owed() == 0
        for _ in range(3):
            await owner.turn()
        assert others.sent == []

    nodes.run(story())


def test_if_it_does_not_the_owner_of_the_resource_does_at_its_second_look(nodes: Nodes) -> None:
    async def story() -> None:
        ours, others = Sender(), Sender()
        owner, stranger = nodes.ends(ours, owner=True), nodes.ends(others, owner=False)
        job = await nodes.job(nodes.ends(Sender(), owner=False))  # which dies now
        await owner.turn()
        assert ours.sent == []
        await owner.turn()
        assert [m.properties["message_id"] for m in ours.sent] == [f"{job.uuid}.ended"]
        for _ in range(3):
            await stranger.turn()
        assert others.sent == [] and await nodes.owed() == 0

    nodes.run(story())


def test_who_accepted_it_and_did_not_hear_tells_it_at_its_first_look(nodes: Nodes) -> None:
    async def story() -> None:
        sender = Sender()
        ends = nodes.ends(sender, owner=False)
        await nodes.job(ends)
        await ends.turn()
        assert len(sender.sent) == 1 and await nodes.owed() == 0

    nodes.run(story())


@pytest.mark.parametrize(("fate", "left"), [(Fate.UNROUTABLE, 0), (Fate.REFUSED, 0), (Fate.UNSENT, 1)])
def test_an_end_that_did_not_leave_is_still_owed_and_one_that_nobody_takes_is_not(
    nodes: Nodes, fate: Fate, left: int
) -> None:
    async def story() -> None:
        ends = nodes.ends(Sender(fate), owner=True)
        await nodes.job(ends)
        await ends.turn()
        assert await nodes.owed() == left

    nodes.run(story())


def test_what_one_job_owes_is_bounded(nodes: Nodes) -> None:
    async def story() -> None:
        jobs = nodes.node.parts.context.jobs
        ends = nodes.ends(Sender(), owner=True)

        async def again(n: int) -> Job:
            def beside(tx: Any, job: Job) -> None:
                ends.owe(tx, job.uuid, Address(f"queue-{n}"))

            return await jobs.accept(CreateZone(name="z"), SYSTEM, key="k", beside=beside)

        uuids = {(await again(n)).uuid for n in range(MOST_ADDRESSES)}
        with pytest.raises(ApiError, match=TOO_MANY_REPLIES.id):
            await again(MOST_ADDRESSES)
        [uuid] = uuids
        assert await nodes.node.db.read(lambda tx: repository.kept(tx, uuid)) == MOST_ADDRESSES

    nodes.run(story())


async def zones(nodes: Nodes, *names: str) -> None:
    jobs = nodes.node.parts.context.jobs
    for name in names:
        await jobs.wait((await jobs.accept(CreateZone(name=name), SYSTEM)).uuid, 30, SYSTEM)


def told(sender: Sender) -> list[str]:
    import msgspec

    bodies = [msgspec.json.decode(m.body) for m in sender.sent if m.key == "zone.created"]
    return [body["body"]["zone"]["name"] for body in bodies]


async def turns(feed: Feed, count: int = 3) -> None:
    for _ in range(count):
        await feed.turn()


def test_events_are_told_from_the_first_start_on_and_by_one_node(nodes: Nodes) -> None:
    async def story() -> None:
        ours, others = Sender(), Sender()
        feed, stranger = nodes.feed(ours), nodes.feed(others, owner=False)
        await zones(nodes, "long ago")
        await feed.begin()
        await zones(nodes, "a", "b")
        await asyncio.gather(turns(feed), turns(stranger))
        assert told(ours) == ["a", "b"] and others.sent == []

    nodes.run(story())


def test_another_node_goes_on_where_the_last_one_was(nodes: Nodes) -> None:
    async def story() -> None:
        first, second = Sender(), Sender()
        before, after = nodes.feed(first), nodes.feed(second)
        await before.begin()
        await zones(nodes, "a")
        await turns(before)
        await zones(nodes, "b")
        await turns(after)
        await zones(nodes, "c")
        await turns(before, 4)  # it does not know yet that it lost the duty: it finds its position moved
        assert told(first)[:1] == ["a"] and told(second) == ["b"]
        assert set(told(first) + told(second)) == {"a", "b", "c"}

    nodes.run(story())


@pytest.mark.parametrize("connected", [True, False], ids=["not sent", "not connected"])
def test_what_did_not_leave_is_told_by_the_next_turn(nodes: Nodes, connected: bool) -> None:
    sender = Sender(Fate.UNSENT, connected)

    async def story() -> None:
        feed = nodes.feed(sender)
        await feed.begin()
        await zones(nodes, "a")
        await turns(feed)
        sender.sent.clear()
        sender.fate, sender.connected = Fate.TAKEN, True
        await turns(feed)
        assert told(sender) == ["a"]

    nodes.run(story())


def test_a_feed_that_comes_too_late_says_that_events_are_missing(nodes: Nodes) -> None:
    async def story() -> None:
        sender = Sender()
        feed = nodes.feed(sender)
        await zones(nodes, "long ago")
        await feed.begin()
        await zones(nodes, "forgotten")
        log, db = nodes.node.parts.events, nodes.node.db
        await log.forget(nodes.node._clock.now() + timedelta(days=1))
        await zones(nodes, "kept")
        await turns(feed)
        assert [m.key for m in sender.sent][:1] == ["events.reset"]
        at = await db.read(lambda tx: repository.position(tx, READER))
        assert at == await log.head()

    nodes.run(story())
