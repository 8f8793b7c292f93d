"""The words of agents over HTTP, for both ends: bodies, bounds, and how an error looks.

    POST /agents/{name}/command   200 Answer, or 202 Answer: it still runs, send it again to wait on
    POST /agents/{name}/seal      200 Sealed, or 202 Sealed: a command still runs, send it again to wait on
    POST /agents/{name}/forget    200, how many registers were dropped
    POST /agents/{name}/ask       200, the answer

Bodies are JSON. Errors are RFC 9457 problems, with the members of ``mgmtnode.errors.Problem``. Every one of the four
may be repeated when no answer came.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from mgmtnode.agents.port import Command, Order
from mgmtnode.errors import HTTP_STATUS, Problem
from mgmtnode.schema import Data

COMMAND, SEAL, FORGET, ASK = "command", "seal", "forget", "ask"
JSON, PROBLEM = "application/json", "application/problem+json"
REQUEST_BYTES = 1 << 20
ANSWER_BYTES = 32 << 20
LONGEST_WAIT = 60.0  # seconds that an agent keeps a request before it says *running*

Text = Annotated[str, Meta(min_length=1, max_length=255)]
Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Wait = Annotated[float, Meta(ge=0, le=LONGEST_WAIT, description="Seconds")]


class CommandBody(Data):
    resource: Text
    fence: Number
    order: tuple[Number, Number, Number]
    action: Text
    args: dict[str, Any] = field(default_factory=dict)
    wait: Wait = 0.0

    def command(self) -> Command:
        order: Order = self.order
        return Command(
            resource=self.resource, fence=self.fence, order=order, action=self.action, args=self.args
        )


class SealBody(Data):
    resource: Text
    fence: Number
    wait: Wait = 0.0


class ForgetBody(Data):
    floor: Number
    registers: Annotated[dict[Text, Number], Meta(max_length=10_000)]


class AskBody(Data):
    question: Text
    body: dict[str, Any] = field(default_factory=dict)


class Document(Problem, kw_only=True, frozen=True):
    """A problem as RFC 9457 wants it: its own members stand beside ours."""

    status: int
    title: str
    detail: str


def document(problem: Problem) -> tuple[int, bytes]:
    """The status and the body of an error."""
    status = HTTP_STATUS[problem.category]
    members = {name: getattr(problem, name) for name in Problem.__struct_fields__}
    body = Document(**members, status=status, title=problem.code, detail=problem.message)
    return status, msgspec.json.encode(body, enc_hook=str)
