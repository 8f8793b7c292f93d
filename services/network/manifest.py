from mgmtnode.contracts import ip_range, l2_network, network, nic
from mgmtnode.service import ServiceManifest
from services.network.cascade import CASCADE
from services.network.config import CONFIG
from services.network.extensions import EXTENSIONS
from services.network.models import TABLES
from services.network.service import NetworkService

manifest = ServiceManifest(
    id="network",
    summary="L2 and L3 networks, their ranges of addresses, and the NICs of VMs",
    service=NetworkService,
    contract=(network, l2_network, ip_range, nic),
    requires=("identity", "zone"),
    tables=TABLES,
    migrations="services.network.migrations",
    extensions=EXTENSIONS,
    config=CONFIG,
    cascade=CASCADE,
)
