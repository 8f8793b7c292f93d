"""Who may call the API: sessions, opened with a password, and API keys, for programs. Both have tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from msgspec import Meta

from mgmtnode.bus.message import Api, ApiCall, DeleteJob, Event, InTx, Nothing
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import Data, Description, Inventory, Name, Ref, Resource, Uuid

Secret = Annotated[
    str, Meta(min_length=1, max_length=256, extra_json_schema={"format": "password", "writeOnly": True})
]


class Session(Data, kw_only=True):
    """``expires_at`` moves on while the session is used."""

    uuid: Uuid
    account_uuid: Annotated[Uuid, Ref("account")]
    user_uuid: Annotated[Uuid, Ref("user")] | None = None
    created_at: datetime
    expires_at: datetime


class ApiKey(Inventory, kw_only=True):
    account_uuid: Annotated[Uuid, Ref("account")]
    user_uuid: Annotated[Uuid, Ref("user")] | None = None
    expires_at: datetime | None = None


SESSION = Resource("session", "sessions", Session, owned=True, backed=False)
API_KEY = Resource("api_key", "api-keys", ApiKey, owned=True)


class OpenedSession(Data, kw_only=True):
    """The answer to a login, the only place where the token is shown."""

    token: str
    uuid: Uuid
    account_uuid: Uuid
    account_name: str
    user_uuid: Uuid | None = None
    admin: bool = False
    created_at: datetime
    expires_at: datetime


class OpenSession(ApiCall[OpenedSession], frozen=True, kw_only=True):
    """Logs in an account, or a user of it. The answer to a wrong name and to a wrong password is the same."""

    api: ClassVar[Api] = Api("session.create", "POST", "/sessions", "Log in", public=True, status=201)
    once: ClassVar[bool] = True

    account: Name
    password: Secret
    user: Name | None = None


class DeleteSession(ApiCall[Nothing], frozen=True, kw_only=True):
    """Ends a session: logs out. A user may end its own, an account those of all its users."""

    api: ClassVar[Api] = Api("session.delete", "DELETE", "/sessions/{uuid}", "Log out")
    once: ClassVar[bool] = True

    uuid: Uuid


class Identity(Data, kw_only=True):
    """Whom a token stands for. ``session_uuid`` or ``api_key_uuid`` is the token's."""

    account_uuid: Uuid
    account_name: str
    user_uuid: Uuid | None = None
    admin: bool = False
    session_uuid: Uuid | None = None
    api_key_uuid: Uuid | None = None


class GetIdentity(ApiCall[Identity], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("session.whoami", "GET", "/whoami", "Whom the token stands for")


class CreatedApiKey(Data, kw_only=True):
    """The only place where the token is shown."""

    api_key: ApiKey
    token: str


class CreateApiKey(ApiCall[CreatedApiKey], frozen=True, kw_only=True):
    """Makes a key for the account, or for one of its users; a user makes keys for itself only."""

    api: ClassVar[Api] = Api("api_key.create", "POST", "/api-keys", "Create an API key", status=201)
    once: ClassVar[bool] = True

    name: Name
    description: Description = ""
    user_uuid: Annotated[Uuid, Ref("user")] | None = None
    expires_at: datetime | None = None


class DeleteApiKey(DeleteJob, frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("api_key.delete", "DELETE", "/api-keys/{uuid}", "Delete an API key")
    resource_type: ClassVar[str] = "api_key"


class EnsureApiKey(InTx[CreatedApiKey], frozen=True, kw_only=True):
    """The operator's key ``key_name``, made if it is not there. ``token`` is what the caller kept of it; if
    that is not the key's, the key is replaced by a new one."""

    key_name: Name
    token: str = ""


class SessionEnded(Event, frozen=True, kw_only=True):
    """``resource_uuid`` is the account's. Without ``session_uuid``, all of the account or the user ended."""

    name: ClassVar[str] = "session.ended"
    session_uuid: Uuid | None = None
    user_uuid: Uuid | None = None


class ApiKeyCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "api_key.created"
    api_key: ApiKey


class ApiKeyDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "api_key.deleted"
    account_uuid: Uuid


LOGIN_FAILED = ErrorCode(
    "session.login-failed", Category.DENIED, "no such account or user, or not its password"
)
LOGIN_LOCKED = ErrorCode("session.login-locked", Category.DENIED, "too many failed logins; try again later")
ACCOUNT_DISABLED = ErrorCode("session.account-disabled", Category.DENIED, "the account is disabled")
API_KEY_EXPIRY = ErrorCode("api_key.expiry-past", Category.INVALID, "the key would be expired from the start")
