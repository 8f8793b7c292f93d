"""Host agents behind TLS: each side shows a certificate, and both look at it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mgmtnode.agents.local import LocalAgents
from mgmtnode.agents.port import UNREACHABLE
from mgmtnode.agents.remote import RemoteAgents
from mgmtnode.agents.server import AgentApp
from mgmtnode.api.server import HttpServer, Listen
from mgmtnode.config.file import Properties
from tests.agents.test_local import refused
from tests.agents.world import Agent, World
from tests.certificates import Authority, needs_openssl

pytestmark = needs_openssl
Ask = Callable[[dict[str, str]], Awaitable[object]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls") / "ours")
    made.sign("host", "subjectAltName=IP:127.0.0.1")
    made.sign("elsewhere", "subjectAltName=IP:192.0.2.9")
    made.sign("node", "extendedKeyUsage=clientAuth")
    return made


def properties(authority: Authority, certificate: str = "node") -> Properties:
    environ = {"MGMTNODE_AGENT_CA": authority.file("ca.pem")}
    if certificate:
        environ["MGMTNODE_AGENT_CERTIFICATE"] = authority.file(f"{certificate}.pem")
        environ["MGMTNODE_AGENT_KEY"] = authority.file(f"{certificate}.key")
    return Properties(environ=environ)


def ask(authority: Authority, by: Properties, server: str = "host") -> object:
    """What the agent with the certificate of ``server`` answers a node that is configured so."""

    async def asked() -> object:
        agent = Agent(":memory:", World())
        listen = Listen(
            port=0,
            certificate=authority.file(f"{server}.pem"),
            private_key=authority.file(f"{server}.key"),
            client_ca=authority.file("ca.pem"),
        )
        http = HttpServer(AgentApp(agent.named), listen)
        await http.start()
        remote, agents = RemoteAgents(by), LocalAgents()
        remote.serve(agents)
        try:
            endpoint = f"https://127.0.0.1:{http.port}/agents/host-1"
            return await agents.ask(endpoint, "echo", {"a": 1}, timeout=10)
        finally:
            await remote.close()
            await http.stop(2)
            await agent.file.close()

    return asyncio.run(asked())


async def _raise(work: Callable[[], object]) -> object:
    return await asyncio.to_thread(work)


def test_a_node_and_a_host_that_know_each_other_talk(authority: Authority) -> None:
    assert ask(authority, properties(authority)) == {"a": 1}


def test_a_host_lets_nobody_in_without_a_certificate(authority: Authority) -> None:
    error = asyncio.run(refused(_raise(lambda: ask(authority, properties(authority, "")))))
    assert error.code == UNREACHABLE.id


def test_a_host_with_the_certificate_of_another_is_not_believed(authority: Authority) -> None:
    error = asyncio.run(refused(_raise(lambda: ask(authority, properties(authority), "elsewhere"))))
    assert (error.code, "certificate" in error.problem.message) == (UNREACHABLE.id, True)


def test_a_host_of_another_authority_is_not_believed(authority: Authority, tmp_path: Path) -> None:
    strangers = Authority(tmp_path / "theirs")
    strangers.sign("node", "extendedKeyUsage=clientAuth")
    error = asyncio.run(refused(_raise(lambda: ask(authority, properties(strangers)))))
    assert (error.code, "certificate" in error.problem.message) == (UNREACHABLE.id, True)
