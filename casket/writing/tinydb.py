"""A read-only TinyDB over a store, for queries."""

from __future__ import annotations

from typing import Any

from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Table

from casket.errors import CasketError
from casket.format.values import restore
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
        """Return all records by number, as documents of the default table.

        Values beyond JSON, such as NaN, are Python values, which queries can compare; large
        arrays stay descriptions of their files.
        """
        store = self._backend.store
        numbered: Any = store.documents() if isinstance(store, JsonStore) else store.records()
        return {"_default": {str(number): _restored(document) for number, document in numbered}}

    def write(self, data: dict[str, dict[str, Any]]) -> None:  # noqa: ARG002 - TinyDB's name
        """Raise an error, because the storage is read-only.

        Raises:
            CasketError: always.
        """
        raise CasketError(
            f"exp.db reads {self._backend.location} only: log through a session, remove with "
            "`casket rm`; tinydb.TinyDB(path) opens the file itself, while nothing else writes"
        )


class UncachedTable(Table):
    """A table whose queries are not cached, because records are added without TinyDB."""

    def __init__(self, storage: Storage, name: str, **_: Any) -> None:
        super().__init__(storage, name, cache_size=0)


class RecordDatabase(TinyDB):
    """A TinyDB that answers from the current content of the store."""

    table_class: type[Table] = UncachedTable


def tinydb_of(backend: Backend) -> TinyDB:
    """Return a read-only TinyDB over an open store."""
    return RecordDatabase(storage=RecordStorage, backend=backend)


def _restored(document: dict[str, Any]) -> Any:
    return restore(document, lambda kept: kept) if document.get("extended") else document
