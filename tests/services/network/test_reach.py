"""Where VMs can be placed because of their networks: the network service's filter of hosts."""

from __future__ import annotations

from mgmtnode.contracts.allocator import Candidate, HostFilter, ReserveHost
from tests.services.network.conftest import Json, Networks


class Placing:
    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.east: Json = networks.cloud.create("zones", name="east")
        self.clusters = [networks.cluster(), networks.cluster(), networks.cluster(self.east)]

    def left(self, *l3_networks: Json) -> list[int]:
        """The clusters, by index, whose hosts the filter keeps for a VM on these networks."""
        point = self.networks.cloud.turn().node.parts.context.extensions
        (reach,) = [each for each in point.all(HostFilter) if each.label == "networks"]
        zones = [self.networks.zone["uuid"]] * 2 + [self.east["uuid"]]
        hosts = [
            Candidate(
                host_uuid=self.networks.uuid(),
                cluster_uuid=cluster,
                zone_uuid=zone,
                cpu_free=1,
                memory_free=1,
                vms=0,
                hypervisor="none",
            )
            for cluster, zone in zip(self.clusters, zones, strict=True)
        ]
        request = ReserveHost(
            vm_uuid=self.networks.uuid(),
            cpu=1,
            memory=1,
            l3_network_uuids=[net["uuid"] for net in l3_networks],
        )
        kept = self.networks.write(lambda tx: reach.keep(tx, request, hosts))
        return [self.clusters.index(host.cluster_uuid) for host in kept]


def test_a_vm_without_networks_goes_anywhere(networks: Networks) -> None:
    assert Placing(networks).left() == [0, 1, 2]


def test_a_network_without_a_wire_is_in_its_whole_zone(networks: Networks) -> None:
    placing = Placing(networks)
    assert placing.left(networks.l3()) == [0, 1]
    assert placing.left(networks.l3(zone_uuid=placing.east["uuid"])) == [2]


def test_networks_of_two_zones_leave_no_host(networks: Networks) -> None:
    placing = Placing(networks)
    assert placing.left(networks.l3(), networks.l3(zone_uuid=placing.east["uuid"])) == []


def test_a_wire_is_in_all_clusters_until_it_is_attached_to_some(networks: Networks) -> None:
    placing, wire = Placing(networks), networks.l2()
    net = networks.l3(l2_network_uuid=wire["uuid"])
    assert placing.left(net) == [0, 1]
    networks.cloud.act("l2-networks", wire["uuid"], "attach-cluster", cluster_uuid=placing.clusters[1])
    assert placing.left(net) == placing.left(net, networks.l3()) == [1]
    networks.cloud.act("l2-networks", wire["uuid"], "detach-cluster", cluster_uuid=placing.clusters[1])
    assert placing.left(net) == []


def test_hosts_must_have_all_networks_of_the_vm(networks: Networks) -> None:
    placing, wires = Placing(networks), [networks.l2(), networks.l2()]
    for wire, cluster in zip(wires, placing.clusters, strict=False):
        networks.cloud.act("l2-networks", wire["uuid"], "attach-cluster", cluster_uuid=cluster)
    nets = [networks.l3(l2_network_uuid=wire["uuid"]) for wire in wires]
    assert [placing.left(nets[0]), placing.left(nets[1]), placing.left(*nets)] == [[0], [1], []]


def test_a_network_that_is_gone_leaves_no_host(networks: Networks) -> None:
    placing, net = Placing(networks), networks.l3()
    networks.cloud.delete("l3-networks", net["uuid"])
    assert placing.left(net) == []
