"""The global properties of the simulator."""

from mgmtnode.config.properties import GlobalProperty

AGENTS_URL = GlobalProperty(
    "simulator.agents_url",
    "",
    "http://HOST:PORT of the simulated hosts that all management nodes share (python -m services.simulator). "
    "Empty: they are in this node's process, for one node",
)

PROPERTIES = (AGENTS_URL,)
