"""HTTP connections that must send each request within a time."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class TimedConnection(H11Protocol):
    """A connection that is closed if a request does not arrive whole in time.

    uvicorn limits the pause between requests only. A client that sends half a request would keep a
    connection, and so a file descriptor, for ever.

    Attributes:
        patience: seconds from the beginning of a request to its last byte.
        most_waiting: the number of connections that may be waiting for the rest of a request; of
            more, the one that waits longest is closed.
    """

    patience = 20.0
    most_waiting = 200

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        super().connection_made(transport)
        self._await_request()
        waiting = {
            other._deadline.when(): other
            for other in self.connections
            if isinstance(other, TimedConnection) and other._deadline is not None
        }
        if len(waiting) > self.most_waiting:
            waiting[min(waiting)]._abandon()

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request."""
        if self._deadline is None:
            self._await_request()
        super().data_received(data)
        if self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        self._deadline = self.loop.call_later(self.patience, self._abandon)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abandon(self) -> None:
        self._stop_waiting()
        self.transport.abort()
