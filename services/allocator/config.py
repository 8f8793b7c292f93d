"""Settings of placement; those of hosts can be overridden on a host, its cluster or its zone."""

from mgmtnode.config.global_config import GlobalConfig

NEAREST = ("host", "cluster", "zone")
GIB = 1 << 30

STRATEGY = GlobalConfig(
    "allocator.strategy",
    "LeastVmPreferred",
    "How hosts are ordered when nothing else says",
    pattern=r"[A-Za-z]+",
)
RESERVED_MEMORY = GlobalConfig(
    "allocator.reserved_memory",
    1 * GIB,
    "Memory of a host that VMs never get: for its agent and system",
    unit="bytes",
    low=0,
    high=1 << 50,
    overridable=NEAREST,
)
RESERVED_CPU = GlobalConfig(
    "allocator.reserved_cpu",
    0,
    "Threads of a host, before over-provisioning, that VMs never get",
    unit="threads",
    low=0,
    high=4096,
    overridable=NEAREST,
)
CPU_RATIO = GlobalConfig(
    "allocator.cpu_overprovisioning",
    10.0,
    "Virtual CPUs placed on each thread of a host",
    low=0.1,
    high=1000,
    overridable=NEAREST,
)
MEMORY_RATIO = GlobalConfig(
    "allocator.memory_overprovisioning",
    1.0,
    "Memory promised to VMs for each byte a host has",
    low=0.1,
    high=100,
    overridable=NEAREST,
)
HOST_CONFIG = (RESERVED_MEMORY, RESERVED_CPU, CPU_RATIO, MEMORY_RATIO)
CONFIG = (STRATEGY, *HOST_CONFIG)
