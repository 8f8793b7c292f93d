"""What a bus shows as metrics: how much waits, where envelopes went, what the transport carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized

from mgmtnode.bus.subscriptions import Subscriptions
from mgmtnode.bus.transport import Transport
from mgmtnode.tasks.serial import SerialQueues
from mgmtnode.telemetry import families
from mgmtnode.telemetry.metrics import Metrics


def show(
    metrics: Metrics,
    transport: Transport,
    queues: SerialQueues,
    *,
    pending: Sized,
    serving: Sized,
    incidents: Callable[[], Mapping[str, int]],
    subscriptions: Subscriptions,
) -> None:
    """``pending`` and ``serving``: calls to and of other nodes."""
    metrics.read(families.BUS_PENDING, lambda: len(pending))
    metrics.read(families.BUS_SERVING, lambda: len(serving))
    metrics.read(families.BUS_INCIDENTS, incidents)
    metrics.read(families.BUS_EVENTS_WAITING, lambda: subscriptions.waiting)
    metrics.read(families.BUS_EVENTS_LOST, lambda: subscriptions.lost)
    _show_transport(metrics, transport)
    _show_queues(metrics, queues)


def _show_transport(metrics: Metrics, transport: Transport) -> None:
    metrics.read(families.TRANSPORT_HEALTHY, lambda: transport.healthy)
    metrics.read(families.TRANSPORT_BATCHES, lambda: transport.traffic.batches)
    metrics.read(families.TRANSPORT_BYTES, lambda: transport.traffic.bytes)
    metrics.read(families.TRANSPORT_BUFFERED, lambda: transport.traffic.buffered)
    metrics.read(families.TRANSPORT_RECONNECTS, lambda: transport.traffic.reconnects)


def _show_queues(metrics: Metrics, queues: SerialQueues) -> None:
    """Keys hold uuids and are no labels: they are added up by what stands before the colon."""
    metrics.read(families.SERIAL_WAITING, lambda: {k: load.waiting for k, load in queues.loads().items()})
    metrics.read(families.SERIAL_RUNNING, lambda: {k: load.running for k, load in queues.loads().items()})
    metrics.read(families.SERIAL_OLDEST, lambda: {k: load.oldest for k, load in queues.loads().items()})
