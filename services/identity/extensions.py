"""What the identity service does for others: it reads tokens for the gateway."""

from mgmtnode.api.auth import Authenticator
from mgmtnode.extension.point import Extension
from services.identity.service import IdentityService
from services.identity.tokens import TokenAuthenticator


def authenticator(service: IdentityService) -> TokenAuthenticator:
    return service.authenticator


EXTENSIONS = (Extension(point=Authenticator, make=authenticator, key="token"),)
