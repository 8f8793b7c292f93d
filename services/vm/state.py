"""Which states a VM can go through, and what may be asked of it in each: pure tables."""

from __future__ import annotations

from mgmtnode.contracts.vm import VmState as S
from mgmtnode.contracts.vm_events import VM_BAD_STATE

TRANSITIONS: dict[S, frozenset[S]] = {
    S.CREATED: frozenset({S.STARTING, S.STOPPED, S.DESTROYING, S.DESTROYED}),
    S.STARTING: frozenset({S.RUNNING, S.STOPPED, S.PAUSED, S.DESTROYING, S.UNKNOWN}),
    S.RUNNING: frozenset(
        {
            S.STOPPING,
            S.STOPPED,
            S.REBOOTING,
            S.MIGRATING,
            S.PAUSING,
            S.PAUSED,
            S.DESTROYING,
            S.CRASHED,
            S.UNKNOWN,
        }
    ),
    S.STOPPING: frozenset({S.STOPPED, S.RUNNING, S.PAUSED, S.CRASHED, S.DESTROYING, S.UNKNOWN}),
    S.STOPPED: frozenset({S.STARTING, S.RUNNING, S.PAUSED, S.DESTROYING, S.DESTROYED, S.UNKNOWN}),
    S.REBOOTING: frozenset({S.RUNNING, S.STOPPED, S.CRASHED, S.DESTROYING, S.UNKNOWN}),
    S.PAUSING: frozenset({S.PAUSED, S.RUNNING, S.STOPPED, S.DESTROYING, S.UNKNOWN}),
    S.PAUSED: frozenset(
        {S.RESUMING, S.STOPPING, S.STOPPED, S.RUNNING, S.MIGRATING, S.DESTROYING, S.CRASHED, S.UNKNOWN}
    ),
    S.RESUMING: frozenset({S.RUNNING, S.PAUSED, S.STOPPED, S.DESTROYING, S.UNKNOWN}),
    S.MIGRATING: frozenset({S.RUNNING, S.STOPPED, S.PAUSED, S.DESTROYING, S.UNKNOWN}),
    S.CRASHED: frozenset(
        {S.RUNNING, S.STOPPED, S.STARTING, S.REBOOTING, S.STOPPING, S.DESTROYING, S.UNKNOWN}
    ),
    S.UNKNOWN: frozenset({S.RUNNING, S.STOPPED, S.PAUSED, S.CRASHED, S.STOPPING, S.MIGRATING, S.DESTROYING}),
    S.DESTROYING: frozenset({S.DESTROYED, S.RUNNING, S.STOPPED, S.PAUSED, S.CRASHED, S.UNKNOWN, S.EXPUNGING}),
    S.DESTROYED: frozenset({S.STOPPED, S.EXPUNGING}),
    S.EXPUNGING: frozenset({S.DESTROYED}),
}

TRANSITIONAL = frozenset(
    {
        S.STARTING, S.STOPPING, S.REBOOTING, S.PAUSING, S.RESUMING, S.MIGRATING, S.DESTROYING, S.EXPUNGING,
    }
)  # fmt: skip
STEADY = frozenset(S) - TRANSITIONAL

ALLOWED: dict[str, frozenset[S]] = {
    "start": frozenset({S.STOPPED, S.RUNNING}),
    "stop": frozenset({S.RUNNING, S.PAUSED, S.CRASHED, S.UNKNOWN, S.STOPPED}),
    "reboot": frozenset({S.RUNNING, S.CRASHED}),
    "pause": frozenset({S.RUNNING, S.PAUSED}),
    "resume": frozenset({S.PAUSED, S.RUNNING}),
    "migrate": frozenset({S.RUNNING, S.PAUSED}),
    # No job is at work on it when this one is: a state on the way is what one left that was given up.
    "destroy": frozenset(S) - {S.EXPUNGING},
    "recover": frozenset({S.DESTROYED}),
    "expunge": frozenset({S.DESTROYED}),
    "change-offering": frozenset({S.STOPPED, S.RUNNING}),
    "attach-nic": frozenset({S.STOPPED, S.RUNNING, S.PAUSED}),
    "detach-nic": frozenset({S.STOPPED, S.RUNNING, S.PAUSED}),
}


def check_allowed(operation: str, state: S, uuid: str) -> None:
    """Raises vm.bad-state naming the states that would do."""
    allowed = ALLOWED[operation]
    if state not in allowed:
        states = ", ".join(sorted(allowed))
        raise VM_BAD_STATE.error(
            f"cannot {operation} the VM: it is {state}, and must be one of {states}",
            resource=uuid,
            state=state,
            allowed=sorted(allowed),
        )


def check_transition(before: S, after: S, uuid: str) -> None:
    """Raises vm.bad-state for a change that cannot happen."""
    if before != after and after not in TRANSITIONS[before]:
        raise VM_BAD_STATE.error(f"a VM cannot go from {before} to {after}", resource=uuid)
