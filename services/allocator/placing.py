"""What this node is just placing: transactions beside this one, and the database, cannot see that yet."""

from __future__ import annotations

from mgmtnode.db.session import Tx
from mgmtnode.ports import Clock

MOMENT = 1.0  # seconds after which a placement that was not committed has failed


class Placing:
    """Without it, all that is placed at once goes for the one host that was the emptiest a moment ago, and waits in a
    queue for its row."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, dict[str, float]] = {}

    def begin(self, tx: Tx, host_uuid: str, vm_uuid: str) -> None:
        """``tx`` places the VM there."""
        here = self._until.setdefault(host_uuid, {})
        here[vm_uuid] = self._clock.monotonic() + MOMENT

        def end() -> None:
            here.pop(vm_uuid, None)

        tx.after_commit(end)

    def on(self, host_uuid: str) -> int:
        """How many VMs are just being placed on a host."""
        here = self._until.get(host_uuid)
        if not here:
            return 0
        now = self._clock.monotonic()
        for vm, until in list(here.items()):
            if until <= now:
                here.pop(vm, None)
        return len(here)
