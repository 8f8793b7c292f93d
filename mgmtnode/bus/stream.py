"""The socket of a broker's connection while the event loop has it."""

from __future__ import annotations

import socket
import ssl

RECEIVED_A_TURN = 256 << 10
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream:
    """Two buffers, and nothing that waits. The loop's side fills one and empties the other; a library that reads and
    writes as if it blocked uses ``recv`` and ``sendall``, and may ask for what else a socket has: it does nothing."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._received, self._read = b"", 0
        self._unsent = bytearray()
        sock.setblocking(False)

    def fileno(self) -> int:
        return self.sock.fileno()

    # The loop's side.

    @property
    def unsent(self) -> int:
        """Bytes that wait to be taken by the kernel."""
        return len(self._unsent)

    def receive(self) -> bool:
        """Takes what has come, at most RECEIVED_A_TURN or a little more. Whether something has. Raises OSError if the
        connection is lost."""
        parts, left = [self._received[self._read :]], RECEIVED_A_TURN
        while left > 0:
            try:
                part = self.sock.recv(left)
            except NOT_NOW:
                break
            if not part:
                raise ConnectionError("closed by the other side")
            parts.append(part)
            left -= len(part)
            if not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()):
                break
        self._received, self._read = b"".join(parts), 0
        return len(parts) > 1

    def flush(self) -> bool:
        """Sends what can be sent at once. Whether that was all."""
        while self._unsent:
            try:
                del self._unsent[: self.sock.send(self._unsent)]
            except NOT_NOW:
                return False
        return True

    def give_back(self, timeout: float) -> None:
        """Blocking again, with all that was to be sent. Blocks itself."""
        self.sock.settimeout(timeout)
        self.sock.sendall(self._unsent)
        self._unsent.clear()

    # The library's side.

    def recv(self, size: int) -> bytes:
        """Raises TimeoutError when nothing is there, as a socket does that was waited for."""
        start = self._read
        data = self._received[start : start + size]
        if not data:
            raise TimeoutError("nothing more has come yet")
        self._read = start + len(data)
        return data

    def sendall(self, data: bytes | memoryview) -> None:
        self._unsent += data

    def gettimeout(self) -> float:
        return 0.0

    def settimeout(self, timeout: float | None) -> None: ...

    def unwrap(self) -> Stream:
        return self

    def shutdown(self, how: int) -> None: ...

    def close(self) -> None: ...
