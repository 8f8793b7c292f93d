"""The global properties of the node itself; those of a service are in its ``properties.py``."""

from __future__ import annotations

from typing import Any

from mgmtnode.config.properties import GlobalProperty

NODE_NAME = GlobalProperty(
    "node.name", "", "Name of this node in the cluster, stable over restarts. Empty: the machine's host name"
)
NODE_ADDRESS = GlobalProperty(
    "node.address", "", "Host (and :port) under which clients reach this node. Empty: host name and api.port"
)
DATA_DIR = GlobalProperty(
    "node.data_dir", "/var/lib/mgmtnode", "Directory for what this node keeps on disk", path=True
)
DRAIN_SECONDS = GlobalProperty(
    "node.drain_seconds",
    30.0,
    "How long a stopping node lets running steps end before it hands their jobs over",
    unit="seconds",
    low=0,
    high=3600,
)
READY_GRACE_SECONDS = GlobalProperty(
    "node.ready_grace_seconds",
    0.0,
    "How long a stopping node says on /readyz that it is not ready before it stops anything",
    unit="seconds",
    low=0,
    high=600,
)
BOOT_SECONDS = GlobalProperty(
    "node.boot_seconds",
    30.0,
    "How long a starting node waits for the database and the broker before it gives up",
    unit="seconds",
    low=1,
    high=3600,
)

SLOTS_AT_ONCE = GlobalProperty(
    "cluster.slots_at_once",
    64,
    "How many of the 1024 slots this node hands over together, once a second, to a node that comes or when it leaves",
    low=1,
    high=1024,
)

DATABASE_URL = GlobalProperty(
    "database.url",
    "",
    "postgresql+psycopg2://USER:PASSWORD@HOST/NAME. Empty: an SQLite file in node.data_dir, for one node",
    secret=True,
)
DATABASE_CONNECTIONS = GlobalProperty(
    "database.connections",
    8,
    "Connections of this node to PostgreSQL; half as many more on a burst",
    low=2,
    high=200,
)

BUS_URL = GlobalProperty(
    "bus.url",
    "",
    "amqp://USER:PASSWORD@HOST:5672/VHOST, or amqps://; for small installations redis://HOST:6379/0, or rediss://. "
    "Empty: in memory, for one node",
    secret=True,
)
BUS_CA = GlobalProperty(
    "bus.ca",
    "",
    "File with the authority behind the certificates of the brokers in bus.url and api.amqp_url. Empty: the system's",
    path=True,
)

REDIS_URL = GlobalProperty(
    "redis.url",
    "",
    "redis://HOST:6379/0 for limits that all nodes count together, rediss:// for TLS. Empty: each node counts alone",
    secret=True,
)

REDIS_CA = GlobalProperty(
    "redis.ca",
    "",
    "File with the authority behind the certificate of the Redis in redis.url. Empty: the system's",
    path=True,
)

API_HOST = GlobalProperty("api.host", "0.0.0.0", "Address that the API listens on")
API_PORT = GlobalProperty(
    "api.port", 8080, "Port that the API listens on; 0 takes a free one", low=0, high=65535
)
API_TLS_CERTIFICATE = GlobalProperty(
    "api.tls_certificate", "", "PEM file with the API's certificate chain. Empty: plain HTTP", path=True
)
API_TLS_KEY = GlobalProperty("api.tls_key", "", "PEM file with the key of api.tls_certificate", path=True)

API_AMQP_URL = GlobalProperty(
    "api.amqp_url",
    "",
    "amqp://USER:PASSWORD@HOST:5672/VHOST with a virtual host of its own, for AMQP clients; the same on all nodes. "
    "Empty: no AMQP API",
    secret=True,
)
API_AMQP_PREFETCH = GlobalProperty(
    "api.amqp_prefetch",
    64,
    "AMQP requests this node works on at once; others wait in the queue",
    low=1,
    high=1000,
)

AGENT_CA = GlobalProperty(
    "agent.ca", "", "PEM file with the authority that signed the host agents' certificates", path=True
)
AGENT_CERTIFICATE = GlobalProperty(
    "agent.certificate", "", "PEM file with the certificate this node shows to host agents", path=True
)
AGENT_KEY = GlobalProperty("agent.key", "", "PEM file with the key of agent.certificate", path=True)
AGENT_CONNECTIONS = GlobalProperty(
    "agent.connections",
    512,
    "Connections of this node to host agents over HTTP at once, in all",
    low=2,
    high=65_536,
)
AGENT_CONNECTIONS_PER_ADDRESS = GlobalProperty(
    "agent.connections_per_address",
    256,
    "Of these, to one address and port; simulated hosts share one",
    low=2,
    high=65_536,
)

LOG_LEVEL = GlobalProperty(
    "log.level",
    "info",
    "The least severe lines that are written",
    choices=("debug", "info", "warning", "error"),
)
LOG_FORMAT = GlobalProperty(
    "log.format", "text", "Lines for people, or one JSON object a line", choices=("text", "json")
)

OTLP_ENDPOINT = GlobalProperty(
    "telemetry.otlp_endpoint",
    "",
    "http://HOST:4318 of an OpenTelemetry collector that traces are sent to. Empty: none are",
)
OTLP_SHARE = GlobalProperty(
    "telemetry.otlp_share",
    1.0,
    "Which part of the traces that begin here is sent; those that begin at a client are as it says",
    low=0,
    high=1,
)

SERVICES_ENABLED: GlobalProperty[list[str]] = GlobalProperty(
    "services.enabled", [], "Ids of the services to load. Empty: all that are installed"
)

CORE_PROPERTIES: tuple[GlobalProperty[Any], ...] = (
    NODE_NAME, NODE_ADDRESS, DATA_DIR, DRAIN_SECONDS, READY_GRACE_SECONDS, BOOT_SECONDS, SLOTS_AT_ONCE,
    DATABASE_URL, DATABASE_CONNECTIONS, BUS_URL, BUS_CA, REDIS_URL, REDIS_CA,
    API_HOST, API_PORT, API_TLS_CERTIFICATE, API_TLS_KEY, API_AMQP_URL, API_AMQP_PREFETCH,
    AGENT_CA, AGENT_CERTIFICATE, AGENT_KEY, AGENT_CONNECTIONS, AGENT_CONNECTIONS_PER_ADDRESS,
    LOG_LEVEL, LOG_FORMAT, OTLP_ENDPOINT, OTLP_SHARE, SERVICES_ENABLED,
)  # fmt: skip
