"""The global configs of the host service."""

from mgmtnode.config.global_config import GlobalConfig

SYNC_LEVEL = GlobalConfig(
    "host.sync_level",
    10,
    "Commands that one host works on at once; the others wait in order",
    low=1,
    high=1000,
)
CONNECT_TIMEOUT = GlobalConfig(
    "host.connect_timeout", 120, "How long connecting a host may take", unit="seconds", low=1, high=3600
)
PING_INTERVAL = GlobalConfig(
    "host.ping_interval",
    60,
    "How often each host is asked whether it is there",
    unit="seconds",
    low=1,
    high=3600,
)
PING_TIMEOUT = GlobalConfig(
    "host.ping_timeout",
    10,
    "A host that has not answered by then has failed the ping",
    unit="seconds",
    low=1,
    high=300,
)
PING_FAILURES = GlobalConfig(
    "host.ping_failures", 3, "Pings in a row that fail before a host counts as disconnected", low=1, high=100
)
PING_PARALLELISM = GlobalConfig(
    "host.ping_parallelism", 100, "Hosts that a management node pings at once", low=1, high=10_000
)
LOAD_PARALLELISM = GlobalConfig(
    "host.load_parallelism",
    100,
    "Hosts that a management node connects at once after its start, or when they come back",
    low=1,
    high=10_000,
)
UNKNOWN_AFTER = GlobalConfig(
    "host.unknown_after",
    30,
    "How long a host is disconnected before its VMs count as unknown",
    unit="seconds",
    low=0,
    high=86400,
)
AUTO_RECONNECT = GlobalConfig(
    "host.auto_reconnect", True, "Connect a disconnected host again as soon as it answers a ping"
)
VM_SYNC_INTERVAL = GlobalConfig(
    "host.vm_sync_interval",
    300,
    "How often the VMs that a host reports are compared with the database even though nothing changed",
    unit="seconds",
    low=1,
    high=86400,
)
DEBT_INTERVAL = GlobalConfig(
    "host.debt_interval",
    30,
    "How often connected hosts are asked to remove what failed undos left there",
    unit="seconds",
    low=1,
    high=86400,
)
FORGET_INTERVAL = GlobalConfig(
    "host.forget_interval",
    3600,
    "How often connected hosts are told which VMs are no more, so that they need not remember commands to them",
    unit="seconds",
    low=1,
    high=86400,
)

CONFIG = (
    SYNC_LEVEL,
    CONNECT_TIMEOUT,
    PING_INTERVAL,
    PING_TIMEOUT,
    PING_FAILURES,
    PING_PARALLELISM,
    LOAD_PARALLELISM,
    UNKNOWN_AFTER,
    AUTO_RECONNECT,
    VM_SYNC_INTERVAL,
    DEBT_INTERVAL,
    FORGET_INTERVAL,
)
