"""oslo.messaging: an RPC server with a pool of threads, called by as many threads as calls are outstanding."""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import oslo_messaging
from orders import TIMEOUT, Turn, orders, ready, say
from oslo_config import cfg

CONFIG = f"""
[DEFAULT]
executor_thread_pool_size = 1000
rpc_response_timeout = {TIMEOUT:.0f}
rpc_conn_pool_size = 30
"""


class Answering:
    target = oslo_messaging.Target(version="1.0")

    def answer(self, ctxt: object, text: str, wait: float) -> str:
        if wait:
            time.sleep(wait)
        return text


def transport(url: str) -> oslo_messaging.RPCTransport:
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(CONFIG)
        file.flush()
        conf = cfg.CONF  # some of its options are registered nowhere else
        conf(["--config-file", file.name], project="bench")
    return oslo_messaging.get_rpc_transport(conf, url.replace("amqp://", "rabbit://").rstrip("/") + "/")


def serve(url: str) -> None:
    target = oslo_messaging.Target(topic="bench", server="server")
    server = oslo_messaging.get_rpc_server(transport(url), target, [Answering()], executor="threading")
    server.start()
    ready("oslo.messaging", "kombu")
    server.wait()


def call(url: str) -> None:
    client = oslo_messaging.get_rpc_client(
        transport(url), oslo_messaging.Target(topic="bench", version="1.0")
    )
    ready("oslo.messaging", "kombu")
    for turn in orders():
        _in_threads(turn, client)
        say(**turn.result())


def _in_threads(turn: Turn, client: oslo_messaging.RPCClient) -> None:
    def work() -> None:
        while turn.more():
            begin = time.perf_counter()
            turn.took(begin, client.call({}, "answer", text=turn.text, wait=turn.wait))

    with ThreadPoolExecutor(turn.outstanding) as threads:
        working = [threads.submit(work) for _ in range(turn.outstanding)]
    for each in working:
        each.result()


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](sys.argv[2])
