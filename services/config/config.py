from mgmtnode.config.global_config import GlobalConfig

REFRESH_INTERVAL = GlobalConfig(
    "config.refresh_interval",
    30,
    "How often a node reads all configs again, in case it did not hear of a change",
    unit="seconds",
    low=1,
    high=3600,
)
