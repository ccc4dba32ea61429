"""The network between laptop and machine: a TCP relay that can be slow, freeze, or cut every connection."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

_CHUNK = 16384


class Network:
    """Relays one port to another, at a limited speed.

    Args:
        target: the port on 127.0.0.1 that connections are relayed to.
        bytes_per_second: in each direction of each connection.
    """

    def __init__(self, target: int, bytes_per_second: float) -> None:
        self._target, self._speed = target, bytes_per_second
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._down = False
        self._sockets: set[socket.socket] = set()
        self._guard = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection; new ones are possible."""
        with self._guard:
            for end in self._sockets:
                _reset(end)
            self._sockets.clear()

    def go_down(self) -> None:
        """Cut, and refuse new connections until `come_up`."""
        self._down = True
        self.cut()

    def come_up(self) -> None:
        """Let connections through again, after `go_down` or `freeze`."""
        self._down = False
        self._flowing.set()

    def freeze(self) -> None:
        """Let nothing through, without ending anything: a laptop that sleeps, a dead link."""
        self._flowing.clear()

    def close(self) -> None:
        """End the relay."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._down:
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            with self._guard:
                self._sockets |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                self._flowing.wait()
                sink.sendall(data)
                time.sleep(len(data) / self._speed)
            sink.shutdown(socket.SHUT_WR)
            return
        for end in (source, sink):
            _reset(end)


def _reset(end: socket.socket) -> None:
    """Break a connection off. A relay that waits in recv wakes up, and lets go of it; close alone would not do that."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        end.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        end.close()
