"""What a test talks to: the API of one node or of a cluster, as one caller, and what is behind it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import wait
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from mgmtnode.bus.message import ApiJob, Message
from mgmtnode.db.session import Tx
from mgmtnode.events.repository import LoggedEvent
from mgmtnode.jobs.job import SYSTEM, Job
from mgmtnode.node import ManagementNode
from mgmtnode.service import Service
from mgmtnode.testing.node_thread import WAIT, NodeThread, operator_token

if TYPE_CHECKING:
    import httpx

    from mgmtnode.testing.agents_thread import AgentsThread

__all__ = ["WAIT", "Cloud", "NodeThread", "Refused", "operator_token"]

T = TypeVar("T")
S = TypeVar("S", bound=Service)
POLL = 0.02


class Refused(AssertionError):
    """The API answered with a problem where the test expected success. ``problem`` is its body."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.problem: dict[str, Any] = response.json()
        super().__init__(f"{self.status} {self.problem.get('code')}: {self.problem.get('detail')}")

    @property
    def code(self) -> str:
        return str(self.problem["code"])


class Turns:
    """The nodes in turn, each as often as the others and in no pattern: no step of a test always meets the same one.

    The Thue-Morse sequence: for two nodes 0 1 1 0 1 0 0 1 …
    """

    def __init__(self, nodes: Sequence[NodeThread]) -> None:
        self._nodes, self._numbers = nodes, count()

    def next(self) -> int:
        index, number = 0, next(self._numbers)
        while number and len(self._nodes) > 1:
            number, digit = divmod(number, len(self._nodes))
            index += digit
        return index % len(self._nodes)


