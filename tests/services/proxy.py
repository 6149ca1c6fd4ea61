"""A TCP proxy that is slow, falls silent, or cuts connections."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time


class Proxy:
    """Forwards the connections of a port of loopback.

    Args:
        port: where it passes it on to.
        delay: seconds that all takes, each way.
        host: the address of this machine to listen at.
    """

    def __init__(self, port: int, *, delay: float = 0.0, host: str = "127.0.0.1") -> None:
        self._target = port
        self._delay = delay
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._speaking = threading.Event()
        self._speaking.set()
        self._answers_left: int | None = None
        self._bytes_left: int | None = None
        self._next_cuts: list[int] = []
        self._is_to_hold = self._are_answers_counted = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        """Keep all connections, and pass nothing on."""
        self._speaking.clear()

    def speak(self) -> None:
        """Forward delayed and further data."""
        self._speaking.set()

    def cut(self) -> None:
        """Cut all connections."""
        while self._sockets:
            one = self._sockets.pop()
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut_before_answers(self) -> None:
        """Pass the next request on, and cut the connection instead of passing its answer back."""
        self._answers_left = 0

    def cut_after(self, count: int, *more: int) -> None:
        """Cut all connections once `count` more bytes were passed on to the server, and again."""
        self._bytes_left, self._next_cuts = count, list(more)
        self._are_answers_counted = False

    def cut_answers_after(self, count: int) -> None:
        """Cut all connections once `count` more bytes were passed back to the clients."""
        self._bytes_left, self._are_answers_counted = count, True

    def hold_after(self, count: int) -> None:
        """Fall silent once `count` more bytes were passed on to the server."""
        self._bytes_left, self._is_to_hold = count, True

    @property
    def is_silent(self) -> bool:
        return not self._speaking.is_set()

    @property
    def cuts_left(self) -> int:
        return len(self._next_cuts) + (self._bytes_left is not None)

    def close(self) -> None:
        self._listener.close()
        self.speak()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for ends in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        ends = (waiting, source, target, is_answer)
        threading.Thread(target=self._deliver, args=ends, daemon=True).start()
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                waiting.put((time.monotonic() + self._delay, data))
        waiting.put((time.monotonic() + self._delay, b""))

    def _deliver(
        self,
        waiting: queue.SimpleQueue[tuple[float, bytes]],
        source: socket.socket,
        target: socket.socket,
        is_answer: bool,
    ) -> None:
        with contextlib.suppress(OSError), source, target:
            while True:
                due, data = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                self._speaking.wait()
                if not data:
                    break
                if is_answer and self._answers_left == 0:
                    self._answers_left = None
                    self.cut()
                    break
                is_counted = is_answer == self._are_answers_counted
                left = self._bytes_left if is_counted else None
                target.sendall(data[:left])
                if left is not None:
                    self._bytes_left = left - len(data)
                    if left <= len(data):
                        self._bytes_left = self._next_cuts.pop(0) if self._next_cuts else None
                        if self._is_to_hold:
                            self._is_to_hold = False
                            self.fall_silent()
                            self._speaking.wait()
                        self.cut()
                        break
            # Closing alone would not wake other threads that wait for them.
            for one in (source, target):
                one.shutdown(socket.SHUT_RDWR)
