"""Lets a node reach agents over HTTP, with the certificates of its configuration."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from mgmtnode.agents.port import AgentEndpoint, Agents
from mgmtnode.config import core_properties as core
from mgmtnode.config.file import ConfigFileError, Properties

if TYPE_CHECKING:
    from mgmtnode.agents.http import HttpAgents

SCHEMES = ("http", "https")


class RemoteAgents:
    """The HTTP client, made for the first endpoint that needs it: a node without any spares 8 MiB and 0.1 s.

    Raises ConfigFileError when the certificates cannot be used.
    """

    def __init__(self, properties: Properties) -> None:
        self._tls = tls(properties)
        self._connections = properties.get(core.AGENT_CONNECTIONS)
        self._to_one = properties.get(core.AGENT_CONNECTIONS_PER_ADDRESS)
        self._http: HttpAgents | None = None

    def serve(self, agents: Agents) -> None:
        for scheme in SCHEMES:
            agents.serve(scheme, self.find)

    def find(self, endpoint: str) -> AgentEndpoint:
        if self._http is None:
            from mgmtnode.agents.http import HttpAgents

            self._http = HttpAgents(tls=self._tls, connections=self._connections, to_one=self._to_one)
        return self._http.find(endpoint)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()


def tls(properties: Properties) -> ssl.SSLContext | None:
    """Whom to trust as an agent and what to show it: agent.ca (empty: the system's authorities), agent.certificate
    and agent.key. None: nothing is said about it."""
    ca, certificate, key = (
        properties.get(p) or None for p in (core.AGENT_CA, core.AGENT_CERTIFICATE, core.AGENT_KEY)
    )
    if bool(certificate) != bool(key):
        raise ConfigFileError("agent.certificate and agent.key belong together; only one of them is set")
    if not (ca or certificate):
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate:
            context.load_cert_chain(certificate, key)
    except OSError as exc:  # an SSLError is one
        where = f"agent.ca {ca or '-'}, agent.certificate {certificate or '-'}, agent.key {key or '-'}"
        raise ConfigFileError(f"{where}: cannot be used: {exc.strerror or exc}") from exc
    return context
