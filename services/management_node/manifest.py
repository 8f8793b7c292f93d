from mgmtnode.contracts import management_node as contract
from mgmtnode.service import ServiceManifest
from services.management_node.service import ManagementNodeService

manifest = ServiceManifest(
    id="management-node",
    summary="The nodes of the cluster: who is there, how they are, draining and evicting them",
    service=ManagementNodeService,
    contract=(contract,),
)
