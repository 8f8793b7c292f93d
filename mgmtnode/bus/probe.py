"""Finding out that nothing arrives here any more, although every connection looks well."""

from __future__ import annotations

import logging
from collections import Counter

from mgmtnode.bus.envelope import Envelope, Kind, encode
from mgmtnode.bus.outgoing import Outgoing
from mgmtnode.bus.transport import Transport
from mgmtnode.errors import ApiError
from mgmtnode.ports import Clock

log = logging.getLogger(__name__)

SILENT_SECONDS = 8.0


class Probe:
    """Sends this node a message through its transport, and waits for it to come back."""

    def __init__(self, clock: Clock, transport: Transport, outgoing: Outgoing, counts: Counter[str]) -> None:
        self._clock, self._transport, self._outgoing, self._counts = clock, transport, outgoing, counts
        self._unheard_since: float | None = None
        self._hoping_since = (
            0.0  # since the first probe that is unheard, or the connections were last made anew
        )

    def send(self, id: str) -> None:
        """Called every other second. After SILENT_SECONDS without an echo the connections are made anew,
        and get as long to show that they are better."""
        now = self._clock.monotonic()
        if self._unheard_since is None:
            self._unheard_since = self._hoping_since = now
        elif now - self._hoping_since > SILENT_SECONDS and self._transport.healthy:
            self._counts["silences"] += 1
            log.error("nothing has arrived here for %.0f s: connecting anew", self.silent_for)
            self._transport.renew()
            self._hoping_since = now
        me = self._transport.address
        try:
            self._outgoing.send(me, encode(Envelope(id=id, kind=Kind.PROBE, reply_to=me)))
        except ApiError:
            self._counts["probes_unsent"] += 1

    def heard(self) -> None:
        self._unheard_since = None

    @property
    def silent_for(self) -> float:
        """Seconds since a probe was sent that has not come back; 0 when all have."""
        return 0.0 if self._unheard_since is None else self._clock.monotonic() - self._unheard_since

    @property
    def trouble(self) -> str | None:
        """What keeps this node from hearing and reaching the others, in words."""
        if not self._transport.healthy:
            return "the broker cannot be reached, or takes no messages"
        if self.silent_for > SILENT_SECONDS:
            return f"nothing has arrived through the broker for {self.silent_for:.0f} s"
        return None
