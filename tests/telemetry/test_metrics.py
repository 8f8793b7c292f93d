from __future__ import annotations

import asyncio
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mgmtnode.errors import Category, ErrorCode
from mgmtnode.telemetry import families
from mgmtnode.telemetry.families import Counter, Gauge, Histogram, Total
from mgmtnode.telemetry.loop_lag import LoopLag
from mgmtnode.telemetry.metrics import MAX_SERIES, Metrics
from mgmtnode.telemetry.telemetry import Telemetry

EATEN = Counter("eaten", "Apples eaten", ("kind",))
BITES = Histogram("bite_seconds", "Time of a bite", ("kind",), (0.1, 1.0))
BITES_ENDED = Histogram("bite_ended_seconds", "Time of a bite", ("kind", "outcome"), (0.1, 1.0))
LEFT = Gauge("left", "Apples left", ("kind",))
GROWN = Total("grown", "Apples grown")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics((EATEN, BITES, LEFT, GROWN))


def test_what_is_counted_and_observed_shows_up(metrics: Metrics) -> None:
    metrics.count(EATEN, "red")
    metrics.count(EATEN, "red", by=2)
    metrics.observe(BITES, 0.5, "red")
    text = metrics.text().decode()
    assert 'mgmtnode_eaten_total{kind="red"} 3.0' in text
    assert 'mgmtnode_bite_seconds_bucket{kind="red",le="0.1"} 0.0' in text
    assert 'mgmtnode_bite_seconds_bucket{kind="red",le="1.0"} 1.0' in text


def test_the_text_is_what_prometheus_reads(metrics: Metrics) -> None:
    metrics.read(LEFT, lambda: {"red": 1})
    metrics.count(EATEN, 'a "quoted" \\ kind\n')
    for seconds in (0.05, 0.1, 0.5, 7.0):
        metrics.observe(BITES, seconds, 'a "quoted" \\ kind\n')
    found = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    bites = found["mgmtnode_bite_seconds"]
    assert (bites.type, bites.documentation) == ("histogram", "Time of a bite")
    values = {(s.name, s.labels.get("le")): s.value for s in bites.samples}
    assert values == {
        ("mgmtnode_bite_seconds_bucket", "0.1"): 2,
        ("mgmtnode_bite_seconds_bucket", "1.0"): 3,
        ("mgmtnode_bite_seconds_bucket", "+Inf"): 4,
        ("mgmtnode_bite_seconds_count", None): 4,
        ("mgmtnode_bite_seconds_sum", None): 7.65,
    }
    for name in ("mgmtnode_bite_seconds", "mgmtnode_eaten"):
        assert found[name].samples[0].labels["kind"] == 'a "quoted" \\ kind\n'
    assert found["mgmtnode_left"].type == "gauge"


def test_a_part_that_keeps_its_own_figures_is_asked_at_each_scrape(metrics: Metrics) -> None:
    grown = 0
    metrics.read(GROWN, lambda: grown)
    metrics.read(LEFT, lambda: {"red": grown + 1, "green": 2})
    assert "mgmtnode_grown_total 0.0" in metrics.text().decode()
    grown = 7
    text = metrics.text().decode()
    assert "# TYPE mgmtnode_grown_total counter" in text
    assert "mgmtnode_grown_total 7.0" in text
    assert 'mgmtnode_left{kind="red"} 8.0' in text
    assert 'mgmtnode_left{kind="green"} 2.0' in text


def test_several_readers_of_one_family_add_up(metrics: Metrics) -> None:
    metrics.read(LEFT, lambda: {"red": 1, "green": 1})
    metrics.read(LEFT, lambda: {"red": 4})
    text = metrics.text().decode()
    assert 'mgmtnode_left{kind="red"} 5.0' in text
    assert 'mgmtnode_left{kind="green"} 1.0' in text


def test_a_reader_that_raises_takes_nothing_else_along(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    metrics.read(GROWN, lambda: 1 // 0)
    metrics.read(LEFT, lambda: {"red": 4})
    assert 'mgmtnode_left{kind="red"} 4.0' in metrics.text().decode()
    assert "grown could not be read" in caplog.text


def test_labels_without_bound_do_not_grow_the_registry_without_bound(metrics: Metrics) -> None:
    for n in range(MAX_SERIES + 50):
        metrics.count(EATEN, f"kind-{n}")
    lines = [
        line for line in metrics.text().decode().splitlines() if line.startswith("mgmtnode_eaten_total{")
    ]
    assert len(lines) == MAX_SERIES + 1
    assert 'mgmtnode_eaten_total{kind="other"} 50.0' in lines


def test_every_family_is_declared_once_with_a_name_prometheus_takes() -> None:
    names = [family.name for family in families.FAMILIES]
    assert len(set(names)) == len(names)
    declared = [value for value in vars(families).values() if isinstance(value, families.Family)]
    assert set(declared) == set(families.FAMILIES)
    for family in families.FAMILIES:
        assert not family.name.endswith("_total"), family
        assert not isinstance(family, Histogram) or family.name.endswith("_seconds"), family


def test_an_operation_is_observed_with_how_it_ended(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry()
    telemetry.metrics = Metrics((BITES_ENDED,))
    log = logging.getLogger("bites")
    biting = telemetry.operation("bite", ("kind",), family=BITES_ENDED, logger=log)
    full = ErrorCode("test.full", Category.NO_CAPACITY, "no more")
    with caplog.at_level("DEBUG", "bites"):
        with biting("red"):
            pass
        for error in (full.error(), ValueError(), asyncio.CancelledError()):
            with pytest.raises(type(error)), biting("red"):
                raise error
    text = telemetry.metrics.text().decode()
    for outcome in ("ok", "no_capacity", "error", "cancelled"):
        assert f'mgmtnode_bite_ended_seconds_count{{kind="red",outcome="{outcome}"}} 1.0' in text
    assert [r.getMessage().split(" in ")[0] for r in caplog.records] == [
        "bite red: ok", "bite red: no_capacity", "bite red: error", "bite red: cancelled",
    ]  # fmt: skip


def test_the_lag_of_a_blocked_loop_is_told() -> None:
    async def story() -> list[float]:
        seen: list[float] = []
        lag = LoopLag(seen.append, interval=0.001)
        lag.start()
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.02
        while loop.time() < until:
            pass
        assert lag.now >= 0.018
        while not seen:
            await asyncio.sleep(0)
        lag.stop()
        return seen

    assert max(asyncio.run(story())) >= 0.018
