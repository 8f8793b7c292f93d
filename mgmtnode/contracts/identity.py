"""Accounts, which own resources; their users, and the policies that say what a user may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from mgmtnode.bus.message import ActionJob, Api, ApiCall, CreateJob, DeleteJob, Event, Nothing, UpdateJob
from mgmtnode.errors import Category, ErrorCode
from mgmtnode.schema import UNSET, Data, Description, Embed, Inventory, Name, Ref, Resource, UnsetType, Uuid


class AccountType(StrEnum):
    SYSTEM_ADMIN = "SystemAdmin"
    NORMAL = "Normal"


class AccountState(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"
    DELETING = "Deleting"


class Effect(StrEnum):
    ALLOW = "Allow"
    DENY = "Deny"


Password = Annotated[
    str, Meta(min_length=1, max_length=256, extra_json_schema={"format": "password", "writeOnly": True})
]
ActionGlob = Annotated[
    str, Meta(pattern="^[a-z0-9_*?.-]{1,128}$", description="A glob over API names: vm.*, vm.read")
]
ResourceGlob = Annotated[str, Meta(pattern="^[0-9a-f*?-]{1,36}$", description="A resource's uuid, or *")]


class PolicyStatement(Data, kw_only=True):
    """Allows or denies actions on resources. Any matching Deny wins; what nothing allows is denied."""

    effect: Effect
    actions: Annotated[list[ActionGlob], Meta(min_length=1, max_length=128)]
    resources: Annotated[list[ResourceGlob], Meta(min_length=1, max_length=128)] = msgspec.field(
        default_factory=lambda: ["*"]
    )


Statements = Annotated[list[PolicyStatement], Meta(min_length=1, max_length=64)]


class Account(Inventory):
    type: AccountType
    state: AccountState


class User(Inventory):
    account_uuid: Annotated[Uuid, Ref("account")]
    policy_uuids: Annotated[list[Uuid], Embed("policies")]


class Policy(Inventory):
    account_uuid: Annotated[Uuid, Ref("account")]
    statements: list[PolicyStatement]


ACCOUNT = Resource("account", "accounts", Account, owned=True, unique_name=True)
USER = Resource("user", "users", User, owned=True)
POLICY = Resource("policy", "policies", Policy, owned=True)


class CreateAccount(ApiCall[Account], frozen=True, kw_only=True):
    """Makes an account. Answered at once, so that the password is written down nowhere."""

    api: ClassVar[Api] = Api(
        "account.create", "POST", "/accounts", "Create an account", admin=True, status=201
    )
    once: ClassVar[bool] = True

    name: Name
    password: Password
    description: Description = ""
    type: AccountType = AccountType.NORMAL


class UpdateAccount(UpdateJob[Account], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("account.update", "PATCH", "/accounts/{uuid}", "Change name or description")
    resource_type: ClassVar[str] = "account"

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET


class EnableAccount(ActionJob[Account], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "account.enable", "POST", "/accounts/{uuid}/actions/enable", "Let it in again", admin=True
    )
    resource_type: ClassVar[str] = "account"


class DisableAccount(ActionJob[Account], frozen=True, kw_only=True):
    """Ends the account's sessions and refuses its keys. Its resources go on as they are."""

    api: ClassVar[Api] = Api(
        "account.disable", "POST", "/accounts/{uuid}/actions/disable", "Keep it out", admin=True
    )
    resource_type: ClassVar[str] = "account"


class DeleteAccount(DeleteJob, frozen=True, kw_only=True):
    """Deletes the account with its users, policies and keys, after every resource it owns."""

    api: ClassVar[Api] = Api(
        "account.delete", "DELETE", "/accounts/{uuid}", "Delete an account and all it owns", admin=True
    )
    resource_type: ClassVar[str] = "account"


class ChangeAccountPassword(ApiCall[Nothing], frozen=True, kw_only=True):
    """Changes the password and ends the account's sessions. ``current`` is asked of the account itself in a
    session."""

    api: ClassVar[Api] = Api(
        "account.change-password",
        "POST",
        "/accounts/{uuid}/actions/change-password",
        "Change an account's password",
    )
    once: ClassVar[bool] = True

    uuid: Annotated[Uuid, Ref("account")]
    password: Password
    current: Password | None = None


