"""What has become of the product since an older run. Ratios to the peers of the same run count more than times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scripts.benchmarks.figures import OURS, Figure, Section
from scripts.benchmarks.tables import text

SHARE = 0.10
"""A timed figure that got worse by less is noise."""

COUNTED_SHARE = 0.02


class Change:
    """A figure of ours, before and now. ``worse``: the factor by which it got worse, below 1 if better."""

    def __init__(self, section: str, old: Figure, new: Figure) -> None:
        self.section, self.old, self.new = section, old, new
        if new.more_is_better:
            self.worse = old.median / new.median if new.median else float("inf")
        else:
            self.worse = new.median / old.median if old.median else (float("inf") if new.median else 1.0)

    @property
    def regression(self) -> bool:
        """Worse by more than noise: the ranges of a timed figure's runs do not even touch."""
        if self.new.counted:
            return self.worse > 1 + COUNTED_SHARE
        apart = self.new.low > self.old.high or self.new.high < self.old.low
        return self.worse > 1 + SHARE and (apart or len(self.new.runs) < 2)

    def __str__(self) -> str:
        name = " · ".join((self.section, *self.new.key[::2]))
        word = "REGRESSION" if self.regression else "better" if self.worse < 1 / (1 + SHARE) else ""
        return (
            f"{name}: {text(self.old.median)} → {text(self.new.median)} {self.new.unit}, "
            f"{1 / self.worse if self.worse else 0:.2f} times as good {word}".rstrip()
        )


def changes(old: Sequence[Section], new: Sequence[Section]) -> Iterator[Change]:
    """Of the product's figures that both have, with sections of the same size only."""
    before = {(s.name, s.quick): s for s in old}
    for section in new:
        other = before.get((section.name, section.quick))
        for figure in section.figures if other else ():
            known = other.find(figure.case, figure.what) if other and figure.who == OURS else None
            if known is not None:
                yield Change(section.name, known, figure)
