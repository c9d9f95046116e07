"""What passes between a client and a broker, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Wiretap:
    """Passes connections on to a port of the loopback interface, and keeps what it sees.

    Args:
        port: Of the broker.
    """

    def __init__(self, port: int) -> None:
        self.seen = b""
        self.connected_s: list[float] = []  # time.monotonic()
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Cut all connections and take no more."""
        # Only a shutdown wakes a thread that waits in accept() or recv().
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in [self._listener, *self._sockets]:
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connected_s.append(time.monotonic())
                broker = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, broker]
                for pair in ((client, broker), (broker, client)):
                    thread = threading.Thread(target=self._pass_on, args=pair, daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65_536):
                with self._lock:
                    self.seen += content
                sink.sendall(content)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
