from mgmtnode.contracts import allocator as contract
from mgmtnode.service import ServiceManifest
from services.allocator.config import CONFIG
from services.allocator.extensions import EXTENSIONS
from services.allocator.models import host_capacity
from services.allocator.service import AllocatorService

manifest = ServiceManifest(
    id="allocator",
    summary="Which host a VM goes to, and what hosts have left",
    service=AllocatorService,
    contract=(contract,),
    requires=("zone", "cluster"),
    tables=(host_capacity,),
    migrations="services.allocator.migrations",
    extensions=EXTENSIONS,
    config=CONFIG,
)
