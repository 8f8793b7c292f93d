"""The global configs of the simulator."""

from mgmtnode.config.global_config import GlobalConfig

DELAY_MS = GlobalConfig(
    "simulator.delay_ms",
    150,
    "How long a simulated host takes for a command, on average; each one differs by up to two thirds",
    unit="milliseconds",
    low=0,
    high=600_000,
)
MIGRATION_MS = GlobalConfig(
    "simulator.migration_ms",
    600,
    "How long a simulated live migration takes, on average",
    unit="milliseconds",
    low=0,
    high=600_000,
)
ANSWER_SECONDS = GlobalConfig(
    "simulator.answer_seconds",
    5,
    "How long a simulated host may take to answer a question before it counts as unreachable",
    unit="seconds",
    low=1,
    high=300,
)
COMMAND_SECONDS = GlobalConfig(
    "simulator.command_seconds",
    600,
    "How long to wait for the end of a command of a job that has no nearer deadline",
    unit="seconds",
    low=1,
    high=86_400,
)

CONFIG = (DELAY_MS, MIGRATION_MS, ANSWER_SECONDS, COMMAND_SECONDS)
