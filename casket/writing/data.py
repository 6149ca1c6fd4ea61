"""The fingerprints of data that a session handle stores."""

from __future__ import annotations

from typing import Any

from casket.writing.arguments import checked_text
from casket.writing.log import SessionLog


class DataLog:
    """Stores the fingerprints of data in `meta["data"]`, together with those of earlier calls.

    Args:
        log: the log of the session.
    """

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._known: dict[str, Any] | None = None

    def add(self, name: str, data: Any) -> None:
        """Store a fingerprint; see `Session.add_data`."""
        from casket.format.fingerprints import fingerprint  # loads OpenSSL

        facts = fingerprint(checked_text(name, "the name of the data"), data)
        if self._known is None:
            self._known = self._earlier() if self._log.follows else {}
        self._known = {**self._known, name: facts}
        self._log.write("meta", *self._log.backend.encode({"data": self._known}, "meta"))

    def _earlier(self) -> dict[str, Any]:
        """Return the data stored by earlier handles of a continued session."""
        earlier: dict[str, Any] = {}
        for _, record in self._log.backend.store.records(session=self._log.id, kinds={"meta"}):
            data = record["body"].get("data") if isinstance(record["body"], dict) else None
            if isinstance(data, dict):
                earlier = data
        return earlier
