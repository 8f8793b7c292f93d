"""The stored operations of the core, as the product has them: each is a function of the product, called for a node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mgmtnode.api.amqp import repository as amqp
from mgmtnode.api.amqp.ends import Ends
from mgmtnode.api.amqp.outlet import Fate, Outgoing
from mgmtnode.api.amqp.request import Address
from mgmtnode.bus.message import ApiJob
from mgmtnode.cluster import repository as cluster
from mgmtnode.cluster import survey
from mgmtnode.cluster.records import LeaseRow
from mgmtnode.db.own_connection import OwnConnection
from mgmtnode.db.session import Tx
from mgmtnode.errors import ApiError
from mgmtnode.events.repository import LoggedEvent
from mgmtnode.jobs import ledger
from mgmtnode.jobs.acceptance import Accepted, Request
from mgmtnode.jobs.job import SYSTEM, JobState
from mgmtnode.jobs.reception import LANES, Reception
from mgmtnode.jobs.repository import Fenced
from mgmtnode.workflow.engine import Stopped
from tests.interleavings.scene import ME, SLOTS, Node, Scene
from tests.workshop.bench import POOL, UNITS
from tests.workshop.contract import BROKEN, GadgetTouched

Operation = Callable[[Scene], Awaitable[Any]]
FENCED = "fenced"
RANGE = "0190aaaa-0000-7000-8000-0000000000aa"
DEBTORS = ("0190aaaa-0000-7000-8000-0000000000dd", "0190aaaa-0000-7000-8000-0000000000de")


def act(scene: Scene, operations: list[Operation]) -> Callable[[], Awaitable[list[Any]]]:
    """One session does one operation after the other. What the product refuses is an answer, too."""

    async def acting() -> list[Any]:
        answers: list[Any] = []
        for operation in operations:
            try:
                answers.append(await operation(scene))
            except ApiError as error:
                answers.append(error)
            except Fenced:
                answers.append(FENCED)
        return answers

    return acting


# jobs


def accept(node: str, msg: Callable[[Scene], ApiJob[Any]], key: str | None = None) -> Operation:
    """Answers the job."""
    return lambda scene: scene.nodes[node].jobs.accept(msg(scene), ME, key=key)


def accept_alone(node: str, msg: Callable[[Scene], ApiJob[Any]]) -> Operation:
    """Only if nothing waits: as with If-Match. Answers the job."""
    return lambda scene: scene.nodes[node].jobs.accept(msg(scene), ME, precondition=lambda tx: None)


def accept_together(node: str, *wanted: tuple[Callable[[Scene], ApiJob[Any]], str | None]) -> Operation:
    """In one transaction (message, key); what has to wait, alone after it. Answers the jobs and the refusals."""

    async def together(scene: Scene) -> list[Any]:
        here = scene.nodes[node]
        reception = Reception(here.db, here.jobs.acceptance)
        requests = [
            here.jobs.request(here.jobs._uuids.draw(), msg(scene), ME, key=key) for msg, key in wanted
        ]
        answers = await all_at_once(reception, requests)
        return [answer if isinstance(answer, BaseException) else answer.job for answer in answers]

    return together


async def all_at_once(reception: Reception, requests: Sequence[Request]) -> list[Accepted | BaseException]:
    """As if all lanes had been in use when they came."""
    reception._in_use = LANES
    waiting = [asyncio.ensure_future(reception.accept(request)) for request in requests]
    await asyncio.sleep(0)
    assert reception.busy
    reception._in_use = 1
    reception._leave([])
    return await asyncio.gather(*waiting, return_exceptions=True)


def accept_and_claim(node: str, msg: Callable[[Scene], ApiJob[Any]]) -> Operation:
    """Answers the verdict."""

    async def both(scene: Scene) -> str:
        here = scene.nodes[node]
        row = await here.jobs.accept(msg(scene), ME)
        return (await here.runner._claim(row.uuid, row.resource_uuid, here.runner._begin)).verdict.value

    return both


def claim(node: str, job: str) -> Operation:
    """With its leading SQL steps. Answers the verdict."""

    async def claiming(scene: Scene) -> str:
        runner, row = scene.nodes[node].runner, scene.jobs[job]
        outcome = await runner._claim(row.uuid, row.resource_uuid, runner._begin)
        return outcome.verdict.value

    return claiming


def run(node: str, job: str) -> Operation:
    """Claims it and takes it to its end, recovering it where it was begun before. Answers the verdict."""

    async def running(scene: Scene) -> str:
        row = scene.jobs[job]
        return (await scene.nodes[node].runner._run_once(row.uuid, row.resource_uuid)).value

    return running


def run_again(node: str, job: str) -> Operation:
    """In the node's new life."""

    async def running(scene: Scene) -> str:
        here = scene.nodes[node]
        here.wake(here.newest.incarnation)
        return str(await run(node, job)(scene))

    return running


