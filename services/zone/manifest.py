from mgmtnode.contracts import zone as contract
from mgmtnode.service import ServiceManifest
from services.zone.models import zone
from services.zone.service import ZoneService

manifest = ServiceManifest(
    id="zone",
    summary="The largest unit of an installation; clusters, networks and hosts live in zones",
    service=ZoneService,
    contract=(contract,),
    tables=(zone,),
    migrations="services.zone.migrations",
)
