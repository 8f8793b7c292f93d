"""Settings of VMs."""

from mgmtnode.config.global_config import GlobalConfig

DELETION_POLICY = GlobalConfig(
    "vm.deletion_policy",
    "Delay",
    "What destroying does: Direct deletes at once, Delay after vm.expunge_period, Never only when told to",
    choices=("Direct", "Delay", "Never"),
)
EXPUNGE_PERIOD = GlobalConfig(
    "vm.expunge_period",
    604_800,
    "How long a destroyed VM can be recovered under Delay",
    unit="seconds",
    low=0,
)
EXPUNGE_INTERVAL = GlobalConfig(
    "vm.expunge_interval", 3600, "How often destroyed VMs are looked through", unit="seconds", low=1
)
MIGRATION_QUANTITY = GlobalConfig(
    "vm.migration_quantity",
    2,
    "VMs moved at once when a host enters maintenance",
    low=1,
    high=100,
    overridable=("host", "cluster", "zone"),
)
MAINTENANCE_POLICY = GlobalConfig(
    "vm.maintenance_policy",
    "StopVmOnMigrationFailure",
    "What becomes of VMs that cannot be moved away: stopped, or the host stays out of maintenance (JustMigrate)",
    choices=("StopVmOnMigrationFailure", "JustMigrate"),
)
STRANGER_POLICY = GlobalConfig(
    "vm.stranger_policy",
    "Report",
    "What is done with a VM on a host that this cloud does not know",
    choices=("Report", "Destroy"),
)
COMMAND_TIMEOUT = GlobalConfig(
    "vm.command_timeout", 600, "How long a host may take for one command", unit="seconds", low=1, high=86400
)

CONFIG = (
    DELETION_POLICY,
    EXPUNGE_PERIOD,
    EXPUNGE_INTERVAL,
    MIGRATION_QUANTITY,
    MAINTENANCE_POLICY,
    STRANGER_POLICY,
    COMMAND_TIMEOUT,
)
