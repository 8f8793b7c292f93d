"""The global configs of the identity service."""

from mgmtnode.config.global_config import GlobalConfig

SESSION_LIFETIME = GlobalConfig(
    "identity.session_lifetime",
    7200,
    "How long a session lives after it was last used",
    unit="seconds",
    low=60,
    high=30 * 86400,
)
SESSIONS_MAX = GlobalConfig(
    "identity.sessions_max",
    500,
    "Open sessions of one account or user; a login beyond it ends the oldest",
    low=1,
    high=10_000,
)
LOGIN_ATTEMPTS = GlobalConfig(
    "identity.login_attempts",
    10,
    "Failed logins in a row before a name is locked, on each node; with Redis, on all of them together",
    low=1,
    high=1000,
)
LOGIN_LOCK = GlobalConfig(
    "identity.login_lock",
    60,
    "How long a name stays locked after too many failed logins",
    unit="seconds",
    low=1,
    high=86400,
)
PASSWORD_LENGTH = GlobalConfig(
    "identity.password_length", 8, "The fewest characters of a new password", low=1, high=128
)
PASSWORD_COST = GlobalConfig(
    "identity.password_cost",
    14,
    "Work of hashing a new password: scrypt with N = 2 to this power, r = 8, p = 5; 14 takes 16 MiB",
    low=4,
    high=18,
)
TOKEN_CACHE = GlobalConfig(
    "identity.token_cache",
    5,
    "How long a node trusts what it read about a token, should it not hear of a change",
    unit="seconds",
    low=0,
    high=60,
)
USERS_MAX = GlobalConfig("identity.users_max", 1000, "Users of one account", low=1, high=100_000)
API_KEYS_MAX = GlobalConfig("identity.api_keys_max", 1000, "API keys of one account", low=1, high=100_000)

CONFIG = (
    SESSION_LIFETIME,
    SESSIONS_MAX,
    LOGIN_ATTEMPTS,
    LOGIN_LOCK,
    PASSWORD_LENGTH,
    PASSWORD_COST,
    TOKEN_CACHE,
    USERS_MAX,
    API_KEYS_MAX,
)
