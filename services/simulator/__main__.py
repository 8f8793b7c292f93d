"""``python -m services.simulator``: simulated hosts in a process of their own, shared by several management nodes."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mgmtnode.agents.server import AgentApp
from mgmtnode.api.server import HttpServer, Listen
from mgmtnode.errors import ApiError
from mgmtnode.ports import SystemClock, SystemRng, UuidSource
from mgmtnode.telemetry import logs
from services.simulator.history import History
from services.simulator.hosts import FILE, SimulatedHosts
from services.simulator.pace import Pace

FAILED = 1
STOP_SECONDS = 3.0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m services.simulator",
        description="Simulated hosts in a process of their own. Every management node whose simulator.agents_url is "
        "the address printed as 'ready http://…' shares them. They survive the death of the process.",
    )
    made.add_argument("--data-dir", required=True, type=Path, metavar="DIR", help=f"where {FILE} is kept")
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    made.add_argument("--port", default=0, type=_port, help="0, the default, takes a free one")
    made.add_argument(
        "--delay-ms",
        type=_milliseconds,
        metavar="N",
        help="how long a command takes on average; without it, what simulator.delay_ms and simulator.migration_ms of "
        "the management nodes say",
    )
    made.add_argument(
        "--history", type=Path, metavar="FILE", help="append a JSON line for each command and refusal"
    )
    made.add_argument("--certificate", metavar="PEM", help="serve https with this certificate chain …")
    made.add_argument("--key", metavar="PEM", help="… and its key")
    made.add_argument(
        "--client-ca", metavar="PEM", help="let in only who shows a certificate of this authority"
    )
    made.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    return made


def _port(text: str) -> int:
    return _within(text, 65_535)


def _milliseconds(text: str) -> int:
    return _within(text, 86_400_000)


def _within(text: str, high: int) -> int:
    if not text.isdecimal() or int(text) > high:
        raise argparse.ArgumentTypeError(f"expected 0 to {high}, got {text!r}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if bool(options.certificate) != bool(options.key) or (options.client_ca and not options.key):
        parser().error("--certificate and --key belong together, and --client-ca needs both")
    logs.configure("simulator", json=False, level=options.log_level.upper())
    import uvloop

    try:
        uvloop.run(serve(options))
    except (ApiError, OSError) as exc:
        sys.stderr.write(f"simulator: {exc.problem.message if isinstance(exc, ApiError) else exc}\n")
        return FAILED
    return 0


async def serve(options: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT. Raises ApiError for a file that is in use or a port that is taken, and OSError."""
    told = _told()
    options.data_dir.mkdir(parents=True, exist_ok=True)
    clock, rng = SystemClock(), SystemRng()
    history = History(options.history, clock) if options.history else None
    hosts = SimulatedHosts(
        options.data_dir / FILE,
        rng,
        UuidSource(clock, rng),
        pace=Pace(rng, options.delay_ms),
        history=history,
    )
    app = AgentApp(hosts.find)
    server = HttpServer(app, _listen(options))
    try:
        await server.start()
        _settle_memory()
        _say_ready(options, server.port)
        await told.wait()
        app.close()
        await hosts.power_off()
        await server.stop(STOP_SECONDS)
    finally:
        await hosts.close()
        if history is not None:
            history.close()


def _listen(options: argparse.Namespace) -> Listen:
    return Listen(
        host=options.host,
        port=options.port,
        certificate=options.certificate,
        private_key=options.key,
        client_ca=options.client_ca,
    )


def _told() -> asyncio.Event:
    """Set by SIGTERM and SIGINT; a second one ends the process at once."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()

    def hear(number: int) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear, number)
    return told


def _say_ready(options: argparse.Namespace, port: int) -> None:
    scheme = "https" if options.certificate else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    sys.stdout.write(f"ready {scheme}://{host}:{port}\n")
    sys.stdout.flush()


def _settle_memory() -> None:
    """Registers only grow, so collections find little: they need not look often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


if __name__ == "__main__":
    sys.exit(main())
