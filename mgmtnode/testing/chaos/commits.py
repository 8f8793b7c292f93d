"""Reads along what a client of PostgreSQL sends, to see when it commits."""

from __future__ import annotations

LENGTH = 4
REQUESTS = (80877103, 80877104)  # SSLRequest and GSSENCRequest: the start-up message follows them
END = 16  # bytes of a message whose last ones are looked at: a COMMIT may come behind other statements


class Frontend:
    """Of one connection, from its first byte on. Messages are a type byte, a length, which counts itself, and the
    rest; only those that open the connection have no type."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._end = b""
        self._rest = 0  # bytes of the present message that are still to come, once its head is there
        self._opened = False

    def commits(self, data: bytes) -> bool:
        """Whether a COMMIT is complete with ``data``, which follows what was given before."""
        found = False
        view = memoryview(data)
        while view:
            view, ended = self._take(view)
            found = found or (ended and self._is_commit())
            if ended:
                self._head.clear()
                self._end = b""
        return found

    def _take(self, view: memoryview) -> tuple[memoryview, bool]:
        """What is left of ``view``, and whether the present message ended in it."""
        prefix = LENGTH + self._opened
        if len(self._head) < prefix:
            wanted = prefix - len(self._head)
            self._head += view[:wanted]
            view = view[wanted:]
            if len(self._head) < prefix:
                return view, False
            self._rest = max(LENGTH, int.from_bytes(self._head[self._opened :])) - LENGTH
        passed = min(self._rest, len(view))
        self._rest -= passed
        self._end = (self._end + bytes(view[max(0, passed - END) : passed]))[-END:]
        if self._rest:
            return view[passed:], False
        self._opened = self._opened or int.from_bytes(self._end[:LENGTH]) not in REQUESTS
        return view[passed:], True

    def _is_commit(self) -> bool:
        """A simple query, which is how psycopg2 ends its transactions."""
        words = self._end.strip(b"\0; ").upper().rpartition(b";")
        return self._head[:1] == b"Q" and words[2].strip() == b"COMMIT"
