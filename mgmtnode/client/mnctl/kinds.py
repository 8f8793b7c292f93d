"""The nouns of the command line: for each kind of resource its fields, its actions and what a table shows.

Commands are built from this table. A field that is not here can still be sent with ``--set field=value``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a create or update body. A dot leads into a nested object; ``ref`` is the noun of what it
    names.

    ``type``: text, int, float, bytes, flag, json or secret. ``patch``: an update may change it.
    """

    name: str
    type: str = "text"
    help: str = ""
    ref: str = ""
    many: bool = False
    patch: bool = False

    @property
    def option(self) -> str:
        word = self.ref or self.name.rpartition(".")[2].replace("_", "-")
        return word.removesuffix("s") if word.endswith("-tags") else word


@dataclass(frozen=True, slots=True)
class Action:
    """``secrets`` among the fields are asked for when they are not given."""

    name: str
    help: str
    fields: tuple[Field, ...] = ()
    confirm: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """A further GET on one resource: ``GET /{plural}/{uuid}/{path}``. ``items`` names the list in the answer that is
    shown as a table with ``columns``."""

    name: str
    path: str
    help: str
    items: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """One noun. ``columns`` and ``wide`` are paths into the inventory; a path through a list joins its items.

    ``named``: the first argument of ``create`` is the name. ``patches``: fields that only an update takes.
    ``shareable``: accounts may see it that do not own it; ``movable``: it may change its owner. ``within``: names
    are unique only inside one account, and ``ACCOUNT/NAME`` says which. ``sort``: the order of lists, if not said.
    """

    noun: str
    plural: str
    help: str
    fields: tuple[Field, ...] = ()
    actions: tuple[Action, ...] = ()
    columns: tuple[str, ...] = ("name", "uuid")
    wide: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ("create", "list", "show", "update", "delete")
    named: bool = True
    patches: tuple[Field, ...] = ()
    readings: tuple[Reading, ...] = ()
    shareable: bool = False
    movable: bool = False
    within: bool = False
    sort: str = ""


DESCRIPTION = Field("description", help="Free text.", patch=True)
TAGS = (
    Field("system_tags", help="System tag; repeatable.", many=True),
    Field("user_tags", help="User tag; repeatable.", many=True),
)
ENABLE = (Action("enable", "Let it take new work."), Action("disable", "Keep new work away from it."))
READ = ("list", "show")
UNCHANGED = ("create", "list", "show", "delete")
ZONE = Field("zone_uuid", help="Its zone.", ref="zone")
HYPERVISOR = Field("hypervisor", help="Driver: simulator, kvm …")
CPU = Field("cpu", "int", "Virtual CPUs.")
MEMORY = Field("memory", "bytes", "Bytes, or a size such as 2GiB.")
OFFERING = Field("instance_offering_uuid", help="Size, from `mnctl offering list`.", ref="offering")
L3_NETWORK = Field("l3_network_uuid", help="The network.", ref="l3-network")
ON_HOST = Field("host_uuid", help="This host; else the best one is chosen.", ref="host")
PASSWORD = Field("password", "secret", "Password; - reads it from stdin.")
POLICY = (Field("policy_uuid", help="The policy.", ref="policy"),)
CHANGE_PASSWORD = Action(
    "change-password", "Change its password and end its sessions.",
    (PASSWORD, Field("current", "secret", "The password so far, asked of the owner itself; - reads stdin.")),
)  # fmt: skip

VM = Kind(
    "vm", "vms", "Virtual machines",
    fields=(
        DESCRIPTION, OFFERING,
        Field("cpu", "int", "Virtual CPUs, instead of an offering."),
        Field("memory", "bytes", "Memory such as 2GiB, instead of an offering."),
        Field("l3_network_uuids", help="Network of a NIC; repeatable.", ref="l3-network", many=True),
        Field("zone_uuid", help="Place it in this zone.", ref="zone"),
        Field("cluster_uuid", help="Place it in this cluster.", ref="cluster"),
        Field("host_uuid", help="Place it on this host.", ref="host"),
        *TAGS,
        Field("start", "flag", "Start it once it is made (default)."),
    ),
    actions=(
        Action("start", "Power on.", (ON_HOST,)),
        Action("stop", "Shut down.", (
            Field("force", "flag", "Pull the plug: do not wait for the guest."),
            Field("settle", "flag", "Count it as stopped even if its host is gone for good and does not answer."),
        )),
        Action("reboot", "Restart the guest."),
        Action("pause", "Freeze its CPUs."),
        Action("resume", "Let a paused one go on."),
        Action("migrate", "Move it to another host while it runs.", (ON_HOST,)),
        Action("change-offering", "Give it another size.", (OFFERING, CPU, MEMORY)),
        Action("attach-nic", "Give it another network interface.", (
            L3_NETWORK, Field("ip", help="This address of the network."), Field("mac", help="This MAC address."),
        )),
        Action("detach-nic", "Take a network interface away.", (
            Field("nic_uuid", help="Its uuid, from `mnctl vm show`.", ref="nic"),
        )),
        Action("recover", "Bring back a deleted one that is not expunged yet."),
        Action("expunge", "Remove a deleted one for good.", confirm=True),
    ),
    readings=(
        Reading("migration-candidates", "migration-candidates", "The hosts it could move to now.", "items",
                ("name", "uuid")),
    ),
    columns=("name", "state", "nics.ip", "cpu", "memory", "host_uuid", "uuid"),
    wide=("instance_offering_uuid", "cluster_uuid", "zone_uuid", "created_at"),
    shareable=True, movable=True,
)  # fmt: skip

