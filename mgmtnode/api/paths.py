"""Which endpoint a path and a method lead to: a tree, so that the number of APIs costs nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from mgmtnode.api.http import Reply, Request
from mgmtnode.api.problems import UNKNOWN_PATH, WRONG_METHOD

Endpoint = Callable[[Request], Awaitable[Reply | None]]
"""Answers a request, or (None) has sent the answer itself."""


@dataclass(slots=True)
class Leaf:
    endpoint: Endpoint
    api: str
    path: str
    names: tuple[str, ...]


@dataclass(slots=True)
class Node:
    children: dict[str, Node] = field(default_factory=dict)
    any: Node | None = None
    methods: dict[str, Leaf] = field(default_factory=dict)


class Paths:
    def __init__(self) -> None:
        self._root = Node()

    def add(self, method: str, path: str, endpoint: Endpoint, api: str) -> None:
        """``{name}`` in ``path`` stands for any one segment. Raises ValueError if it is taken."""
        node, names = self._root, []
        for segment in path.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.any = node.any or Node()
                node = node.any
            else:
                node = node.children.setdefault(segment, Node())
        if method in node.methods:
            raise ValueError(f"{method} {path} is declared by both {node.methods[method].api} and {api}")
        node.methods[method] = Leaf(endpoint, api, path, tuple(names))

    def has(self, method: str, path: str) -> bool:
        segments = path.strip("/").split("/")
        return any(method in node.methods for node, _ in self._found(self._root, segments, 0))

    async def __call__(self, request: Request) -> Reply | None:
        """Raises api.unknown-path or api.wrong-method."""
        segments = request.segments
        allowed: set[str] = set()
        for node, values in self._found(self._root, segments, 0):
            leaf = node.methods.get("GET" if request.method == "HEAD" else request.method)
            if leaf:
                request.params = dict(zip(leaf.names, values, strict=True))
                request.route = leaf.path
                return await leaf.endpoint(request)
            allowed |= node.methods.keys()
        return _refuse(request, allowed)

    def _found(self, node: Node, segments: list[str], at: int) -> Iterator[tuple[Node, list[str]]]:
        """The nodes that ``segments`` lead to, literal ones first, with what stands for their names."""
        if at == len(segments):
            if node.methods:
                yield node, []
            return
        segment = segments[at]
        if segment in node.children:
            yield from self._found(node.children[segment], segments, at + 1)
        if node.any and segment:
            for found, values in self._found(node.any, segments, at + 1):
                yield found, [segment, *values]


def _refuse(request: Request, allowed: set[str]) -> Reply:
    if not allowed:
        raise UNKNOWN_PATH.error(f"there is no path {request.path[:200]}")
    if "GET" in allowed:
        allowed = allowed | {"HEAD"}
    allow = ", ".join(sorted(allowed | {"OPTIONS"}))
    if request.method == "OPTIONS":
        return Reply(b"", 204, {"allow": allow})
    text = f"{request.path[:200]} has no method {request.method[:20]}"
    error = WRONG_METHOD.error(text, allowed=sorted(allowed))
    error.headers["allow"] = allow
    raise error
