"""The store as a TinyDB, for queries."""

from __future__ import annotations

from typing import Any

from tinydb import TinyDB
from tinydb.storages import Storage

from casket.errors import CasketError
from casket.stores.jsonfile.store import JsonStore
from casket.writing.backend import Backend


class RecordStorage(Storage):
    """A TinyDB storage that shows a store's records as the documents of the default table.

    It is for reading: TinyDB writes whole tables, which would undo what other processes append.

    Args:
        backend: the open store.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def read(self) -> dict[str, dict[str, Any]]:
        """Return all documents by number."""
        store = self._backend.store
        numbered: Any = store.documents() if isinstance(store, JsonStore) else store.records()
        return {"_default": {str(number): document for number, document in numbered}}

    def write(self, data: dict[str, dict[str, Any]]) -> None:  # noqa: ARG002 - TinyDB's name
        """Refuse.

        Raises:
            CasketError: always.
        """
        raise CasketError(
            f"exp.db reads {self._backend.place} only: log through a session, remove with "
            "`casket rm`; tinydb.TinyDB(path) opens the file itself, while nothing else writes"
        )


def tinydb_of(backend: Backend) -> TinyDB:
    """Return a TinyDB over an open store."""
    return TinyDB(storage=RecordStorage, backend=backend)
