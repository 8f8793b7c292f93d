"""The global configs of the network service."""

from mgmtnode.config.global_config import GlobalConfig
from mgmtnode.contracts.network import IpStrategy
from services.network.macs import PREFIX

ALLOCATOR_STRATEGY = GlobalConfig(
    "network.allocator_strategy",
    IpStrategy.RANDOM.value,
    "Which free address a NIC gets on networks made without saying so",
    choices=tuple(strategy.value for strategy in IpStrategy),
)
MAC_PREFIX = GlobalConfig(
    "network.mac_prefix",
    "02:6d:6e",
    "The first half of generated MAC addresses: locally administered, and another one for each cloud on one wire",
    pattern=PREFIX,
)

CONFIG = (ALLOCATOR_STRATEGY, MAC_PREFIX)