def sweep(node: str) -> Operation:
    """Finds what waits in its slots and claims the first of it. Answers the verdict, None if there is nothing."""

    async def sweeping(scene: Scene) -> str | None:
        here = scene.nodes[node]
        found = await here.db.read(lambda tx: here.parts.repository.open_in(tx, here.slots.own(), 10))
        for _, uuid, resource_uuid, _late in found:
            outcome = await here.runner._claim(uuid, resource_uuid, here.runner._begin)
            return outcome.verdict.value
        return None

    return sweeping


def step_end(job: str) -> Operation:
    """The record of a step that is done."""

    async def ending(scene: Scene) -> str:
        flow = scene.run(job)
        after = scene.held[job].step + 1
        await flow.journal.write(
            lambda tx: flow.journal.done_up_to(tx, after), lambda row: row.step_no >= after
        )
        return "stop" if flow.journal.cancelled else "on"

    return ending


def finish(job: str) -> Operation:
    """The last SQL steps and the end. Answers how it ended."""

    async def finishing(scene: Scene) -> str:
        flow = scene.run(job)
        flow._index = len(flow._flow.steps) - 1
        try:
            await flow._end()
        except Stopped as stop:
            await flow.back(flow._index, stop.error.problem)
            return str(JobState.CANCELLED)
        return str(JobState.SUCCEEDED)

    return finishing


def roll_back(job: str) -> Operation:
    """From the decision to the end."""

    async def rolling(scene: Scene) -> str:
        flow = scene.run(job)
        await flow.back(scene.held[job].step, BROKEN.error("it broke").problem)
        return str(JobState.FAILED)

    return rolling


def cancel(node: str, job: str) -> Operation:
    """Answers the job as the caller is told of it."""
    return lambda scene: scene.nodes[node].jobs.cancel(scene.jobs[job].uuid, ME)


def overdue(node: str) -> Operation:
    """The sweep that ends what waited for too long."""
    return lambda scene: scene.nodes[node].jobs._end_overdue()


def owe_end(node: str, job: str) -> Operation:
    """Somebody is to hear of the job's end over AMQP."""
    address = Address("client", "1")
    return lambda scene: scene.nodes[node].db.write(lambda tx: amqp.keep(tx, scene.jobs[job].uuid, address))


class Told:
    """A broker that takes everything."""

    connected = True

    def __init__(self) -> None:
        self.count = 0

    async def send(self, messages: Sequence[Outgoing]) -> list[Fate]:
        self.count += len(messages)
        return [Fate.TAKEN] * len(messages)


def tell_ends(node: str) -> Operation:
    """Tells all who are owed the end of a job. Answers how many."""

    async def telling(scene: Scene) -> int:
        here, told = scene.nodes[node], Told()
        ends = Ends(here.db, here.slots, here.parts.repository, told)
        await ends._tell(await here.db.read(lambda tx: amqp.owed(tx, 10)))
        return told.count

    return telling


# nodes and slots


def register(node: str) -> Operation:
    """A new life of the node; an earlier one may still be acting."""

    async def registering(scene: Scene) -> int:
        life = scene.nodes[node].member()
        incarnation = await life.register()
        scene.nodes[node].newest = life
        return incarnation

    return registering


def enter(node: str) -> Operation:
    async def entering(scene: Scene) -> str:
        await scene.nodes[node].newest.enter()
        return "entered"

    return entering


def join(node: str) -> list[Operation]:
    return [register(node), enter(node)]


def leave(node: str) -> Operation:
    return lambda scene: scene.nodes[node].membership.leave()


def drain(name: str, by: str = "b") -> Operation:
    return lambda scene: scene.nodes[by].db.write(lambda tx: survey.drain(tx, name))


def evict(by: str, name: str) -> Operation:
    """As ``by`` has seen it stand still. Answers whether it was this one who evicted it."""

    async def evicting(scene: Scene) -> bool:
        seen: LeaseRow = scene.marks[f"lease of {name}"]
        return await scene.nodes[by].membership.evict(seen)

    return evicting


