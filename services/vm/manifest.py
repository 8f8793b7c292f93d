from mgmtnode.contracts import vm as contract
from mgmtnode.contracts import vm_events, vm_sync
from mgmtnode.service import ServiceManifest
from services.vm.cascade import CASCADE
from services.vm.config import CONFIG
from services.vm.extensions import EXTENSIONS
from services.vm.models import vm
from services.vm.service import VmService
from services.vm.tags import TAGS

manifest = ServiceManifest(
    id="vm",
    summary="Virtual machines: their life, their state, and what hosts say of them",
    service=VmService,
    contract=(contract, vm_events, vm_sync),
    requires=("allocator", "host", "identity", "network", "offering"),
    tables=(vm,),
    migrations="services.vm.migrations",
    extensions=EXTENSIONS,
    config=CONFIG,
    tags=TAGS,
    cascade=CASCADE,
)
