from mgmtnode.service import ServiceManifest

from . import contract
from .models import sheet
from .service import PressService

manifest = ServiceManifest(
    id="press",
    summary="Presses sheets, in two releases",
    service=PressService,
    contract=(contract,),
    tables=(sheet,),
    migrations=f"{__package__}.migrations",
    plugin=True,
)
