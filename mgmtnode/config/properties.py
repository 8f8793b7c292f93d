"""Declaring a global property: a setting of one node, read once at boot from file or environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

V = TypeVar("V", int, float, bool, str, list[str])

TYPE_WORDS: dict[type, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    list: "a list of strings",
}


@dataclass(frozen=True, eq=False)
class GlobalProperty(Generic[V]):
    """One property: ``name`` is ``section.key`` in ``mgmtnode.toml``; the environment's name is
    ``MGMTNODE_SECTION_KEY``. A ``secret`` is never shown and may be read from the file named by
    ``<key>_file``. ``path``: a leading ``~`` stands for the home directory."""

    name: str
    default: V
    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    secret: bool = False
    path: bool = False

    @property
    def env(self) -> str:
        return "MGMTNODE_" + self.name.upper().replace(".", "_").replace("-", "_")

    @property
    def section(self) -> str:
        return self.name.partition(".")[0]

    @property
    def key(self) -> str:
        return self.name.partition(".")[2]

    def parse(self, value: object) -> V:
        """``value``, as the file has it, as this property's type. Raises ValueError saying what was
        expected."""
        kind = type(self.default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not kind or (
            isinstance(value, list) and not all(isinstance(v, str) for v in value)
        ):
            raise ValueError(f"expected {TYPE_WORDS[kind]}, got {self._shown(value)}")
        self._bounds(value)
        if self.path and isinstance(value, str) and value.startswith("~"):
            value = str(Path(value).expanduser())
        return value

    def parse_text(self, text: str) -> V:
        """The same for a value from the environment; a list is separated by commas."""
        return self.parse(self._from_text(text.strip()))

    def _from_text(self, text: str) -> object:
        default: object = self.default
        if isinstance(default, list):
            return [item for item in (part.strip() for part in text.split(",")) if item]
        if isinstance(default, bool):
            return {"true": True, "false": False}.get(text.lower(), text)
        if isinstance(default, int | float):
            try:
                return type(default)(text)
            except ValueError:
                return text
        return text

    def _bounds(self, value: Any) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value != value or (self.low is not None and value < self.low):
                raise ValueError(f"expected at least {_number(self.low)}, got {value}")
            if self.high is not None and value > self.high:
                raise ValueError(f"expected at most {_number(self.high)}, got {value}")
        if self.choices:
            for item in value if isinstance(value, list) else [value]:
                if item not in self.choices:
                    raise ValueError(f"expected one of {', '.join(self.choices)}, got {self._shown(item)}")

    def _shown(self, value: object) -> str:
        return "a secret of another form" if self.secret else repr(value)[:80]


def _number(value: float | None) -> str:
    return "a number" if value is None else f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"