PLACES: tuple[Kind, ...] = (
    Kind("zone", "zones", "Zones: the outermost places", (DESCRIPTION, *TAGS), ENABLE,
         ("name", "state", "uuid"), ("description", "created_at"), shareable=True),
    Kind("cluster", "clusters", "Clusters of alike hosts", (DESCRIPTION, ZONE, HYPERVISOR, *TAGS), ENABLE,
         ("name", "state", "hypervisor", "zone_uuid", "uuid"), ("created_at",), shareable=True),
    Kind("host", "hosts", "Hosts that run virtual machines",
         (DESCRIPTION, Field("cluster_uuid", help="Its cluster.", ref="cluster"),
          Field("management_ip", help="Address of its agent.", patch=True), HYPERVISOR,
          Field("parameters.cpu", "int", "CPUs, for drivers that do not ask the host."),
          Field("parameters.memory", "bytes", "Memory, for drivers that do not ask the host."), *TAGS),
         (*ENABLE, Action("maintain", "Move its virtual machines away and keep it empty."),
          Action("reconnect", "Connect to its agent again."),
          Action("simulate-fault", "Give a simulated host a fault.", (
              Field("fault.kind", help="fail, hang, slow, lose-reply, disconnect, crash-vm or replace-disk."),
              Field("fault.action", help="What it strikes: start, stop, connect, report … (default: any)."),
              Field("fault.times", "int", "How often it strikes; until cleared, if not given."),
              Field("fault.probability", "float", "Of striking, each time; more than 0, up to 1."),
              Field("fault.delay_ms", "int", "How long a slow command takes."),
              Field("fault.vm_uuid", help="The virtual machine that crashes.", ref="vm"),
          )),
          Action("clear-faults", "Take all faults from a simulated host.")),
         ("name", "state", "status", "management_ip", "cluster_uuid", "uuid"),
         ("cpu", "memory", "hypervisor", "zone_uuid", "version", "last_seen_at"), shareable=True,
         readings=(Reading("simulated-faults", "simulated-faults", "The faults of a simulated host.", "faults",
                           ("kind", "action", "times", "probability", "delay_ms", "vm_uuid")),)),
    Kind("offering", "instance-offerings", "Instance offerings: sizes of virtual machines",
         (DESCRIPTION, CPU, MEMORY, Field("allocator_strategy", help="Places the machines of this size."), *TAGS),
         ENABLE, ("name", "cpu", "memory", "state", "uuid"), ("allocator_strategy", "created_at"),
         shareable=True),
)  # fmt: skip

