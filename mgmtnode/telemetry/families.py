"""Every metric a node has: its name, what it says, its labels. docs/reference/metrics.md is written from here.

Counter     counted where it happens                    ``metrics.count(family, *labels)``
Histogram   how long something took, where it happens   ``metrics.observe(family, seconds, *labels)``
Gauge       how much there is right now; asked at each scrape, ``metrics.read(family, reader)``
Total       a count that a part keeps for itself; asked like a Gauge

Labels are closed sets: API names, message types, route templates, outcomes. Never a uuid or a name that a user chose.
"""

from __future__ import annotations

from dataclasses import dataclass

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(frozen=True, slots=True)
class Family:
    """``name`` is without the prefix ``mgmtnode_``, and a Counter's or Total's without ``_total``."""

    name: str
    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counter(Family):
    """``known``: values of its one label that are shown with 0 from the start. A series that begins with 1 does not
    increase, as Prometheus sees it: what an alert waits for must be there before."""

    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Total(Family):
    pass


@dataclass(frozen=True, slots=True)
class Gauge(Family):
    pass


@dataclass(frozen=True, slots=True)
class Histogram(Family):
    """``buckets``: upper bounds, in seconds."""

    buckets: tuple[float, ...] = FAST


INFO = Gauge("info", "1; which release this node is", ("version", "node"))

HTTP_REQUESTS = Counter("http_requests", "Requests answered", ("method", "route", "status"))
HTTP_SECONDS = Histogram(
    "http_request_seconds", "Time to the end of the answer, waits for jobs included", ("method", "route")
)
REQUESTS_LIMITED = Counter("http_requests_limited", "Requests refused because their account makes too many")
HTTP_IN_FLIGHT = Gauge("http_requests_in_flight", "Requests being answered")
HTTP_WAITING = Gauge("http_requests_waiting", "Requests that wait for a job to end (Prefer: wait)")

AMQP_REQUESTS = Counter(
    "amqp_requests",
    "Requests over AMQP, with the status HTTP would have; 0 is buried unanswered",
    ("api", "status"),
)
AMQP_SECONDS = Histogram("amqp_request_seconds", "Time to find the answer to a request over AMQP", ("api",))
AMQP_MESSAGES = Gauge(
    "amqp_messages",
    "Requests over AMQP being worked on, and answers and events on their way out: requests, outgoing",
    ("what",),
)

JOBS_ACCEPTED = Counter("jobs_accepted", "Jobs accepted by this node", ("api",))
JOBS_ENDED = Counter("jobs_ended", "Jobs that this node took to their end", ("api", "state"))
JOBS_OPEN = Gauge("jobs_open", "Jobs of this node's resources that wait or run, as far as it knows")
JOBS_RUNNING = Gauge("jobs_running", "Jobs whose flow runs on this node")
JOB_QUEUE_SECONDS = Histogram(
    "job_queue_seconds", "From the acceptance of a job to its start", ("api",), SLOW
)
JOB_RUN_SECONDS = Histogram("job_run_seconds", "From the start of a job to its end", ("api",), SLOW)
JOB_RECOVERIES = Counter(
    "job_recoveries",
    "Jobs taken up from their journal: resumed, rolled-back or given-up",
    ("how",),
    ("resumed", "rolled-back", "given-up"),
)
JOBS_FENCED = Counter("jobs_fenced", "Jobs that this node let go of because another one owns them now")

BUS_CALL_SECONDS = Histogram(
    "bus_call_seconds",
    "Time to the reply of a call; where is local or remote",
    ("message", "where", "outcome"),
)
BUS_PENDING = Gauge("bus_calls_pending", "Calls that wait for the reply of another node")
BUS_SERVING = Gauge("bus_calls_serving", "Calls of other nodes being served")
BUS_INCIDENTS = Total(
    "bus_incidents",
    "Envelopes that went another way than straight there: forwarded, returned, refused …",
    ("what",),
)
BUS_EVENTS_WAITING = Gauge("bus_events_waiting", "Events that wait for their subscribers on this node")
BUS_EVENTS_LOST = Total("bus_events_lost", "Events that a subscriber did not hear because too many waited")

