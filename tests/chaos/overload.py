"""Ten times the usual clients for some seconds, none of which stops to think."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from mgmtnode.client import ClientError
from mgmtnode.client.operations import Listing
from tests.chaos.history import History
from tests.chaos.plan import Fault
from tests.chaos.stage import MIB, Account, Stage
from tests.chaos.wishes import Asker, Wish, delete

TIMES = 10
RETRY_SECONDS = 3.0  # they give up early, and come back to it when all works again

Keep = Callable[[Account, list[Wish]], None]


class Overload:
    """``usual``: how many clients there are else. ``keep`` gets what no answer settled."""

    def __init__(self, history: History, seed: int, usual: int, keep: Keep) -> None:
        self._history, self._seed, self._keep = history, seed, keep
        self._count, self._times = TIMES * usual, 0

    @contextmanager
    def __call__(self, stage: Stage, fault: Fault) -> Iterator[None]:
        self._times += 1
        thread = threading.Thread(target=self._run, args=(stage, fault.seconds, self._times), name="overload")
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _run(self, stage: Stage, seconds: float, turn: int) -> None:
        asyncio.run(self._all(stage, seconds, turn))

    async def _all(self, stage: Stage, seconds: float, turn: int) -> None:
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._count):
                tasks.create_task(self._one(stage, f"o{turn}-{number}", number, until))

    async def _one(self, stage: Stage, name: str, number: int, until: float) -> None:
        account, urls = stage.accounts[0], stage.client_urls
        turn, rng = number % len(urls), Random(f"{self._seed} {name}")
        asker = Asker(name, account, urls[turn:] + urls[:turn], self._history, rng, RETRY_SECONDS)
        body = {"name": name, "cpu": 1, "memory": 64 * MIB, "start": False}
        made = await asker.get(Wish(f"{name}-create", "POST", "/v1/vms", body))
        if made.job is not None:
            await self._press(asker, name, made.job["resource_uuid"], until)
        self._keep(account, asker.open_wishes)
        await asker.close()

    async def _press(self, asker: Asker, name: str, vm: str, until: float) -> None:
        count, clock = 0, asyncio.get_running_loop().time
        while clock() < until:
            count += 1
            if asker.rng.random() < 0.5:
                try:
                    await asker.client.vms.page(_some(asker.rng))
                except ClientError:
                    continue
            else:
                await asker.get(
                    Wish(f"{name}-{count}", "PATCH", f"/v1/vms/{vm}", {"name": f"{name}-{count}"}, vm)
                )
        await asker.get(delete(f"{name}-delete", vm))


def _some(rng: Random) -> Listing:
    return Listing(q=(f"cpu>={rng.randint(1, 2)}",), sort=rng.choice(("name", "-created_at")), limit=50)
