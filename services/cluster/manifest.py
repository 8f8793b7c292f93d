from mgmtnode.contracts import cluster as contract
from mgmtnode.service import ServiceManifest
from services.cluster.cascade import CASCADE
from services.cluster.models import cluster
from services.cluster.service import ClusterService

manifest = ServiceManifest(
    id="cluster",
    summary="Hosts of one hypervisor that share networks, inside a zone",
    service=ClusterService,
    contract=(contract,),
    requires=("zone",),
    tables=(cluster,),
    migrations="services.cluster.migrations",
    cascade=CASCADE,
)