TRANSPORT_HEALTHY = Gauge("transport_healthy", "1 while what is sent leaves at once")
TRANSPORT_BATCHES = Total("transport_batches", "Batches of envelopes: sent, received, returned …", ("what",))
TRANSPORT_BYTES = Total("transport_bytes", "Bytes of them: sent, received", ("what",))
TRANSPORT_BUFFERED = Gauge("transport_buffered_bytes", "Bytes that wait to leave")
TRANSPORT_RECONNECTS = Total("transport_reconnects", "Connections to the broker made anew after a loss")

SERIAL_WAITING = Gauge(
    "serial_waiting", "Calls that wait for their turn, by the kind of their key", ("kind",)
)
SERIAL_RUNNING = Gauge("serial_running", "Calls that have their turn", ("kind",))
SERIAL_OLDEST = Gauge("serial_oldest_seconds", "How long the oldest of them has waited", ("kind",))

DB_SECONDS = Histogram(
    "db_transaction_seconds",
    "Time to the end of a transaction, waiting for a connection included",
    ("kind", "outcome"),
)
DB_IN_FLIGHT = Gauge("db_transactions_in_flight", "Transactions that run, or wait for a connection")
DB_POOL_SIZE = Gauge("db_connections_limit", "Connections to the database that this node may have")
DB_POOL_IN_USE = Gauge("db_connections_in_use", "Connections with a transaction on them")
DB_RETRIES = Counter("db_retries", "Transactions begun again after a collision or on a dead connection")

LOOP_LAG = Histogram("loop_lag_seconds", "How late the event loop runs its timers", (), LAGS)
PERIODIC_RUNS = Total("periodic_runs", "Rounds of work that is done again and again", ("name",))
PERIODIC_FAILURES = Total("periodic_failures", "Rounds of it that failed", ("name",))

AGENT_SECONDS = Histogram(
    "agent_request_seconds",
    "Time to the outcome of a command, a seal or a question to a host; waiting for the host included",
    ("kind", "action", "outcome"),
    SLOW,
)

REDIS_UP = Gauge("redis_up", "1 while Redis answers; absent where none is configured")
REDIS_SECONDS = Histogram("redis_seconds", "Time to an answer of Redis, at most 0.05", ("what", "outcome"))

NODES = Gauge("nodes", "Nodes in the cluster, as this node knows", ("state",))
SLOTS_OWNED = Gauge("slots_owned", "Slots of the ring that this node owns")
RING_VERSION = Gauge(
    "ring_version", "Version of the ring that this node knows; differs for long only in trouble"
)
LEASE_SECONDS = Gauge("lease_age_seconds", "Time since this node last proved that it lives")
EVICTIONS = Total("evictions", "Nodes that this node found dead and removed")
SLOTS_MOVED = Total("slots_moved", "Slots gained and lost by this node", ("direction",))
SLOTS_OVERDUE = Total("slots_overdue", "Slots taken from a node that was to hand them over and did not")

FAMILIES: tuple[Family, ...] = (
    INFO,
    HTTP_REQUESTS, HTTP_SECONDS, REQUESTS_LIMITED, HTTP_IN_FLIGHT, HTTP_WAITING,
    AMQP_REQUESTS, AMQP_SECONDS, AMQP_MESSAGES,
    JOBS_ACCEPTED, JOBS_ENDED, JOBS_OPEN, JOBS_RUNNING, JOB_QUEUE_SECONDS, JOB_RUN_SECONDS, JOB_RECOVERIES,
    JOBS_FENCED,
    BUS_CALL_SECONDS, BUS_PENDING, BUS_SERVING, BUS_INCIDENTS, BUS_EVENTS_WAITING, BUS_EVENTS_LOST,
    TRANSPORT_HEALTHY, TRANSPORT_BATCHES, TRANSPORT_BYTES, TRANSPORT_BUFFERED, TRANSPORT_RECONNECTS,
    SERIAL_WAITING, SERIAL_RUNNING, SERIAL_OLDEST,
    DB_SECONDS, DB_IN_FLIGHT, DB_POOL_SIZE, DB_POOL_IN_USE, DB_RETRIES,
    LOOP_LAG, PERIODIC_RUNS, PERIODIC_FAILURES,
    AGENT_SECONDS,
    REDIS_UP, REDIS_SECONDS,
    NODES, SLOTS_OWNED, RING_VERSION, LEASE_SECONDS, EVICTIONS, SLOTS_MOVED,
    SLOTS_OVERDUE,
)  # fmt: skip
