"""IP ranges: add, rename, remove."""

from __future__ import annotations

from mgmtnode.cascade.deletion import DeletionContext
from mgmtnode.contracts.ip_range import (
    IP_RANGE,
    RANGE_OVERLAP,
    SUBNET_MISMATCH,
    CreateIpRange,
    DeleteIpRange,
    IpRange,
    IpRangeChanged,
    IpRangeCreated,
    UpdateIpRange,
)
from mgmtnode.contracts.network import L3Network
from mgmtnode.db import resource
from mgmtnode.db.session import Tx
from mgmtnode.errors import DENIED
from mgmtnode.jobs.job import Caller, WorkToken
from mgmtnode.schema import changes
from mgmtnode.service import job, validate
from services.network.addresses import Span, Subnet, subnet_of, text_of
from services.network.flows import DELETE_IP_RANGE
from services.network.handlers.parts import Parts
from services.network.repository.ranges import Neighbour


class RangeHandlers(Parts):
    @validate
    def check_create_range(self, tx: Tx, msg: CreateIpRange, caller: Caller) -> None:
        if not caller.admin and resource.owner_of(tx, msg.l3_network_uuid) != caller.account_uuid:
            raise DENIED.error(
                "the network is shared with you, it is not yours to change", resource=msg.l3_network_uuid
            )
        self._check_free(tx, self.l3_networks.get(tx, msg.l3_network_uuid), subnet_of(msg))

    @job()
    def create_range(self, tx: Tx, msg: CreateIpRange) -> IpRange:
        network, subnet, uuid = (
            self.l3_networks.get(tx, msg.l3_network_uuid),
            subnet_of(msg),
            tx.job.resource_uuid,
        )
        if network.l2_network_uuid:
            self.l2_networks.lock(tx, network.l2_network_uuid)
        else:
            self.l3_networks.lock(tx, network.uuid)
        self._check_free(tx, network, subnet)
        name = msg.name or f"{text_of(subnet.span.first)}-{text_of(subnet.span.last)}"
        owner = resource.owner_of(tx, network.uuid)  # an operator may add addresses to a tenant's network
        self.ranges.insert(tx, uuid, name, msg.description, owner)
        made = self.ranges.add(tx, uuid, network.uuid, subnet)
        tx.record(IpRangeCreated(resource_uuid=uuid, ip_range=made))
        return made

    @job()
    def update_range(self, tx: Tx, msg: UpdateIpRange) -> IpRange:
        resource.change(tx, IP_RANGE, msg.uuid, **changes(msg, "uuid"))
        changed = self.ranges.get(tx, msg.uuid)
        tx.record(IpRangeChanged(resource_uuid=changed.uuid, ip_range=changed))
        return changed

    @validate
    def check_delete_range(self, tx: Tx, msg: DeleteIpRange, caller: Caller) -> None:
        if not msg.force:
            self.refuse_if_used(tx, msg.uuid)

    @job(DELETE_IP_RANGE)
    def delete_range(self, msg: DeleteIpRange, work: WorkToken) -> DeletionContext:
        return DeletionContext(uuid=msg.uuid, kind="ip_range", force=msg.force)

    def _check_free(self, tx: Tx, network: L3Network, subnet: Subnet) -> None:
        """Raises network.range-overlap and network.subnet-mismatch."""
        for other in self.ranges.around(tx, network):
            if met(subnet, other.subnet):
                raise RANGE_OVERLAP.error(
                    f"addresses of the range, or its gateway, are in the range {text(other.subnet.span)} already",
                    resource=other.uuid,
                    l3_network_uuid=other.l3_network_uuid,
                )
            if other.l3_network_uuid == network.uuid:
                _check_subnets(subnet, other)


def met(one: Subnet, other: Subnet) -> bool:
    """Whether an address would be handed out that the other one hands out, or has as its gateway."""
    return one.span.overlaps(other.span) or one.gateway in other.span or other.gateway in one.span


def text(span: Span) -> str:
    return f"{text_of(span.first)}-{text_of(span.last)}"


def _check_subnets(subnet: Subnet, other: Neighbour) -> None:
    if not subnet.network.overlaps(other.subnet.network):
        return
    if subnet.network != other.subnet.network or subnet.gateway != other.subnet.gateway:
        gateway = text_of(other.subnet.gateway) if other.subnet.gateway is not None else "none"
        raise SUBNET_MISMATCH.error(
            f"the network has a range of {other.subnet.network} with gateway {gateway} already",
            resource=other.uuid,
        )
