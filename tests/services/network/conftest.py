"""Builders for tests of networks: what a network, a range, a NIC needs around it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from mgmtnode.contracts.cluster import CLUSTER
from mgmtnode.contracts.nic import CreateNic, ListNics, Nic, RemoveNic
from mgmtnode.contracts.vm import VM
from mgmtnode.db import resource
from mgmtnode.db.base import metadata
from mgmtnode.db.session import Tx
from mgmtnode.errors import ErrorCode
from mgmtnode.jobs.job import SYSTEM_ACCOUNT
from mgmtnode.testing.cloud import Cloud, Refused

Json = dict[str, Any]


class Networks:
    """A cloud with one zone. VMs and clusters are bare rows: their services are not under test."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.zone: Json = cloud.create("zones", name="west")

    def l2(self, **fields: Any) -> Json:
        wire = {"name": "wire", "zone_uuid": self.zone["uuid"], "physical_interface": "eth0"}
        return self.cloud.create("l2-networks", **(wire | fields))

    def l3(self, cidr: str | None = None, **fields: Any) -> Json:
        network = self.cloud.create(
            "l3-networks", **({"name": "net", "zone_uuid": self.zone["uuid"]} | fields)
        )
        if cidr:
            self.range(network, cidr=cidr)
        return network

    def range(self, network: Json, **fields: Any) -> Json:
        return self.cloud.create("ip-ranges", l3_network_uuid=network["uuid"], **fields)

    def usage(self, network: Json) -> Json:
        return dict(self.cloud.call("GET", f"/l3-networks/{network['uuid']}/ip-usage"))

    def status(self, network: Json, ip: str) -> str:
        return str(self.cloud.call("GET", f"/l3-networks/{network['uuid']}/ip-availability", ip=ip)["status"])

    def write(self, work: Any) -> Any:
        return self.cloud.write(work)

    def uuid(self) -> str:
        return self.cloud.turn().node.parts.context.uuids.draw()

    def vm(self, account: str = SYSTEM_ACCOUNT) -> str:
        uuid = self.uuid()
        self.write(lambda tx: resource.create(tx, VM, uuid, "vm", account=account))
        return uuid

    def cluster(self, zone: Json | None = None) -> str:
        uuid, zone_uuid = self.uuid(), (zone or self.zone)["uuid"]

        def make(tx: Tx) -> None:
            resource.create(tx, CLUSTER, uuid, "cluster", account=SYSTEM_ACCOUNT)
            row = {"uuid": uuid, "zone_uuid": zone_uuid, "hypervisor": "none", "state": "Enabled"}
            tx.execute(insert(metadata.tables["cluster"]).values(row))

        self.write(make)
        return uuid

    def create_nic(self, network: Json, vm: str, **fields: Any) -> CreateNic:
        return CreateNic(
            **(
                {
                    "nic_uuid": self.uuid(),
                    "vm_uuid": vm,
                    "account_uuid": SYSTEM_ACCOUNT,
                    "l3_network_uuid": network["uuid"],
                    "device_index": 0,
                }
                | fields
            )
        )

    def nic(self, network: Json, vm: str, **fields: Any) -> Nic:
        msg = self.create_nic(network, vm, **fields)
        return self.write(lambda tx: tx.call(msg))

    def remove(self, vm: str, nic: Nic | None = None) -> None:
        self.write(lambda tx: tx.call(RemoveNic(vm_uuid=vm, nic_uuid=nic.uuid if nic else None)))

    def nics(self, vm: str) -> list[Nic]:
        return list(self.write(lambda tx: tx.call(ListNics(vm_uuid=vm))).nics)


@pytest.fixture
def networks(cloud: Cloud) -> Networks:
    return Networks(cloud)


def refused_with(code: ErrorCode | str, act: Any) -> Refused:
    """``act()`` is refused by the API with this code."""
    with pytest.raises(Refused) as refused:
        act()
    assert refused.value.code == (code if isinstance(code, str) else code.id)
    return refused.value
