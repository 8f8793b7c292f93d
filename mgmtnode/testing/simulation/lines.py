"""The lines between the parts of a cluster: what is sent may be late, lost, or come twice."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

LATENCY = (0.0005, 0.003)


class Weather(StrEnum):
    """What can be wrong with a line."""

    CUT = "cut"  # nothing gets through, either way
    DEAF = "deaf"  # requests get through, answers do not
    LOSSY = "lossy"  # some requests and some answers get lost
    SLOW = "slow"  # up to ``amount`` seconds more, each way
    LATE = "late"  # one request in four comes up to ``amount`` seconds late
    TWICE = "twice"  # some requests arrive twice
    REFUSED = "refused"  # the database says at once that it is away
    # and some of its transactions
    BROKEN = "broken"  # their connection breaks before the COMMIT: what they did is undone
    COLLIDES = "collides"  # lose a deadlock: what they did is undone, and done again
    STOPS = "stops"  # are told to stop because they take too long


@dataclass(eq=False)
class Spell:
    """Bad weather on a line, while it lasts. ``amount``: a rate, or seconds."""

    weather: Weather
    amount: float = 0.5


class Line:
    """One direction of asking: ``there`` and ``back`` say when what is sent now arrives, None if it does not.
    ``busy_until``: when the last of what is known to be on its way arrives."""

    def __init__(self, seed: str) -> None:
        self._rng = Random(seed)
        self.spells: list[Spell] = []
        self.busy_until = 0.0

    def there(self) -> float | None:
        return self._travel(back=False)

    def back(self) -> float | None:
        return self._travel(back=True)

    def twice(self) -> bool:
        return self.strikes(Weather.TWICE)

    def strikes(self, weather: Weather) -> bool:
        """Whether such weather hits what is sent now."""
        return any(s.weather is weather and self._rng.random() < s.amount for s in self.spells)

    def _travel(self, back: bool) -> float | None:
        seconds = self._rng.uniform(*LATENCY)
        for spell in self.spells:
            match spell.weather:
                case Weather.CUT:
                    return None
                case Weather.DEAF if back:
                    return None
                case Weather.LOSSY if self._rng.random() < spell.amount:
                    return None
                case Weather.LATE if not back and self._rng.random() < 0.25:
                    seconds += self._rng.random() * spell.amount
                case Weather.SLOW:
                    seconds += self._rng.random() ** 2 * spell.amount
        return seconds


class Lines:
    """All lines of a world, made when they are first used. ``a>b`` leads from who asks to who is asked."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lines: dict[tuple[str, str], Line] = {}
        self._spells: list[tuple[str, str, Spell]] = []
        self.under_way = 0  # what was sent to hosts and has not arrived yet

    @property
    def busy_until(self) -> float:
        return max((line.busy_until for line in self._lines.values()), default=0.0)

    def line(self, asks: str, asked: str) -> Line:
        line = self._lines.get((asks, asked))
        if line is None:
            line = self._lines[asks, asked] = Line(f"{self._seed} {asks}>{asked}")
            line.spells = [spell for a, b, spell in self._spells if _fits(a, asks) and _fits(b, asked)]
        return line

    def begin(self, lines: str, spell: Spell) -> None:
        """``lines``: like ``n1>host-2``; ``*>host-*`` are those of all nodes to all hosts, ``n1<>n*`` those between
        ``n1`` and other nodes, both ways."""
        a, both, b = lines.partition("<>")
        a, _, b = (a, "", b) if both else lines.partition(">")
        for asks, asked in ((a, b), (b, a)) if both else ((a, b),):
            self._begin(asks, asked, spell)

    def _begin(self, asks: str, asked: str, spell: Spell) -> None:
        self._spells.append((asks, asked, spell))
        for (a, b), line in self._lines.items():
            if _fits(asks, a) and _fits(asked, b):
                line.spells.append(spell)

    def end(self, spell: Spell) -> None:
        self._spells = [entry for entry in self._spells if entry[2] is not spell]
        for line in self._lines.values():
            line.spells = [other for other in line.spells if other is not spell]

    def heal(self) -> None:
        self._spells.clear()
        for line in self._lines.values():
            line.spells.clear()


def _fits(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
