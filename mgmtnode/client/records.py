"""What answers are read into: JSON objects whose fields are also attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mgmtnode.client.errors import ProblemError, StateConflict, problem_error
from mgmtnode.errors import CANCELLED

ENDED = frozenset({"Succeeded", "Failed", "Cancelled"})


class Record(dict[str, Any]):
    """A JSON object: ``vm["state"]`` and ``vm.state`` are the same; a method of dict wins over a field of its
    name.

    ``etag`` is set on what a single GET answered; give it to ``update(if_match=…)``.
    """

    etag: str | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return _wrap(self[name])
        except KeyError:
            raise AttributeError(f"the answer has no field {name!r}; it has {', '.join(self)}") from None


def _wrap(value: Any) -> Any:
    if isinstance(value, dict) and not isinstance(value, Record):
        return Record(value)
    return [_wrap(item) for item in value] if isinstance(value, list) else value


class JobState(Record):
    """A job as it was when last seen. Never changes; a ``Job`` handle asks again."""

    @property
    def ended(self) -> bool:
        return self.get("state") in ENDED

    @property
    def failure(self) -> ProblemError | None:
        """Why the job came to nothing; None while it runs and after it succeeded."""
        if not self.ended or self.get("state") == "Succeeded":
            return None
        if isinstance(self.get("error"), Mapping):
            return problem_error(self["error"])
        if self.get("state") == "Cancelled":
            cancelled = CANCELLED.error(
                f"job {self.get('uuid')} was cancelled", resource=self.get("resource_uuid")
            )
            return StateConflict(cancelled.problem)
        return problem_error(
            {"code": "core.internal", "message": f"job {self.get('uuid')} failed without a reason"}
        )
