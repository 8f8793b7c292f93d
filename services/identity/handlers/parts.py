"""What all handlers of the identity service work with."""

from __future__ import annotations

from functools import partial
from typing import TypeVar

from mgmtnode.bus.message import ApiCall, Event
from mgmtnode.db.session import Tx
from mgmtnode.jobs.job import Caller
from mgmtnode.jobs.once import Once
from mgmtnode.schema import Resource
from mgmtnode.service import NodeContext, Service
from services.identity.config import LOGIN_ATTEMPTS, LOGIN_LOCK, PASSWORD_COST, SESSION_LIFETIME, TOKEN_CACHE
from services.identity.passwords import Passwords
from services.identity.repository.accounts import AccountRepository, PolicyRepository, UserRepository
from services.identity.repository.quotas import QuotaRepository
from services.identity.repository.tokens import ApiKeyRepository, SessionRepository
from services.identity.throttle import ClusterThrottle, LoginThrottle, NodeThrottle
from services.identity.tokens import TokenAuthenticator

TOKENS = "tokens"
R = TypeVar("R")


class Parts(Service):
    def __init__(self, node: NodeContext) -> None:
        super().__init__(node)
        config = node.config
        self.accounts = AccountRepository(node.query)
        self.users = UserRepository(node.query)
        self.policies = PolicyRepository(node.query)
        self.keys = ApiKeyRepository(node.query)
        self.sessions = SessionRepository()
        self.quotas = QuotaRepository(node.query)
        self.passwords = Passwords(node.rng, lambda: config.get(PASSWORD_COST))
        limits = partial(config.get, LOGIN_ATTEMPTS), partial(config.get, LOGIN_LOCK)
        self.throttle: LoginThrottle = ClusterThrottle(
            node.shared, NodeThrottle(node.clock, *limits), *limits
        )
        self.authenticator = TokenAuthenticator(
            node.db,
            node.clock,
            self.keys,
            cache_seconds=lambda: config.get(TOKEN_CACHE),
            lifetime=lambda: config.get(SESSION_LIFETIME),
        )

        node.shared.listen(TOKENS, self._heard)

    def once(self, msg: ApiCall[R], caller: Caller, resource: Resource) -> Once[R]:
        """Passwords are written down nowhere, so they are not part of what an idempotency key stands for."""
        return Once(self.node.uuids, msg, caller, resource.type, secret=("password", "current"))

    def tell(self, tx: Tx, event: Event, account_uuid: str) -> None:
        """Records the event. This node forgets the account's tokens before the caller hears of the change,
        the others when the event or the announcement reaches them, whichever is first."""
        tx.record(event)
        tx.after_commit(lambda: self.forget(account_uuid))

    def forget(self, account_uuid: str) -> None:
        """Something changed about the account, its users, policies, sessions or keys, here and now."""
        self.authenticator.forget(account_uuid)
        self.node.shared.announce(TOKENS, account_uuid)

    def _heard(self, account_uuid: str | None) -> None:
        if account_uuid is None:
            self.authenticator.forget_all()
        else:
            self.authenticator.forget(account_uuid)