class CreateUser(ApiCall[User], frozen=True, kw_only=True):
    """Makes a user of the caller's account. Without a password it can only use API keys."""

    api: ClassVar[Api] = Api("user.create", "POST", "/users", "Create a user", status=201)
    once: ClassVar[bool] = True

    name: Name
    description: Description = ""
    password: Password | None = None


class UpdateUser(UpdateJob[User], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("user.update", "PATCH", "/users/{uuid}", "Change name or description")
    resource_type: ClassVar[str] = "user"

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET


class DeleteUser(DeleteJob, frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("user.delete", "DELETE", "/users/{uuid}", "Delete a user, its keys and sessions")
    resource_type: ClassVar[str] = "user"


class ChangeUserPassword(ApiCall[Nothing], frozen=True, kw_only=True):
    """Changes the password and ends the user's sessions. ``current`` is asked of the user itself in a
    session."""

    api: ClassVar[Api] = Api(
        "user.change-password", "POST", "/users/{uuid}/actions/change-password", "Change a user's password"
    )
    once: ClassVar[bool] = True

    uuid: Annotated[Uuid, Ref("user")]
    password: Password
    current: Password | None = None


class AttachPolicy(ActionJob[User], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "user.attach-policy", "POST", "/users/{uuid}/actions/attach-policy", "Give a user a policy"
    )
    resource_type: ClassVar[str] = "user"

    policy_uuid: Annotated[Uuid, Ref("policy")]


class DetachPolicy(ActionJob[User], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api(
        "user.detach-policy", "POST", "/users/{uuid}/actions/detach-policy", "Take a policy from a user"
    )
    resource_type: ClassVar[str] = "user"

    policy_uuid: Uuid


class CreatePolicy(CreateJob[Policy], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("policy.create", "POST", "/policies", "Create a policy")
    creates: ClassVar[str] = "policy"

    name: Name
    description: Description = ""
    statements: Statements


class UpdatePolicy(UpdateJob[Policy], frozen=True, kw_only=True):
    api: ClassVar[Api] = Api("policy.update", "PATCH", "/policies/{uuid}", "Change a policy")
    resource_type: ClassVar[str] = "policy"

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    statements: Statements | UnsetType = UNSET


class DeletePolicy(DeleteJob, frozen=True, kw_only=True):
    """Deletes the policy, and takes it from the users that have it."""

    api: ClassVar[Api] = Api("policy.delete", "DELETE", "/policies/{uuid}", "Delete a policy")
    resource_type: ClassVar[str] = "policy"


class AccountCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "account.created"
    account: Account


class AccountChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "account.changed"
    account: Account


class AccountDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "account.deleted"


class UserCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "user.created"
    user: User


class UserChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "user.changed"
    user: User


class UserDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "user.deleted"
    account_uuid: Uuid


class PolicyCreated(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "policy.created"
    policy: Policy


class PolicyChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "policy.changed"
    policy: Policy


class PolicyDeleted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "policy.deleted"
    account_uuid: Uuid


ACCOUNT_PROTECTED = ErrorCode(
    "account.protected", Category.DENIED, "the account cannot be deleted or disabled"
)
ACCOUNT_STILL_OWNS = ErrorCode(
    "account.still-owns", Category.STATE, "resources of the account could not be deleted"
)
ACCOUNT_ONLY = ErrorCode(
    "account.only", Category.DENIED, "only the account itself may do this, not one of its users"
)
PASSWORD_WEAK = ErrorCode("account.password-weak", Category.INVALID, "the password is too short")
PASSWORD_WRONG = ErrorCode("account.password-wrong", Category.DENIED, "the current password is not this")
USER_NAME_TAKEN = ErrorCode("user.name-taken", Category.EXISTS, "the account has a user of this name")
POLICY_FOREIGN = ErrorCode("policy.foreign", Category.INVALID, "the policy belongs to another account")
TOO_MANY = ErrorCode("account.too-many", Category.NO_CAPACITY, "the account has as many of these as it may")
