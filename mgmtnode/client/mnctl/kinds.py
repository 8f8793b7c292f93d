"""The nouns of the command line: for each kind of resource its fields, its actions and what a table shows.

Commands are built from this table. A field that is not here can still be sent with ``--set field=value``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a create or update body. A dot leads into a nested object; ``ref`` is the noun of what it
    names.

    ``type``: text, int, bytes, flag, json or secret. ``patch``: an update may change it.
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
        return word.removesuffix("s") if self.many else word


@dataclass(frozen=True, slots=True)
class Action:
    name: str
    help: str
    fields: tuple[Field, ...] = ()
    confirm: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One noun. ``columns`` and ``wide`` are paths into the inventory; a path through a list joins its items.

    ``named``: the first argument of ``create`` is the name.
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


DESCRIPTION = Field("description", help="Free text.", patch=True)
ENABLE = (Action("enable", "Let it take new work."), Action("disable", "Keep new work away from it."))
READ = ("list", "show")
HYPERVISOR = Field("hypervisor", help="Driver: simulator, kvm …")
CPU = Field("cpu", "int", "Virtual CPUs.")
MEMORY = Field("memory", "bytes", "Bytes, or a size such as 2GiB.")
FORCE = Field("force", "flag", "Do not wait for the guest.")

VM = Kind(
    "vm", "vms", "Virtual machines",
    fields=(
        DESCRIPTION,
        Field("instance_offering_uuid", help="Size, from `mnctl offering list`.", ref="offering"),
        Field("cpu", "int", "Virtual CPUs, instead of an offering.", patch=True),
        Field("memory", "bytes", "Memory such as 2GiB, instead of an offering.", patch=True),
        Field("l3_network_uuids", help="Network of a NIC; repeatable.", ref="l3-network", many=True),
        Field("zone_uuid", help="Place it in this zone.", ref="zone"),
        Field("cluster_uuid", help="Place it in this cluster.", ref="cluster"),
        Field("host_uuid", help="Place it on this host.", ref="host"),
        Field("system_tags", help="System tag; repeatable.", many=True),
        Field("user_tags", help="User tag; repeatable.", many=True),
        Field("start", "flag", "Start it once it is made (default)."),
    ),
    actions=(
        Action("start", "Power on."),
        Action("stop", "Shut down.", (FORCE,)),
        Action("reboot", "Restart the guest.", (FORCE,)),
        Action("pause", "Freeze its CPUs."),
        Action("resume", "Let a paused one go on."),
        Action("migrate", "Move it to another host while it runs.", (
            Field("host_uuid", help="Target; else the best host is chosen.", ref="host"),
        )),
        Action("recover", "Bring back a deleted one that is not expunged yet."),
        Action("expunge", "Remove a deleted one for good.", confirm=True),
    ),
    columns=("name", "state", "nics.ip", "cpu", "memory", "uuid"),
    wide=("host_uuid", "cluster_uuid", "zone_uuid", "created_at"),
)  # fmt: skip

KINDS: tuple[Kind, ...] = (
    VM,
    Kind("zone", "zones", "Zones: the outermost places", (DESCRIPTION,), ENABLE,
         ("name", "state", "uuid"), ("description", "created_at")),
    Kind("cluster", "clusters", "Clusters of alike hosts",
         (DESCRIPTION, Field("zone_uuid", help="Its zone.", ref="zone"), HYPERVISOR), ENABLE,
         ("name", "state", "hypervisor", "uuid"), ("zone_uuid", "created_at")),
    Kind("host", "hosts", "Hosts that run virtual machines",
         (DESCRIPTION, Field("cluster_uuid", help="Its cluster.", ref="cluster"),
          Field("management_ip", help="Address of its agent.", patch=True), HYPERVISOR,
          Field("parameters.cpu", "int", "CPUs, for drivers that do not ask the host."),
          Field("parameters.memory", "bytes", "Memory, for drivers that do not ask the host.")),
         (*ENABLE, Action("maintain", "Move its virtual machines away and keep it empty."),
          Action("reconnect", "Connect to its agent again.")),
         ("name", "state", "status", "management_ip", "uuid"),
         ("cpu", "memory", "hypervisor", "cluster_uuid", "zone_uuid", "last_seen_at")),
    Kind("offering", "instance-offerings", "Instance offerings: sizes of virtual machines",
         (DESCRIPTION, CPU, MEMORY), columns=("name", "cpu", "memory", "uuid"), wide=("created_at",)),
    Kind("l2-network", "l2-networks", "Layer 2 networks",
         (DESCRIPTION, Field("zone_uuid", help="Its zone.", ref="zone")), wide=("zone_uuid", "created_at")),
    Kind("l3-network", "l3-networks", "Layer 3 networks, which NICs join",
         (DESCRIPTION, Field("zone_uuid", help="Its zone.", ref="zone")), wide=("zone_uuid", "created_at")),
    Kind("ip-range", "ip-ranges", "Address ranges of layer 3 networks",
         (Field("name", help="Its name."), DESCRIPTION,
          Field("l3_network_uuid", help="The network it serves.", ref="l3-network"),
          Field("cidr", help="10.0.0.0/24; or the four below."), Field("start_ip", help="First address."),
          Field("end_ip", help="Last address."), Field("gateway", help="Default route."),
          Field("netmask", help="Such as 255.255.255.0.")),
         columns=("name", "start_ip", "end_ip", "gateway", "uuid"),
         wide=("l3_network_uuid", "netmask", "created_at"),
         named=False),
    Kind("nic", "nics", "Network interfaces of virtual machines", verbs=READ,
         columns=("mac", "ip", "vm_uuid", "uuid"), wide=("l3_network_uuid", "device_index", "created_at")),
    Kind("account", "accounts", "Accounts: owners of resources",
         (DESCRIPTION, Field("password", "secret", "Of its first login; - reads it from stdin.", patch=True),
          Field("type", help="Kind of account.")),
         columns=("name", "type", "state", "uuid"), wide=("created_at",)),
    Kind("user", "users", "Users of an account",
         (DESCRIPTION, Field("account_uuid", help="Its account.", ref="account"),
          Field("password", "secret", "Password; - reads it from stdin.", patch=True)),
         wide=("account_uuid", "created_at")),
    Kind("policy", "policies", "Policies: what users may do",
         (DESCRIPTION, Field("account_uuid", help="Its account.", ref="account"),
          Field("statements", "json", "A JSON list of statements.", patch=True)),
         wide=("account_uuid", "created_at")),
    Kind("api-key", "api-keys", "API keys for programs; the secret is shown once",
         (DESCRIPTION, Field("user_uuid", help="Whose key.", ref="user"),
          Field("expires_at", help="RFC 3339 time.")),
         wide=("user_uuid", "expires_at", "created_at")),
    Kind("quota", "quotas", "Quotas: how much an account may have",
         (Field("account_uuid", help="Whose.", ref="account"),
          Field("value", "int", "The limit.", patch=True)),
         columns=("name", "value", "used", "account_uuid", "uuid")),
    Kind("node", "nodes", "Management nodes", verbs=READ,
         columns=("name", "state", "version", "address", "uuid"), wide=("incarnation", "created_at")),
)  # fmt: skip

BY_NOUN = {kind.noun: kind for kind in KINDS}


def kind_of(word: str) -> Kind:
    """The kind of a noun or a plural; for the words of plug-in services, one about which nothing is known."""
    for kind in KINDS:
        if word in (kind.noun, kind.plural):
            return kind
    return Kind(word, word, "", columns=(), verbs=READ)
