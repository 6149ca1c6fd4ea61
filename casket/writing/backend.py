"""The state shared by the handles of an experiment: the open store, its artifacts, a writer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from casket.errors import CasketError
from casket.format.records import Kind, Record, Writer, covers, utc_now
from casket.format.values import Encoder
from casket.stores import base
from casket.stores.location import Location

Owner = tuple[str, str | None, str | None]
"""The ids of an experiment, of its model or None, and of its session or None."""


class Backend:
    """An open store with its artifact folder and a writer.

    A pickled backend reopens the store when it is unpickled. A copy is the same object.

    Args:
        location: the location of the store.
        options: the options for opening the store.
    """

    def __init__(self, location: Location, options: base.StoreOptions) -> None:
        self.location = location
        self.options = options
        self.store = location.open(
            options._replace(heads=_weak(self.missing_heads, [])), writing=True
        )
        self.files = location.artifacts()
        self.writer = Writer()
        self._heads: dict[Owner, tuple[str, Callable[[], Record | None]]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        if self.location.kind == "memory":
            raise CasketError("a store in memory cannot be sent to another process; use a file")
        return Backend, (self.location, self.options)

    def __copy__(self) -> Backend:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self

    def is_same_store(self, other: Backend) -> bool:
        """Return whether another backend is of the same store; each in memory is one of its own."""
        if self.location.kind == "memory":
            return self.store is other.store
        return self.location == other.location

    def remember(self, owner: Owner, make: Callable[[], Record | None]) -> None:
        """Register a function that recreates a head if the file is replaced later.

        Args:
            owner: the owner of the head.
            make: creates the head; a bound method does not keep its object alive.
        """
        self._heads[owner] = (utc_now(), _weak(make, None) if hasattr(make, "__self__") else make)

    def forget(self, owner: Owner) -> None:
        """Stop recreating a head, because no more records of its owner will be written."""
        self._heads.pop(owner, None)

    def missing_heads(self, records: Sequence[Record], /) -> list[Record]:
        """Return the registered heads that records need and the store lacks.

        See `casket.stores.base.Heads`. Heads that were deleted on purpose are not recreated.
        """
        needed = dict.fromkeys(owner for record in records for owner in _owners_of(record))
        known = {owner: self._heads[owner] for owner in needed if owner in self._heads}
        deletions = [record for _, record in self.store.records(kinds={"deleted"})]
        made = []
        for owner, (since, make) in known.items():
            head = None if self._has_head(owner) else make()
            if head is not None and not any(
                deletion["time"] >= since and covers(deletion, head) for deletion in deletions
            ):
                made.append(head)
        return made

    def _has_head(self, owner: Owner) -> bool:
        experiment, _, session = owner
        heads = self.store.records(experiment=experiment, session=session, kinds={_kind_of(owner)})
        return any(_owners_of(head)[-1] == owner for _, head in heads)

    def encode(self, value: Any, name: str) -> tuple[dict[str, Any], bool]:
        """Encode a dict or config object of the user as JSON; `name` is the name of the argument.

        Returns:
            The JSON, and whether it contains extended values.

        Raises:
            UnstorableValue: the dict contains a value that cannot be stored.
        """
        encoder = Encoder(self.files.put_array)
        return encoder.mapping(value, name), encoder.extended

    def encode_config(self, value: Any, name: str) -> tuple[dict[str, Any], bool]:
        """Encode params or a config as `encode` does, with objects stored by name.

        Args:
            value: a dict, another config object or None.
            name: the name of the argument.

        Raises:
            UnstorableValue: it contains a value that cannot be stored.
        """
        encoder = Encoder(self.files.put_array, names=True)
        return encoder.mapping({} if value is None else value, name), encoder.extended

    def record(self, kind: Kind, body: dict[str, Any], *, extended: bool, **fields: Any) -> Record:
        """Create a record; `fields` are its owner and, optionally, its claim."""
        if extended:
            fields["extended"] = True
        return self.writer.record(kind, body, **fields)


def _weak(method: Callable[..., Any], otherwise: Any) -> Callable[..., Any]:
    """Return a function that calls a bound method without keeping its object alive.

    It returns `otherwise` once the object has been freed.
    """
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> Any:
        bound = reference()
        return bound(*args) if bound is not None else otherwise

    return call


def _owners_of(record: Record) -> list[Owner]:
    """Return the owners of a record: its experiment, model and session, where present."""
    experiment, model, session = (record.get(name) for name in ("experiment", "model", "session"))
    owners: list[Owner] = [(str(experiment), None, None)] if experiment is not None else []
    if model is not None:
        owners.append((str(experiment), str(model), None))
    if session is not None:
        owners.append((str(experiment), str(model), str(session)))
    return owners


def _kind_of(owner: Owner) -> str:
    _, model, session = owner
    if session is not None:
        return "session"
    return "experiment" if model is None else "model"
