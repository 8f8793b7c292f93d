"""Who asks, and whether they may: the strategy that reads tokens, and what a caller's policies allow."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Protocol

from mgmtnode.errors import DENIED, UNAUTHENTICATED
from mgmtnode.extension.point import strategy
from mgmtnode.jobs.job import Caller, Statement

ANONYMOUS = Caller(account_uuid="", account_name="anonymous", via="anonymous")
LONGEST_TOKEN = 4096


@strategy
class Authenticator(Protocol):
    """Reads the tokens of one kind; the gateway picks the implementor with the key ``token``."""

    async def authenticate(self, token: str) -> Caller:
        """Who the bearer of ``token`` (a session's token or an API key) is. Raises core.unauthenticated."""
        ...


def bearer(header: str | None) -> str:
    """The token in an ``Authorization`` header. Raises core.unauthenticated."""
    if not header:
        raise UNAUTHENTICATED.error("the request carries no token: send 'Authorization: Bearer …'")
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise UNAUTHENTICATED.error(
            "the Authorization header must be 'Bearer …', with a session token or an API key"
        )
    if len(token) > LONGEST_TOKEN or not token.isascii() or not token.isprintable():
        raise UNAUTHENTICATED.error("the token is not one of ours")
    return token


def authorise(caller: Caller, action: str, *, admin: bool = False, resource: str | None = None) -> None:
    """Raises core.denied unless ``caller`` may do ``action`` (an API, or ``<type>.read``) on ``resource``.

    An account itself may do all that is not the operator's. A user may do what some statement allows and none
    denies.
    """
    if admin and not caller.admin:
        raise DENIED.error(f"{action} is for accounts of the operator", resource=resource, action=action)
    if caller.statements is None:
        return
    matching = [s for s in caller.statements if _matches(s, action, resource)]
    if any(s.effect == "Deny" for s in matching):
        raise DENIED.error(f"a policy denies {action}", resource=resource, action=action)
    if not any(s.effect == "Allow" for s in matching):
        raise DENIED.error(f"no policy allows {action}", resource=resource, action=action)


def _matches(statement: Statement, action: str, resource: str | None) -> bool:
    if not _any(statement.actions, action):
        return False
    return "*" in statement.resources or (resource is not None and _any(statement.resources, resource))


def _any(globs: Iterable[str], word: str) -> bool:
    return any(fnmatchcase(word, glob) for glob in globs)