NETWORKS: tuple[Kind, ...] = (
    Kind("l2-network", "l2-networks", "Layer 2 networks: wires between hosts",
         (DESCRIPTION, ZONE, Field("type", help="NoVlan (default) or Vlan."),
          Field("vlan", "int", "VLAN id, for type Vlan."),
          Field("physical_interface", help="Interface of the hosts, such as eth0."), *TAGS),
         (Action("attach-cluster", "Say that a cluster has it; from then on only attached clusters do.",
                 (Field("cluster_uuid", help="The cluster.", ref="cluster"),)),
          Action("detach-cluster", "Say that a cluster has it no more.",
                 (Field("cluster_uuid", help="The cluster.", ref="cluster"),))),
         ("name", "type", "vlan", "physical_interface", "zone_uuid", "uuid"),
         ("all_clusters", "cluster_uuids", "created_at"),
         patches=(Field("all_clusters", "flag", "Every cluster of the zone has it."),), shareable=True),
    Kind("l3-network", "l3-networks", "Layer 3 networks, which NICs join",
         (DESCRIPTION, ZONE, Field("l2_network_uuid", help="The wire it is on.", ref="l2-network"),
          Field("allocator_strategy", help="RandomIp, FirstAvailable or AscDelayRecycle.", patch=True),
          Field("dns", help="Name server; repeatable.", many=True, patch=True),
          Field("domain", help="DNS domain.", patch=True), *TAGS), ENABLE,
         ("name", "state", "ip_ranges.cidr", "zone_uuid", "uuid"),
         ("l2_network_uuid", "allocator_strategy", "dns", "domain", "created_at"),
         readings=(Reading("ip-usage", "ip-usage", "Addresses used and free."),),
         shareable=True, movable=True),
    Kind("ip-range", "ip-ranges", "Address ranges of layer 3 networks",
         (Field("name", help="Its name.", patch=True), DESCRIPTION, L3_NETWORK,
          Field("cidr", help="10.0.0.0/24; or start, end and netmask."),
          Field("start_ip", help="First address."), Field("end_ip", help="Last address."),
          Field("gateway", help="Default route."), Field("netmask", help="Such as 255.255.255.0."), *TAGS),
         columns=("name", "start_ip", "end_ip", "gateway", "l3_network_uuid", "uuid"),
         wide=("cidr", "netmask", "size", "created_at"), named=False),
    Kind("nic", "nics", "Network interfaces of virtual machines", verbs=READ,
         columns=("mac", "ip", "vm_uuid", "l3_network_uuid", "uuid"), wide=("device_index", "created_at")),
)  # fmt: skip

PEOPLE: tuple[Kind, ...] = (
    Kind("account", "accounts", "Accounts: owners of resources",
         (DESCRIPTION, PASSWORD, Field("type", help="Normal (default) or SystemAdmin.")),
         (*ENABLE, CHANGE_PASSWORD), ("name", "type", "state", "uuid"), ("created_at",),
         readings=(Reading("quota-usage", "quota-usage", "What it holds, against its quotas.", "items",
                           ("name", "used", "value", "unit")),)),
    Kind("user", "users", "Users of an account", (DESCRIPTION, PASSWORD),
         (Action("attach-policy", "Give it a policy.", POLICY),
          Action("detach-policy", "Take a policy from it.", POLICY), CHANGE_PASSWORD),
         ("name", "policy_uuids", "account_uuid", "uuid"), ("created_at",), within=True),
    Kind("policy", "policies", "Policies: what users may do",
         (DESCRIPTION, Field("statements", "json", "A JSON list of statements.", patch=True), *TAGS),
         columns=("name", "account_uuid", "uuid"), wide=("created_at",), within=True),
    Kind("api-key", "api-keys", "API keys for programs; the secret is shown once",
         (DESCRIPTION, Field("user_uuid", help="Whose key.", ref="user"),
          Field("expires_at", help="RFC 3339 time.")), verbs=UNCHANGED,
         columns=("name", "user_uuid", "expires_at", "account_uuid", "uuid"), wide=("created_at",), within=True),
    Kind("quota", "quotas", "Quotas: how much an account may have",
         (Field("value", "int", "The limit; -1 is none, `--set value=null` the default.", patch=True),),
         columns=("name", "value", "unit", "overridden", "account_uuid", "uuid"),
         verbs=("list", "show", "update"), within=True, sort="name"),
)  # fmt: skip

KINDS: tuple[Kind, ...] = (VM, *PLACES, *NETWORKS, *PEOPLE)
BY_NOUN = {kind.noun: kind for kind in KINDS}


def kind_of(word: str) -> Kind:
    """The kind of a noun, a plural or a type; for the words of plug-in services, one about which nothing is known."""
    for kind in KINDS:
        if word in (kind.noun, kind.plural, kind.plural.replace("-", "_")):
            return kind
    return TYPES.get(word) or Kind(word, word, "", columns=(), verbs=READ)


# Words for resources in fields and in jobs that are not nouns here.
TYPES = {
    **{kind.noun.replace("-", "_"): kind for kind in KINDS},
    "instance_offering": BY_NOUN["offering"], "last_host": BY_NOUN["host"], "peer": BY_NOUN["host"],
}  # fmt: skip


def named_by(column: str) -> Kind | None:
    """The kind whose uuids are in ``column`` (``host_uuid``, ``policy_uuids``)."""
    return TYPES.get(column.rpartition(".")[2].removesuffix("s").removesuffix("_uuid"))
