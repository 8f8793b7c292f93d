"""Bearer tokens: what they look like, and who they stand for."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from mgmtnode.contracts.identity import AccountState, AccountType, Effect
from mgmtnode.db.session import Database, Tx
from mgmtnode.errors import UNAUTHENTICATED
from mgmtnode.jobs.job import Caller, Statement
from mgmtnode.ports import Clock, Rng
from services.identity.repository.tokens import ApiKeyRepository, Bearer, SessionRepository, statements_of

SESSION_PREFIX, KEY_PREFIX = "mns_", "mnk_"
TOKEN_LENGTH = len(SESSION_PREFIX) + 43
VIA_SESSION, VIA_KEY = "session:", "api-key:"
CACHED = 10_000
SELF_SERVICE = Statement(
    effect=Effect.ALLOW, actions=["session.read", "session.delete", "session.whoami", "user.change-password"]
)


def draw_token(rng: Rng, prefix: str) -> str:
    """A new token of 256 random bits."""
    return prefix + urlsafe_b64encode(rng.bits(256).to_bytes(32)).rstrip(b"=").decode()


def digest_of(token: str) -> str:
    """What is stored of a token. It is random, so that a fast hash is enough."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


class Cached(NamedTuple):
    caller: Caller
    until: float


class TokenAuthenticator:
    """Reads session tokens and API keys. What it read holds for a few seconds, unless it hears of a change.

    A session lives on while it is used: its end is moved at most every sixteenth of its lifetime.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        keys: ApiKeyRepository,
        *,
        cache_seconds: Callable[[], int],
        lifetime: Callable[[], int],
    ) -> None:
        self._db, self._clock, self._keys = db, clock, keys
        self._sessions = SessionRepository()
        self._cache_seconds, self._lifetime = cache_seconds, lifetime
        self._cache: OrderedDict[str, Cached] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[Caller]] = {}
        self._generation = 0

    async def authenticate(self, token: str) -> Caller:
        """Raises core.unauthenticated."""
        if len(token) != TOKEN_LENGTH or not token.startswith((SESSION_PREFIX, KEY_PREFIX)):
            raise _refused()
        digest = digest_of(token)
        cached = self._cache.get(digest)
        if cached is not None and cached.until > self._clock.monotonic():
            return cached.caller
        lookup = self._lookups.get(digest)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(digest, session=token.startswith(SESSION_PREFIX)))
            self._lookups[digest] = lookup
            lookup.add_done_callback(lambda task: self._looked_up(digest, task))
        return await asyncio.shield(lookup)

    def forget(self, account_uuid: str) -> None:
        """Something changed about the account, its users, policies, sessions or keys."""
        self._generation += 1
        self._lookups.clear()  # what they are reading may be the old state
        for digest in [d for d, c in self._cache.items() if c.caller.account_uuid == account_uuid]:
            del self._cache[digest]

    def forget_all(self) -> None:
        """Some change may have gone unheard."""
        self._generation += 1
        self._lookups.clear()
        self._cache.clear()

    def _looked_up(self, digest: str, task: asyncio.Task[Caller]) -> None:
        if self._lookups.get(digest) is task:
            del self._lookups[digest]
        if not task.cancelled():
            task.exception()  # whoever waits hears of it; nobody may wait any more

    async def _look_up(self, digest: str, *, session: bool) -> Caller:
        generation, now = self._generation, self._clock.monotonic()
        found, caller = await self._db.read(lambda tx: self._read(tx, digest, session=session))
        left = self._left(found.expires_at)
        if session and found.expires_at and left < self._lifetime() * 15 / 16:
            until = self._clock.now() + timedelta(seconds=self._lifetime())
            await self._db.write(lambda tx: self._sessions.extend(tx, found.uuid, until))
        if generation == self._generation:
            self._keep(digest, Cached(caller, now + min(self._cache_seconds(), left)))
        return caller

    def _read(self, tx: Tx, digest: str, *, session: bool) -> tuple[Bearer, Caller]:
        found = (self._sessions if session else self._keys).bearer(tx, digest)
        if found is None or found.state is not AccountState.ENABLED or self._left(found.expires_at) <= 0:
            raise _refused()
        via = (VIA_SESSION if session else VIA_KEY) + found.uuid
        return found, caller_of(tx, found, via)

    def _left(self, expires_at: datetime | None) -> float:
        return (expires_at - self._clock.now()).total_seconds() if expires_at else float("inf")

    def _keep(self, digest: str, cached: Cached) -> None:
        self._cache[digest] = cached
        self._cache.move_to_end(digest)
        if len(self._cache) > CACHED:
            self._cache.popitem(last=False)


def caller_of(tx: Tx, found: Bearer, via: str) -> Caller:
    """The caller a token stands for; for a user with all its statements."""
    statements = None
    if found.user_uuid is not None:
        own = [msgspec.convert(msgspec.to_builtins(s), Statement) for s in statements_of(tx, found.user_uuid)]
        statements = [*own, SELF_SERVICE]
    return Caller(
        account_uuid=found.account_uuid,
        account_name=found.account_name,
        user_uuid=found.user_uuid,
        admin=found.type is AccountType.SYSTEM_ADMIN,
        statements=statements,
        via=via,
    )


def _refused() -> Exception:
    return UNAUTHENTICATED.error("the token is not valid, or not any more: log in")
