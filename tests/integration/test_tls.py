"""Brokers behind TLS: whose certificate is taken, and that nothing waits unread in TLS's own buffer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from mgmtnode.testing.servers import RedisServer
from tests.certificates import Authority, needs_openssl
from tests.integration.two_nodes import Ask, bus, echo, run, two_nodes, vm

pytestmark = [pytest.mark.integration, needs_openssl]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls") / "ours")
    made.sign("broker", "subjectAltName=IP:127.0.0.1")
    made.sign("elsewhere", "subjectAltName=IP:192.0.2.9")
    return made


@asynccontextmanager
async def behind_tls(url: str, authority: Authority, certificate: str = "broker") -> AsyncIterator[str]:
    """The URL of a front that takes TLS and hands on what it hears to the server at ``url``."""
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.file(f"{certificate}.pem"), authority.file(f"{certificate}.key"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.gather(_carry(reader, back), _carry(there, writer))

    front = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = front.sockets[0].getsockname()[1]
    try:
        yield url.replace(f"{parts.scheme}:", f"{parts.scheme}s:", 1).replace(f":{parts.port}", f":{port}")
    finally:
        front.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()


def talks(url: str, authority: Authority) -> None:
    """Long calls, and many at once: more than one TLS record holds, and several messages in one record."""

    async def story() -> None:
        async with (
            behind_tls(url, authority) as front,
            two_nodes(front, echo, authority.file("ca.pem")) as (a, b),
        ):
            texts = [f"{n}:" + "x" * (40_000 if n % 10 == 0 else 20) for n in range(300)]
            calls = [
                node.call(Ask(vm_uuid=vm(to), text=text))
                for text in texts
                for node, to in ((a, "b"), (b, "a"))
            ]
            answers = await asyncio.gather(*calls)
            assert [answer.text for answer in answers] == [f"{to}:{text}" for text in texts for to in "ba"]

    run(story)


def test_nodes_talk_over_rabbitmq_with_tls(rabbit_url: str, authority: Authority) -> None:
    talks(rabbit_url, authority)


def test_nodes_talk_over_redis_with_tls(redis_server: RedisServer, authority: Authority) -> None:
    talks(redis_server.url, authority)


@pytest.mark.parametrize("certificate, ca, why", [
    ("broker", "", "certificate verify failed"),
    ("elsewhere", "ca.pem", "not valid for '127.0.0.1'"),
])  # fmt: skip
def test_a_broker_with_a_strange_certificate_is_not_talked_to(
    certificate: str,
    ca: str,
    why: str,
    rabbit_url: str,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        async with behind_tls(rabbit_url, authority, certificate) as front:
            node = bus("a", front, 1, ca=ca and authority.file(ca))
            await node.start()
            while why not in caplog.text:
                await asyncio.sleep(0.01)
            assert not node.transport.healthy
            await node.stop()

    run(story)
