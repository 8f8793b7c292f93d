"""All lines of a cluster under test, on an event loop in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from mgmtnode.testing.chaos.line import Line
from mgmtnode.testing.chaos.weather import FAIR, Weather
from mgmtnode.testing.node_thread import LoopThread


class Lines:
    """``open`` gives the port to lead somebody to. All methods may be called in any thread."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._lines: dict[str, Line] = {}
        self._thread = LoopThread("lines")

    def start(self) -> Lines:
        self._thread.start_loop()
        return self

    def close(self) -> None:
        for line in self._lines.values():
            self._thread.run(line.close())
        self._thread.end_loop()

    def open(self, name: str, target: int, *, postgres: bool = False) -> int:
        """A line to the loopback port ``target``; returns the port of its near end."""
        line = Line(name, target, Random(f"{self._seed} {name}"), postgres=postgres)
        self._thread.run(line.open())
        self._lines[name] = line
        return line.port

    def change(self, name: str, weather: Weather) -> None:
        """Returns once it is so."""
        self._thread.run(_on_loop(self._lines[name].change, weather))

    def reset(self, name: str) -> None:
        """Resets all its connections of now."""
        self._thread.run(_on_loop(self._lines[name].reset))

    def clear(self) -> None:
        """Fair weather everywhere."""
        for name in self._lines:
            self.change(name, FAIR)

    @property
    def commits(self) -> int:
        """Transactions whose client was left without an answer, up to now."""
        return sum(line.commits for line in self._lines.values())


async def _on_loop(act: Callable[..., None], *arguments: object) -> None:
    act(*arguments)
