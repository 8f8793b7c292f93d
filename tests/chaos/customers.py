"""Clients over HTTP: each with a few VMs of its own, all with some they share, as impatient and careless as people."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from random import Random

from mgmtnode.client import ClientError
from tests.chaos.history import History, Saw, now
from tests.chaos.stage import MIB, Account, Stage
from tests.chaos.wishes import Asker, Outcome, Wish, action, create, delete

MOST_VMS = 4
THINK_SECONDS = 0.6
END_SECONDS = 15.0
ACTIONS = (
    "start",
    "stop",
    "reboot",
    "migrate",
    "migrate",
    "pause",
    "resume",
    "attach-nic",
    "change-offering",
)
CARELESS = {"hang up": 0.12, "twice": 0.12, "cancel": 0.12, "leave": 0.3}
"""How often a client hangs up on its first attempt, asks two nodes at once, cancels, or does not wait for the end."""


class Customer:
    """``vms``: those it made, in the order in which it did."""

    def __init__(self, name: str, asker: Callable[[int], Asker], hot: Sequence[str], rng: Random) -> None:
        self.name, self.hot, self.rng = name, hot, rng
        self.vms = list[str]()
        self._number = 0
        self._askers = (asker(0), asker(1))

    @property
    def open_wishes(self) -> list[Wish]:
        return [wish for asker in self._askers for wish in asker.open_wishes]

    async def live(self, over: asyncio.Event) -> None:
        """Until ``over``; what was asked for by then is still waited for."""
        try:
            while not over.is_set():
                await self._act()
                await asyncio.sleep(self.rng.uniform(0, THINK_SECONDS))
        finally:
            for asker in self._askers:
                await asker.close()

    async def _act(self) -> None:
        draw = self.rng.random()
        if draw < 0.12:
            await self._look()
        elif draw < 0.35 and self.hot:
            await self._change(self.rng.choice(self.hot))
        elif len(self.vms) >= MOST_VMS or (self.vms and draw < 0.5):
            vm = self.vms.pop(self.rng.randrange(len(self.vms)))
            await self._want(delete(self._key(), vm))
        elif not self.vms or draw < 0.75:
            await self._create()
        else:
            await self._change(self.rng.choice(self.vms))

    async def _change(self, vm: str) -> None:
        name = self.rng.choice(ACTIONS)
        body: dict[str, object] = {}
        if name == "attach-nic":
            body = {"l3_network_uuid": self._askers[0].account.networks[0]}
        if name == "change-offering":
            body = {"cpu": self.rng.choice((1, 2)), "memory": self.rng.choice((256, 512, 1024)) * MIB}
        await self._want(action(self._key(), vm, name, body))

    async def _create(self) -> None:
        asker, key = self._askers[0], self._key()
        networks = asker.account.networks if self.rng.random() < 0.7 else ()
        outcome = await self._want(create(key, key, networks, self.rng.choice((256, 512, 1024)) * MIB))
        if outcome.job is not None:
            self.vms.append(outcome.job["resource_uuid"])

    async def _look(self) -> None:
        """A list must show what is the account's and nothing else: the checker has the books."""
        asker = self._askers[0]
        try:
            vms = [vm["uuid"] async for vm in asker.client.vms.list(fields=("uuid",), limit=200)]
        except ClientError:
            return
        asker.history.note(Saw(at=now(), account=asker.account.name, resources=vms))

    async def _want(self, wish: Wish) -> Outcome:
        if self.rng.random() < CARELESS["hang up"]:
            await self._askers[0].hang_up(wish)
        both = self._askers[: 1 + (self.rng.random() < CARELESS["twice"])]
        outcomes = await asyncio.gather(*(asker.get(wish) for asker in both))
        outcome = next((one for one in outcomes if one.job is not None), outcomes[0])
        if outcome.job is not None:
            await self._follow(outcome.job)
        return outcome

    async def _follow(self, job: dict[str, object]) -> None:
        asker = self._askers[0]
        if self.rng.random() < CARELESS["cancel"]:
            await asyncio.sleep(self.rng.uniform(0, 0.4))
            try:
                await asker.client.run(asker.client.job_calls.cancel(str(job["uuid"])))
            except ClientError:
                return
        if self.rng.random() >= CARELESS["leave"]:
            await asker.end_of(job, END_SECONDS)

    def _key(self) -> str:
        self._number += 1
        return f"{self.name}-{self._number}"


class Crowd:
    """Many customers, in a thread of their own. VMs outlive the cycle: the next crowd goes on with them."""

    def __init__(self, stage: Stage, history: History, seed: int, count: int) -> None:
        self._stage, self._history, self._seed, self._count = stage, history, seed, count
        self._vms: dict[int, list[str]] = {}
        self.open_wishes: list[tuple[Account, Wish]] = []
        self._customers: list[Customer] = []
        self._over: Callable[[], object] = lambda: None
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None

    def begin(self, cycle: int) -> None:
        begun = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(cycle, begun), name="customers")
        self._thread.start()
        begun.wait()

    def finish(self, seconds: float) -> None:
        """No new wishes; returns once every customer has an answer to its last one, or has given it up."""
        if self._thread is None:
            return
        with contextlib.suppress(RuntimeError):  # its loop is closed: it failed
            self._over()
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise TimeoutError(f"customers still wait after {seconds:g} s")
        self._thread = None
        if self._failed is not None:
            raise self._failed

    def keep(self, account: Account, wishes: Sequence[Wish]) -> None:
        """For ``resolve``, from others."""
        self.open_wishes += [(account, wish) for wish in wishes]

    def resolve(self) -> int:
        """Asks again, now that all works, for everything that no answer settled; returns how many there were."""
        wishes, self.open_wishes = self.open_wishes, []
        asyncio.run(self._resolve(wishes))
        return len(wishes)

    def _run(self, cycle: int, begun: threading.Event) -> None:
        try:
            asyncio.run(self._live(cycle, begun))
        except BaseException as exc:  # told by finish(), in the thread that asks
            self._failed = exc
        finally:
            begun.set()

    async def _live(self, cycle: int, begun: threading.Event) -> None:
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        self._over = lambda: loop.call_soon_threadsafe(over.set)
        self._customers = [self._customer(cycle, number) for number in range(self._count)]
        begun.set()
        async with asyncio.TaskGroup() as tasks:
            for customer in self._customers:
                tasks.create_task(customer.live(over))
        for number, customer in enumerate(self._customers):
            self._vms[number] = customer.vms
            account = self._account(number)
            self.open_wishes += [(account, wish) for wish in customer.open_wishes]

    def _account(self, number: int) -> Account:
        return self._stage.accounts[number % len(self._stage.accounts)]

    def _customer(self, cycle: int, number: int) -> Customer:
        name, account = f"c{cycle}-{number}", self._account(number)
        urls = self._stage.client_urls

        def asker(which: int) -> Asker:
            turn = (number + which) % len(urls)
            rng = Random(f"{self._seed} {name} {which}")
            return Asker(f"{name}.{which}", account, urls[turn:] + urls[:turn], self._history, rng)

        hot = self._stage.hot if account.name == "admin" else ()
        customer = Customer(name, asker, hot, Random(f"{self._seed} {name}"))
        customer.vms = self._vms.get(number, [])
        return customer

    async def _resolve(self, wishes: Sequence[tuple[Account, Wish]]) -> None:
        for account, wish in wishes:
            asker = Asker("resolver", account, self._stage.client_urls, self._history, Random(0))
            await asker.get(wish)
            await asker.close()
            self.open_wishes += [(account, left) for left in asker.open_wishes]
