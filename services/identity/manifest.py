from mgmtnode.contracts import identity, ownership, quota, session
from mgmtnode.service import ServiceManifest
from services.identity.config import CONFIG
from services.identity.extensions import EXTENSIONS
from services.identity.models import TABLES
from services.identity.properties import PROPERTIES
from services.identity.service import IdentityService

manifest = ServiceManifest(
    id="identity",
    summary="Accounts, users and policies; sessions and API keys; quotas; whose a resource is",
    service=IdentityService,
    contract=(identity, session, quota, ownership),
    tables=TABLES,
    migrations="services.identity.migrations",
    extensions=EXTENSIONS,
    config=CONFIG,
    properties=PROPERTIES,
)
