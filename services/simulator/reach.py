"""Where simulated hosts are: in this process, or in one of their own that all management nodes share."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from mgmtnode.config.core_properties import BUS_URL
from mgmtnode.config.file import ConfigFileError, Properties
from mgmtnode.contracts.simulator import NOT_SHARED
from services.simulator.hosts import endpoint
from services.simulator.properties import AGENTS_URL


class Reach:
    """``agents_url`` empty: in this process. ``alone``: no other node could see those."""

    def __init__(self, agents_url: str, *, alone: bool) -> None:
        self._base, self.alone = agents_url.rstrip("/"), alone

    @property
    def split(self) -> bool:
        """Whether each of several nodes would have simulated hosts of its own, none of which knew the others' VMs."""
        return not self._base and not self.alone

    def endpoint(self, management_ip: str) -> str:
        """Raises simulator.not-shared."""
        if self._base:
            return f"{self._base}/agents/{quote(management_ip, safe='')}"
        if self.split:
            raise NOT_SHARED.error(
                "management nodes of a cluster cannot each have simulated hosts of their own: start one "
                "'python -m services.simulator' and set simulator.agents_url on every node"
            )
        return endpoint(management_ip)


def configured(properties: Properties) -> Reach:
    """Raises ConfigFileError."""
    url = properties.get(AGENTS_URL)
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        where = properties.source(AGENTS_URL)
        raise ConfigFileError(f"{where}: {AGENTS_URL.name}: expected http://HOST:PORT, got {url!r}")
    return Reach(url, alone=not properties.get(BUS_URL))
