"""Reads along what a client of PostgreSQL sends, to see when it commits."""

from __future__ import annotations

LENGTH = 4
REQUESTS = (80877103, 80877104)  # SSLRequest and GSSENCRequest: the start-up message follows them
SHOWN = 64  # bytes of a message that are looked at: a COMMIT is shorter


class Frontend:
    """Of one connection, from its first byte on. Messages are a type byte, a length, which counts itself, and the
    rest; only those that open the connection have no type."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._rest = 0  # bytes of the present message that are still to come and not looked at
        self._opened = False

    def commits(self, data: bytes) -> bool:
        """Whether a COMMIT is complete with ``data``, which follows what was given before."""
        found = False
        view = memoryview(data)
        while view:
            view, message = self._take(view)
            found = found or (message is not None and _is_commit(message))
        return found

    def _take(self, view: memoryview) -> tuple[memoryview, bytes | None]:
        """What is left of ``view``, and the message that ended in it, as far as it is looked at."""
        if self._rest:
            passed = min(self._rest, len(view))
            self._rest -= passed
            return view[passed:], None
        wanted = self._wanted() - len(self._head)
        self._head += view[:wanted]
        view = view[wanted:]
        if len(self._head) < self._prefix or len(self._head) < self._wanted():
            return view, None
        message, self._head = bytes(self._head), bytearray()
        self._rest = self._length(message) - len(message)
        self._opened = self._opened or int.from_bytes(message[LENGTH : 2 * LENGTH]) not in REQUESTS
        return view, message

    @property
    def _prefix(self) -> int:
        return LENGTH + self._opened

    def _length(self, head: bytes | bytearray) -> int:
        return self._opened + max(LENGTH, int.from_bytes(head[self._opened : self._prefix]))

    def _wanted(self) -> int:
        """Bytes of the present message that are to be looked at, as far as is known."""
        if len(self._head) < self._prefix:
            return self._prefix
        return min(self._length(self._head), SHOWN)


def _is_commit(message: bytes) -> bool:
    """A simple query, which is how psycopg2 ends its transactions."""
    return message[:1] == b"Q" and message[1 + LENGTH :].strip(b"\0; ").upper() == b"COMMIT"
