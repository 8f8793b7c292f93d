"""The exchanges and queues of the AMQP API, on a virtual host of its own."""

from __future__ import annotations

from typing import Any

API = "mgmtnode.api"
REQUESTS = "mgmtnode.api.requests"
DEAD = "mgmtnode.api.dead"
EVENTS = "mgmtnode.events"
OURS = "mgmtnode."  # no reply queue may be called so

BODY_LIMIT = 256 * 1024
DELIVERY_LIMIT = 5  # a message that has ended so many connections is buried
DEAD_MILLISECONDS = 7 * 86_400_000

# Arguments of a queue that exists cannot be changed: another bound is a policy of the broker's, where the lower of
# both holds.
REQUEST_ARGUMENTS: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-max-length": 10_000,
    "x-max-length-bytes": 64 << 20,
    "x-overflow": "reject-publish",
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": DEAD,
}
DEAD_ARGUMENTS: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-max-length": 1000,
    "x-max-length-bytes": 32 << 20,
    "x-message-ttl": DEAD_MILLISECONDS,
}


def declare(channel: Any) -> None:
    """Makes what is not there. Raises what the library raises when it is there with other arguments."""
    for exchange in (API, EVENTS):
        channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
    channel.queue_declare(DEAD, durable=True, auto_delete=False, arguments=DEAD_ARGUMENTS)
    channel.queue_declare(REQUESTS, durable=True, auto_delete=False, arguments=REQUEST_ARGUMENTS)
    channel.queue_bind(REQUESTS, API, "#")