def order_eviction(by: str, name: str) -> Operation:
    """As an operator does it."""
    return lambda scene: scene.nodes[by].db.write(lambda tx: survey.evict(tx, name))


def beat(node: str) -> Operation:
    """One heartbeat, on its own connection. Answers whether the node still belongs to the cluster."""

    async def beating(scene: Scene) -> bool:
        here = scene.nodes[node]
        own = OwnConnection(here.db, {})  # type: ignore[arg-type]
        scene.stage.listen(own._engine, watched=False)
        try:
            return here.membership._pulse(own.execute).renewed
        finally:
            own.close()

    return beating


def hand_over(node: str) -> Operation:
    """What is to leave the node, with the jobs in it."""

    async def handing(scene: Scene) -> int:
        here = scene.nodes[node]
        before = here.rebalancer.handed_over
        await here.rebalancer._hand_over(here.slots.leaving())
        return here.rebalancer.handed_over - before

    return handing


async def hand_over_all(node: Node) -> None:
    """Before an order begins: whatever is to move has moved."""

    def move(tx: Tx) -> None:
        cluster.lock(tx)
        for name, member in cluster.present(tx).items():
            moves = cluster.moving(tx, name, member.incarnation, range(SLOTS))
            if moves:
                cluster.move(tx, moves)

    await node.db.write(move)


def take(node: str, owner: str) -> Operation:
    """What the owner was to hand over and did not."""

    async def taking(scene: Scene) -> int:
        here = scene.nodes[node]
        await here.rebalancer._take_from(owner, here.slots.coming().get(owner, []))
        return here.rebalancer.taken

    return taking


# the books


def in_tx(work: Callable[[Tx], Any], node: str = "a") -> Operation:
    return lambda scene: scene.nodes[node].db.write(work)


def take_unit(holder: str, unit: str = "10.0.0.9") -> Operation:
    """Answers whether it got the address."""
    return in_tx(lambda tx: ledger.take_unit(tx, RANGE, "ip", unit, holder=holder, uuid=holder))


def free_unit(holder: str, unit: str = "10.0.0.9") -> Operation:
    return in_tx(lambda tx: ledger.free_unit(tx, RANGE, unit, holder=holder))


def reserve(holder: str, amount: int = 1, *, force: bool = False) -> Operation:
    """Answers whether it fitted."""
    return in_tx(lambda tx: ledger.reserve(tx, POOL, UNITS, amount, holder=holder, uuid=holder, force=force))


def free(holder: str) -> Operation:
    return in_tx(lambda tx: ledger.free(tx, holder))


def resize_pool(limit: int) -> Operation:
    return in_tx(lambda tx: ledger.set_pool(tx, POOL, UNITS, limit))


def drop_pool() -> Operation:
    return in_tx(lambda tx: ledger.drop_pools(tx, POOL))


def owe(holder: str, host: int = 0) -> Operation:
    """What a failed undo leaves: all that it holds is kept back, and a host owes."""

    def owing(tx: Tx) -> None:
        ledger.quarantine(tx, holder)
        ledger.owe(tx, DEBTORS[host], holder, job_uuid=holder, reason="test")

    return in_tx(owing)


def settle(holder: str, host: int = 0) -> Operation:
    """A host has cleaned up; with the last one all is free."""

    def settling(tx: Tx) -> None:
        if not ledger.drop_debt(tx, DEBTORS[host], holder):
            ledger.settle(tx, holder)

    return in_tx(settling, "ab"[host])


def restore(holder: str) -> Operation:
    """It is still there: what was kept back is its own again."""
    return in_tx(lambda tx: ledger.restore(tx, holder))


def touch(gadget: str, node: str = "a", then: str = "") -> Operation:
    """An event of a resource, and perhaps of another one in the same transaction."""

    def record(scene: Scene, tx: Tx) -> None:
        for name in filter(None, (gadget, then)):
            tx.record(GadgetTouched(resource_uuid=scene.marks[name]))

    return lambda scene: scene.nodes[node].db.write(lambda tx: record(scene, tx))


def read_events(node: str) -> Operation:
    """The log as it is. Answers what is in it."""
    return lambda scene: read_on(scene.nodes[node], [])


async def read_on(node: Node, seen: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    """What is in the log after that."""
    return await node.parts.events.read(seen[-1].id if seen else None, 100, SYSTEM)
