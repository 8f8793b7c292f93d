from mgmtnode.contracts import config as contract
from mgmtnode.service import ServiceManifest
from services.config.config import REFRESH_INTERVAL
from services.config.service import ConfigService

manifest = ServiceManifest(
    id="config",
    summary="Settings of the whole cloud, changed while it runs, and their overrides on single resources",
    service=ConfigService,
    contract=(contract,),
    config=(REFRESH_INTERVAL,),
)
