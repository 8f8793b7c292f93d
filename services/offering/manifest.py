from mgmtnode.contracts import offering as contract
from mgmtnode.service import ServiceManifest
from services.offering.models import instance_offering
from services.offering.service import OfferingService

manifest = ServiceManifest(
    id="offering",
    summary="Instance offerings: the sizes that VMs are made in",
    service=OfferingService,
    contract=(contract,),
    tables=(instance_offering,),
    migrations="services.offering.migrations",
)
