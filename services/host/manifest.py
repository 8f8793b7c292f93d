from mgmtnode.cluster.listeners import ManagementNodeChangeListener
from mgmtnode.contracts import host as contract
from mgmtnode.contracts import hypervisor
from mgmtnode.extension.point import Extension
from mgmtnode.service import ServiceManifest
from services.host.cascade import CASCADE
from services.host.config import CONFIG
from services.host.extensions import SlotsMoved
from services.host.models import host
from services.host.service import HostService

manifest = ServiceManifest(
    id="host",
    summary="Machines that run VMs: added, watched, maintained, and the way of commands to them",
    service=HostService,
    contract=(contract, hypervisor),
    requires=("cluster",),
    tables=(host,),
    migrations="services.host.migrations",
    extensions=(Extension(ManagementNodeChangeListener, lambda service: SlotsMoved(service.watcher)),),
    config=CONFIG,
    cascade=CASCADE,
)
