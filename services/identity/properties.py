"""The global properties of the identity service."""

from mgmtnode.config.properties import GlobalProperty

ADMIN_PASSWORD = GlobalProperty(
    "identity.admin_password",
    "",
    "Password of the account admin, used when the first node starts; without it admin has API keys only",
    secret=True,
)

PROPERTIES = (ADMIN_PASSWORD,)
