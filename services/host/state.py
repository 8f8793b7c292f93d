"""Which states a host may go to: what the operator wants of it."""

from __future__ import annotations

from enum import StrEnum

from mgmtnode.contracts.host import HOST_BAD_STATE, HostState


class Wish(StrEnum):
    """What is asked of a host. ``maintained``: all has left it; only the maintenance flow says so."""

    ENABLE = "enable"
    DISABLE = "disable"
    MAINTAIN = "maintain"
    MAINTAINED = "maintained"


TRANSITIONS: dict[HostState, dict[Wish, HostState]] = {
    HostState.ENABLED: {
        Wish.ENABLE: HostState.ENABLED,
        Wish.DISABLE: HostState.DISABLED,
        Wish.MAINTAIN: HostState.PRE_MAINTENANCE,
    },
    HostState.DISABLED: {
        Wish.ENABLE: HostState.ENABLED,
        Wish.DISABLE: HostState.DISABLED,
        Wish.MAINTAIN: HostState.PRE_MAINTENANCE,
    },
    HostState.PRE_MAINTENANCE: {Wish.MAINTAINED: HostState.MAINTENANCE},
    HostState.MAINTENANCE: {Wish.ENABLE: HostState.ENABLED, Wish.MAINTAIN: HostState.MAINTENANCE},
}


def after(uuid: str, state: HostState, wish: Wish) -> HostState:
    """The state that ``wish`` leads to. Raises host.bad-state naming what is allowed."""
    known = TRANSITIONS[state]
    if wish in known:
        return known[wish]
    allowed = sorted(each for each in known if each is not Wish.MAINTAINED)
    raise HOST_BAD_STATE.error(
        f"a host in state {state} cannot {wish}; what it can: {', '.join(allowed) or 'nothing for now'}",
        resource=uuid,
        state=state,
        allowed=allowed,
    )
