"""The numbers of a node, for Prometheus. What there is to count is declared in families.py."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mgmtnode.telemetry.families import FAMILIES, Counter, Family, Gauge, Histogram, Total
from mgmtnode.telemetry.times import OTHER, Times

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "mgmtnode_"
MAX_SERIES = 2000  # label sets of one family; what comes beyond them is counted under OTHER

Values = float | Mapping[Any, float]
Reader = Callable[[], Values]
"""What there is now: a number, or numbers by label (by a tuple of labels where the family has several)."""


class Metrics:
    """One registry a node. Any thread may count; the event loop observes; readers are asked where ``text`` is called.

    A part that keeps its own figures registers them once::

        metrics.read(SLOTS_OWNED, lambda: len(ring.own))
    """

    def __init__(self, families: Iterable[Family] = FAMILIES) -> None:
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each
        self.registry = CollectorRegistry()
        self._counters: dict[Counter, _Counts] = {}
        self._histograms: dict[Histogram, Times] = {}
        self._readings = _Readings()
        for family in families:
            self._add(family)
        self.registry.register(self._readings)
        ProcessCollector(registry=self.registry)

    def count(self, family: Counter, *labels: str, by: float = 1.0) -> None:
        self._counters[family].child(labels).inc(by)

    def observe(self, family: Histogram, seconds: float, *labels: str) -> None:
        self._histograms[family].observe(seconds, labels)

    def observer(self, family: Histogram) -> Callable[[float, tuple[str, ...]], None]:
        """``observe(seconds, labels)`` of one family: the short way, for what happens often."""
        return self._histograms[family].observe

    def read(self, family: Gauge | Total, reader: Reader) -> None:
        """``reader`` is asked at every scrape. It must be quick; one that raises is left out, and logged. Several for
        one family are added up label by label."""
        self._readings.add(family, reader)

    def text(self) -> bytes:
        """What ``/metrics`` answers."""
        times = (line for histogram in self._histograms.values() for line in histogram.text())
        return generate_latest(self.registry) + "".join(times).encode()

    def _add(self, family: Family) -> None:
        name, labels = PREFIX + family.name, family.labels
        if isinstance(family, Counter):
            counter = prometheus.Counter(name, family.text, labels, registry=self.registry)
            self._counters[family] = counts = _Counts(counter, labels)
            for value in family.known:
                counts.child((value,))
        elif isinstance(family, Histogram):
            self._histograms[family] = Times(family, name, MAX_SERIES)


class _Counts:
    """Finding the child for some labels costs the library more than counting does: they are kept."""

    def __init__(self, whole: Any, labels: tuple[str, ...]) -> None:
        self._whole, self._labels = whole, labels
        self._children: dict[tuple[str, ...], Any] = {} if labels else {(): whole}

    def child(self, labels: tuple[str, ...]) -> Any:
        found = self._children.get(labels)
        return self._make(labels) if found is None else found

    def _make(self, labels: tuple[str, ...]) -> Any:
        if len(self._children) >= MAX_SERIES:
            return self._whole.labels(*(OTHER for _ in self._labels))
        made = self._children[labels] = self._whole.labels(*labels)
        return made


class _Readings(Collector):
    def __init__(self) -> None:
        self._readers: dict[Gauge | Total, list[Reader]] = {}

    def add(self, family: Gauge | Total, reader: Reader) -> None:
        self._readers.setdefault(family, []).append(reader)

    def collect(self) -> Iterable[Metric]:
        for family, readers in self._readers.items():
            kind = CounterMetricFamily if isinstance(family, Total) else GaugeMetricFamily
            metric = kind(PREFIX + family.name, family.text, labels=family.labels)
            for labels, value in _sum(family, readers).items():
                metric.add_metric(labels, value)
            yield metric


def _sum(family: Family, readers: Iterable[Reader]) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for reader in readers:
        try:
            values = reader()
        except Exception:  # whatever one part raises, the figures of the others are wanted all the more
            log.exception("%s could not be read", family.name)
            continue
        by_label = values if isinstance(values, Mapping) else {(): float(values)}
        for label, value in by_label.items():
            labels = (label,) if isinstance(label, str) else label
            found[labels] = found.get(labels, 0.0) + value
    return found
