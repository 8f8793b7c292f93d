from __future__ import annotations

import asyncio

import pytest

from mgmtnode.errors import ApiError
from mgmtnode.jobs.job import Caller
from mgmtnode.shared.port import Alone, Window
from mgmtnode.shared.rates import KEPT, TOO_MANY, NodeRates, Rates
from mgmtnode.telemetry.metrics import Metrics

TENANT = Caller(account_uuid="0190cccc-0000-7000-8000-000000000001", account_name="acme")
OPERATOR = Caller(account_uuid="0190cccc-0000-7000-8000-000000000002", admin=True)


class ManualClock:
    time = 100.0

    def now(self):
        raise AssertionError("no wall clock")

    def monotonic(self) -> float:
        return self.time


def test_a_second_holds_as_many_as_are_allowed_and_then_one_at_a_time() -> None:
    clock = ManualClock()
    rates = NodeRates(clock)
    assert [rates.take("a", 4) for _ in range(4)] == [0.0] * 4
    assert rates.take("a", 4) == pytest.approx(0.25)
    clock.time += 0.25
    assert rates.take("a", 4) == 0.0
    assert rates.take("a", 4) == pytest.approx(0.25)
    clock.time += 60
    assert [rates.take("a", 4) for _ in range(5)] == [0.0] * 4 + [pytest.approx(0.25)]


def test_the_wait_that_is_told_is_long_enough_at_any_rate() -> None:
    clock = ManualClock()
    for per_second in (1, 3, 7, 1000):
        rates = NodeRates(clock)
        for _ in range(3 * per_second):
            wait = rates.take("a", per_second)
            if wait:
                clock.time += wait
                assert rates.take("a", per_second) == 0.0


def test_accounts_are_counted_apart_and_no_more_of_them_kept_than_a_bound() -> None:
    rates = NodeRates(ManualClock())
    assert rates.take("a", 1) == 0.0
    assert rates.take("b", 1) == 0.0
    assert rates.take("a", 1) > 0
    for n in range(KEPT):
        rates.take(f"account-{n}", 1)
    assert len(rates._due) == KEPT


def test_operators_and_those_without_a_limit_are_never_refused() -> None:
    async def story() -> None:
        for caller, limit in ((OPERATOR, 1), (TENANT, 0)):
            rates = Rates(Alone(), ManualClock(), Metrics(), lambda limit=limit: limit)
            for _ in range(50):
                await rates.admit(caller)

    asyncio.run(story())


def test_an_account_that_asks_too_often_is_told_when_to_come_again() -> None:
    async def story() -> None:
        metrics = Metrics()
        rates = Rates(Alone(), ManualClock(), metrics, lambda: 2)
        await rates.admit(TENANT)
        await rates.admit(TENANT)
        with pytest.raises(ApiError) as refused:
            await rates.admit(TENANT)
        assert refused.value.code == TOO_MANY.id
        assert refused.value.problem.retry_after == pytest.approx(0.5)
        assert refused.value.problem.retryable
        assert "mgmtnode_http_requests_limited_total 1.0" in metrics.text().decode()

    asyncio.run(story())


class Scripted(Alone):
    """Answers as it is told."""

    def __init__(self, *answers: bool | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Window]] = []

    async def take(self, key: str, window: Window) -> bool | None:
        self.asked.append((key, window))
        return self.answers.pop(0)


def test_what_the_nodes_count_together_decides_as_long_as_they_can() -> None:
    async def story() -> None:
        shared = Scripted(True, True, False, None, None)
        rates = Rates(shared, ManualClock(), Metrics(), lambda: 1)
        await rates.admit(TENANT)
        await rates.admit(TENANT)
        with pytest.raises(ApiError):
            await rates.admit(TENANT)
        await rates.admit(TENANT)  # nobody knows: this node has counted none yet
        with pytest.raises(ApiError):
            await rates.admit(TENANT)
        assert set(shared.asked) == {(f"requests:{TENANT.account_uuid}", Window(1, 1))}

    asyncio.run(story())
