"""The numbers of a node, for Prometheus: one registry, the instruments that the core's parts share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
UNKNOWN = "none"

Depths = Callable[[], dict[str, float]]


class Metrics:
    """Instruments in the words of the code that uses them. Labels are closed sets: API names, never uuids."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter("http_requests", "Requests answered", "api", "status")
        self._request_time = self._histogram("http_request_seconds", "Time to answer a request", FAST, "api")
        self._amqp = self._counter("amqp_requests", "Requests over AMQP; status 0 is buried", "api", "status")
        self._amqp_time = self._histogram(
            "amqp_request_seconds", "Time to find the answer of a request over AMQP", FAST, "api"
        )
        self._jobs = self._counter("jobs", "Jobs that reached a state", "api", "state")
        self._job_time = self._histogram("job_seconds", "From acceptance to the end of a job", SLOW, "api")
        self._calls = self._counter("bus_calls", "Calls between services", "message", "outcome")
        self._call_time = self._histogram("bus_call_seconds", "Time to the reply of a call", FAST, "message")
        self._db_time = self._histogram(
            "db_transaction_seconds", "Time in a transaction, waiting included", FAST, "kind"
        )
        self._lag = Gauge(
            "mgmtnode_loop_lag_seconds", "How late the event loop runs its timers", registry=self.registry
        )
        self._depths = _Depths()
        self.registry.register(self._depths)

    def request(self, api: str, status: int, seconds: float) -> None:
        """A request was answered. ``api`` is a declared name, or empty for paths that do not exist."""
        name = api or UNKNOWN
        self._requests.labels(name, str(status)).inc()
        self._request_time.labels(name).observe(seconds)

    def amqp_request(self, api: str, status: int, seconds: float) -> None:
        """The same for a request over AMQP; ``status`` 0: there was nobody to answer, and it was buried."""
        name = api or UNKNOWN
        self._amqp.labels(name, str(status)).inc()
        self._amqp_time.labels(name).observe(seconds)

    def job(self, api: str, state: str, seconds: float | None = None) -> None:
        """A job reached ``state``; with its age in ``seconds`` if it ended."""
        self._jobs.labels(api, state).inc()
        if seconds is not None:
            self._job_time.labels(api).observe(seconds)

    def call(self, message: str, outcome: str, seconds: float) -> None:
        """A bus call was answered; ``outcome`` is ``ok`` or the category of its error."""
        self._calls.labels(message, outcome).inc()
        self._call_time.labels(message).observe(seconds)

    def transaction(self, kind: str, seconds: float) -> None:
        """A database transaction ended; ``kind`` is ``read`` or ``write``."""
        self._db_time.labels(kind).observe(seconds)

    def loop_lag(self, seconds: float) -> None:
        self._lag.set(seconds)

    def depth(self, name: str, read: Depths) -> None:
        """Shows how full something is, as ``mgmtnode_<name>{queue=…}``; ``read`` is asked at every scrape."""
        self._depths.sources[name] = read

    def text(self) -> bytes:
        """What ``/metrics`` answers."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"mgmtnode_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"mgmtnode_{name}", text, labels, buckets=buckets, registry=self.registry)


class _Depths(Collector):
    def __init__(self) -> None:
        self.sources: dict[str, Depths] = {}

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, read in self.sources.items():
            family = GaugeMetricFamily(f"mgmtnode_{name}", "How much is there right now", labels=["queue"])
            for queue, value in read().items():
                family.add_metric([queue], value)
            yield family
