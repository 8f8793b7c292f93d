"""The nodes of the cluster as their operator sees them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from msgspec import Meta

from mgmtnode.bus.message import Api, ApiCall
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import Data

NodeName = Annotated[str, Meta(min_length=1, max_length=128)]


class ManagementNode(Data, kw_only=True):
    """``lease_age``: seconds since the heartbeat was last seen to move, from the node that answers; None for a node
    that is not in the cluster. ``slots``: of 1024; ``leaving`` of these are to go elsewhere. ``in_flight`` and
    ``queued``: jobs that run and that wait there, as of its last heartbeat."""

    name: str
    state: str
    incarnation: int
    address: str
    version: str
    started_at: datetime
    lease_age: float | None
    slots: int
    leaving: int
    in_flight: int
    queued: int
    answering: bool


class ManagementNodes(Data, kw_only=True):
    """All nodes there ever were, those that left included. ``ring_version`` grows with each change."""

    items: list[ManagementNode]
    ring_version: int


class ListManagementNodes(ApiCall[ManagementNodes], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "management-node.list", "GET", "/management-nodes", "List the nodes of the cluster", admin=True
    )


class GetManagementNode(ApiCall[ManagementNode], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "management-node.get", "GET", "/management-nodes/{name}", "Show a node of the cluster", admin=True
    )

    name: NodeName


class DrainManagementNode(ApiCall[ManagementNode], frozen=True, kw_only=True):
    """Has the node hand its slots to the others and take no new ones. It goes on answering until it is stopped; a
    restart brings it back into the ring."""

    api: ClassVar[Api] = Api(
        "management-node.drain", "POST", "/management-nodes/{name}/actions/drain", "Drain a node", admin=True
    )

    name: NodeName


class EvictManagementNode(ApiCall[ManagementNode], frozen=True, kw_only=True):
    """Takes all work from the node at once, whether it lives or not. One that lives stops, with exit code 75."""

    api: ClassVar[Api] = Api(
        "management-node.evict", "POST", "/management-nodes/{name}/actions/evict", "Evict a node", admin=True
    )

    name: NodeName


NODE_NOT_THERE = ErrorCode(
    "management-node.not-found", Category.NOT_FOUND, "no node of that name is in the cluster"
)
NODE_LAST = ErrorCode(
    "management-node.last", Category.STATE, "it is the only node that is up, and nobody could take its work"
)
