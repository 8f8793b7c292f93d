from greeting import contract
from greeting.cascade import CASCADE
from greeting.config import WORD
from greeting.models import greeting
from greeting.service import GreetingService
from mgmtnode.service import ServiceManifest

manifest = ServiceManifest(
    id="greeting",
    summary="Greetings that hang in zones: the example of a service in a distribution of its own",
    service=GreetingService,
    contract=(contract,),
    requires=("zone",),
    tables=(greeting,),
    migrations="greeting.migrations",
    config=(WORD,),
    cascade=CASCADE,
    plugin=True,
)