class Cloud:
    """The API as one caller; ``as_(token)`` is the same cloud as another. Each request goes to the next node in turn,
    as behind a load balancer: a test must not care which one it is.

    ``nodes``: all of them. ``agents``: those of hosts that the nodes share; None where the only node has its own.
    """

    def __init__(
        self,
        nodes: NodeThread | Sequence[NodeThread],
        token: str,
        *,
        agents: AgentsThread | None = None,
        turns: Turns | None = None,
    ) -> None:
        import httpx

        self.nodes = (nodes,) if isinstance(nodes, NodeThread) else tuple(nodes)
        self.token, self.agents = token, agents
        self._others: list[Cloud] = []
        self._parts: tuple[Cloud, ...] = ()
        self._turns = turns or Turns(self.nodes)
        self._clients = [
            httpx.Client(
                base_url=node.url,
                headers={"authorization": f"Bearer {token}"},
                timeout=WAIT + 10.0,
                verify=False,  # nodes speak plain HTTP, and reading all root certificates takes as long as a boot
            )
            for node in self.nodes
        ]

    # the nodes behind it

    @property
    def http(self) -> httpx.Client:
        """A client of the node whose turn it is."""
        return self._clients[self._turns.next()]

    def turn(self) -> NodeThread:
        """The node whose turn it is, for what any node can do."""
        return self.nodes[self._turns.next()]

    def owner_of(self, uuid: str) -> NodeThread:
        """The node that works on this resource."""
        return next(thread for thread in self.nodes if thread.node.slots.mine(uuid))

    @property
    def thread(self) -> NodeThread:
        """The only node: for tests about one."""
        (thread,) = self.nodes
        return thread

    @property
    def node(self) -> ManagementNode:
        """As ``thread``."""
        return self.thread.node

    def services(self, kind: type[S]) -> Sequence[S]:
        """The service of this class of each node."""
        return [thread.service(kind) for thread in self.nodes]

    def everywhere(self, kind: type[S], act: Callable[[S], Coroutine[Any, Any, T]]) -> Sequence[T]:
        """Has each node's service of this class do something, one after the other."""
        return [thread.run(act(thread.service(kind))) for thread in self.nodes]

    def at_once(
        self, works: Iterable[Callable[[ManagementNode], Coroutine[Any, Any, T]]], seconds: float = 60.0
    ) -> Sequence[T | BaseException]:
        """Does all of it at the same time, each on the next node in turn: what they return or raise, in order."""
        begun = []
        for work in works:
            thread = self.turn()
            begun.append(thread.begin(work(thread.node)))
        wait(begun, seconds)
        return [each.exception(0) or each.result(0) for each in begun]

    def ask(self, msg: Message[T], timeout: float | None = None) -> T:
        """The answer to a message between services."""
        thread = self.turn()
        return thread.run(thread.node.bus.call(msg, timeout))

    def run_job(self, msg: ApiJob[Any]) -> Job:
        """The ended job of a message that services send, whatever came of it."""
        thread = self.turn()
        jobs = thread.node.parts.context.jobs

        async def run() -> Job:
            return await jobs.wait((await jobs.accept(msg, SYSTEM)).uuid, WAIT)

        return thread.run(run(), 2 * WAIT)

    def read(self, work: Callable[[Tx], T]) -> T:
        """What is in the database."""
        thread = self.turn()
        return thread.run(thread.node.db.read(work))

    def write(self, work: Callable[[Tx], T]) -> T:
        """One transaction, on any node."""
        thread = self.turn()
        return thread.run(thread.node.db.write(work))

    def logged(self) -> list[LoggedEvent]:
        """The event log."""
        thread = self.turn()
        return thread.run(thread.node.parts.events.read(None, 1000, SYSTEM))

    def doing(self) -> str:
        return "\n".join(thread.doing() for thread in self.nodes)

    # callers

    def as_(self, token: str) -> Cloud:
        other = Cloud(self.nodes, token, agents=self.agents, turns=self._turns)
        self._others.append(other)
        return other

    def login(self, account: str, password: str, **more: Any) -> Cloud:
        """The cloud as this account (or its user) sees it."""
        session = self.call("POST", "/sessions", {"account": account, "password": password, **more})
        return self.as_(session["token"])

    def tenant(self, name: str = "tenant") -> Cloud:
        """A fresh account of a tenant."""
        self.create("accounts", name=name, password="correct horse battery")
        return self.login(name, "correct horse battery")

    def close(self) -> None:
        for other in (*self._others, *self._parts):
            other.close()
        for client in self._clients:
            client.close()

    # requests

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> httpx.Response:
        """The raw answer of ``/v1`` + path; a mutation is waited for."""
        return self.http.request(
            method, f"/v1{path}", json=body, params=params or None, headers={"prefer": f"wait={WAIT}"}
        )

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """The body of a successful answer. Raises Refused."""
        response = self.request(method, path, body, **params)
        if response.status_code >= 400:
            raise Refused(response)
        assert response.status_code != 202, f"not done within {WAIT} s: {response.text[:500]}\n{self.doing()}"
        return response.json() if response.content else None

    def create(self, plural: str, **fields: Any) -> dict[str, Any]:
        return dict(self.call("POST", f"/{plural}", fields))

    def get(self, plural: str, uuid: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/{plural}/{uuid}"))

    def list(self, plural: str, *q: str, **params: Any) -> list[dict[str, Any]]:
        """The items of one page (limit 1000) that meet the conditions."""
        return list(self.call("GET", f"/{plural}", None, **({"limit": 1000, "q": list(q)} | params))["items"])

    def update(self, plural: str, uuid: str, **fields: Any) -> dict[str, Any]:
        return dict(self.call("PATCH", f"/{plural}/{uuid}", fields))

    def delete(self, plural: str, uuid: str, *, force: bool = False) -> None:
        self.call("DELETE", f"/{plural}/{uuid}", None, **({"force": "true"} if force else {}))

    def act(self, plural: str, uuid: str, action: str, **fields: Any) -> dict[str, Any]:
        return dict(self.call("POST", f"/{plural}/{uuid}/actions/{action}", fields))

    def gone(self, plural: str, uuid: str) -> bool:
        return self.request("GET", f"/{plural}/{uuid}").status_code == 404

    def config(self, name: str, value: object) -> None:
        """Changes a global config, and returns once every node has heard of it."""
        found = self.list("global-configs", f"name={name}")[0]
        text = self.update("global-configs", found["uuid"], value=value)["value"]
        self.until(lambda: all(_value(thread.node, name) == text for thread in self.nodes))

    def agrees(self, probe: Callable[[Cloud], object], expected: object) -> None:
        """``probe(cloud)`` answers ``expected`` at every node: the only one at once, several once they have heard of
        what was changed a moment ago."""
        if self._several:
            self.until(lambda: all(probe(each) == expected for each in self._apart()))
        assert [probe(each) for each in self._apart()] == [expected] * len(self.nodes)

    def _apart(self) -> Sequence[Cloud]:
        """The same caller at each node alone."""
        if not self._several:
            return (self,)
        if not self._parts:
            self._parts = tuple(Cloud(thread, self.token, agents=self.agents) for thread in self.nodes)
        return self._parts

    @property
    def _several(self) -> bool:
        return len(self.nodes) > 1

    def until(self, condition: Callable[[], object], seconds: float = WAIT) -> None:
        """Returns once ``condition()`` is true, asking again and again. Fails after ``seconds``."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (
                f"not so within {seconds:g} s: {inspect.getsource(condition).strip()}"
            )
            time.sleep(POLL)


def _value(node: ManagementNode, name: str) -> str:
    configs = node.parts.context.config
    config = configs.find(name)
    return config.text(configs.get(config))
