"""Turns of those that are compared: all are warmed up, then each has its turn in every round."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from scripts.benchmarks.figures import OURS, Claim, Figure, Section, rounded

ROUNDS = 5

Sample = Mapping[str, float]
"""One run: ``"what, unit"`` → value."""

Trial = Callable[[], Sample]


class PeerFailed(Exception):
    """One that is compared with the product could not do it: said, and left out. The text names the reason."""


class Run:
    """A scenario that is being run."""

    def __init__(self, section: Section) -> None:
        self.section = section
        self.quick, self.rounds = section.quick, section.rounds

    def wanted(self, case: str) -> bool:
        return any(part in case for part in self.section.only.split("|"))

    def compare(self, case: str, trials: Mapping[str, Trial], *, warm: bool = True, rounds: int = 0) -> None:
        """Runs all ``trials`` in turns. A peer that fails is left out from then on; the product may not."""
        if not self.wanted(case):
            return
        self.tell(f"{case}: {', '.join(trials)}")
        still, runs = dict(trials), dict[str, list[Sample]]()
        for number in range(-1 if warm else 0, rounds or self.rounds):
            for who in turn(list(still), number):
                sample = self._try(case, who, still)
                if sample is not None and number >= 0:
                    runs.setdefault(who, []).append(sample)
        for who in trials:
            if who in still:
                self.record(case, who, runs[who])

    def record(self, case: str, who: str, samples: list[Sample], *, counted: bool = False) -> None:
        """Takes up runs, all of the same measures."""
        for key in samples[0]:
            what, _, unit = key.rpartition(", ")
            values = rounded(sample[key] for sample in samples)
            self.section.figures.append(Figure(case, who, what, unit, values, counted))

    def note(self, text: str) -> None:
        """Said loudly, and kept with the figures."""
        self.section.notes.append(text)
        self.tell(f"NOTE {text}")

    def tell(self, text: str) -> None:
        print(f"… {self.section.name}: {text}", file=sys.stderr, flush=True)

    # claims, of figures that were measured in this run

    def at_most(self, text: str, case: str, what: str, bound: float, who: str = OURS) -> None:
        if figure := self.section.find(case, what, who):
            self.claim(text, figure.median, figure.unit, bound)

    def at_least(self, text: str, case: str, what: str, bound: float) -> None:
        if figure := self.section.find(case, what):
            self.claim(text, figure.median, figure.unit, bound, at_least=True)

    def ratio(self, text: str, case: str, what: str, peer: str, bound: float, *, at_least: bool) -> None:
        """Ours to the peer's, medians of the same run."""
        ours, other = self.section.find(case, what), self.section.find(case, what, peer)
        if ours and other and other.median:
            self.claim(text, ours.median / other.median, "×", bound, at_least=at_least)

    def claim(self, text: str, value: float, unit: str, bound: float, *, at_least: bool = False) -> None:
        self.section.claims.append(Claim(text, *rounded([value]), unit, bound, at_least))

    def _try(self, case: str, who: str, still: dict[str, Any]) -> Sample | None:
        try:
            return dict(still[who]())
        except PeerFailed as failed:
            if who.startswith(OURS):  # in whatever flavour
                raise
            self.note(f"{who} is missing in “{case}”: {failed}")
            del still[who]
            return None


def turn(names: list[str], number: int) -> list[str]:
    """The order of round ``number``: each begins once, so that none always follows the same one."""
    at = number % len(names) if names else 0
    return names[at:] + names[:at]
