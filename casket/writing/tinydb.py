"""A read-only TinyDB over a store, for queries."""

from __future__ import annotations

from typing import Any

from tinydb import TinyDB
from tinydb.storages import Storage

from casket.errors import CasketError
from casket.stores.jsonfile.store import JsonStore
from casket.writing.backend import Backend


class RecordStorage(Storage):
    """A TinyDB storage that exposes the records of a store as documents of the default table.

    It is read-only, because TinyDB writes whole tables, which would discard the records that
    other processes append.

    Args:
        backend: the backend of the store.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def read(self) -> dict[str, dict[str, Any]]:
        """Return all records by number, as documents of the default table."""
        store = self._backend.store
        numbered: Any = store.documents() if isinstance(store, JsonStore) else store.records()
        return {"_default": {str(number): document for number, document in numbered}}

    def write(self, data: dict[str, dict[str, Any]]) -> None:  # noqa: ARG002 - TinyDB's name
        """Raise an error, because the storage is read-only.

        Raises:
            CasketError: always.
        """
        raise CasketError(
            f"exp.db reads {self._backend.location} only: log through a session, remove with "
            "`casket rm`; tinydb.TinyDB(path) opens the file itself, while nothing else writes"
        )


def tinydb_of(backend: Backend) -> TinyDB:
    """Return a read-only TinyDB over an open store."""
    return TinyDB(storage=RecordStorage, backend=backend)
