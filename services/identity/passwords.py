"""Hashing and checking passwords: scrypt, off the event loop, a few at a time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable

from mgmtnode.errors import OVERLOADED
from mgmtnode.ports import Rng

R, P = 8, 5
PARALLEL = 2
WAITING = 64


class Passwords:
    """``cost`` tells log2 of scrypt's N for new hashes. Each hash names its own parameters.

    A check against no hash takes as long as one that fails, so that nobody learns which accounts exist.
    """

    def __init__(self, rng: Rng, cost: Callable[[], int]) -> None:
        self._rng, self._cost = rng, cost
        self._slots = asyncio.Semaphore(PARALLEL)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The text to store. Raises core.overloaded when too many wait."""
        cost, salt = self._cost(), self._rng.bits(128).to_bytes(16)
        return _text(cost, salt, await self._derive(password, salt, cost))

    async def verify(self, password: str, stored: str) -> bool:
        """``stored`` empty: no, after the time a check takes. Raises core.overloaded when too many wait."""
        cost, salt, wanted = _parts(stored) if stored else (self._cost(), bytes(16), bytes(64))
        found = await self._derive(password, salt, cost)
        return hmac.compare_digest(found, wanted) and bool(stored)

    async def _derive(self, password: str, salt: bytes, cost: int) -> bytes:
        if self._waiting >= WAITING:
            raise OVERLOADED.error("too many logins at once; try again", retry_after=1.0)
        self._waiting += 1
        try:
            async with self._slots:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(None, _scrypt, password, salt, cost)
        finally:
            self._waiting -= 1


def _scrypt(password: str, salt: bytes, cost: int) -> bytes:
    n = 1 << cost
    memory = 128 * R * (n + P + 4)
    return hashlib.scrypt(
        password.encode(errors="surrogatepass"), salt=salt, n=n, r=R, p=P, maxmem=memory, dklen=64
    )


def _text(cost: int, salt: bytes, derived: bytes) -> str:
    return f"scrypt${cost}${b64encode(salt).decode()}${b64encode(derived).decode()}"


def _parts(stored: str) -> tuple[int, bytes, bytes]:
    _, cost, salt, derived = stored.split("$")
    return int(cost), b64decode(salt), b64decode(derived)
