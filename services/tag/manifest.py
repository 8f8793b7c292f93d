from mgmtnode.contracts import tag as contract
from mgmtnode.service import ServiceManifest
from services.tag.service import TagService

manifest = ServiceManifest(
    id="tag",
    summary="User tags and system tags on any resource",
    service=TagService,
    contract=(contract,),
)
