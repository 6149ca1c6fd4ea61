"""What the handles of one experiment share: the open store, its artifacts, and a writer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from casket.errors import CasketError
from casket.format.records import Kind, Record, Writer, covers, utc_now
from casket.format.values import Encoder
from casket.stores import base
from casket.stores.location import Place

Owner = tuple[str, str | None, str | None]
"""The ids of an experiment, of a model of it or None, and of a session or None."""


class Backend:
    """An open store with what goes with it.

    Pickled, it is a place, and opens again where it is unpickled; copied, it is itself.

    Args:
        place: where the store is.
        options: what the user chose about it.
    """

    def __init__(self, place: Place, options: base.StoreOptions) -> None:
        self.place = place
        self.options = options
        self.store = place.open(options._replace(heads=_weak(self.missing_heads, [])), writing=True)
        self.files = place.artifacts()
        self.writer = Writer()
        self._heads: dict[Owner, tuple[str, Callable[[], Record | None]]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        if self.place.kind == "memory":
            raise CasketError("a store in memory cannot be sent to another process; use a file")
        return Backend, (self.place, self.options)

    def __copy__(self) -> Backend:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self

    def remember(self, owner: Owner, make: Callable[[], Record | None]) -> None:
        """Keep a way to make a head again, should the place hold another file later.

        Args:
            owner: whose head it is.
            make: makes it; the object it is a method of may be freed meanwhile.
        """
        self._heads[owner] = (utc_now(), _weak(make, None) if hasattr(make, "__self__") else make)

    def forget(self, owner: Owner) -> None:
        """Make a head no more: nothing that belongs to it is written from here."""
        self._heads.pop(owner, None)

    def missing_heads(self, records: Sequence[Record], /) -> list[Record]:
        """Return the heads that records need and the store lacks, of those known here.

        See `casket.stores.base.Heads`. What was removed on purpose is not made again.
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
        """Turn a dict a user gave into JSON; `name` is its argument's name.

        Returns:
            The JSON, and whether it holds extended values.

        Raises:
            UnstorableValue: something in it cannot be stored.
        """
        encoder = Encoder(self.files.put_array)
        return encoder.mapping(value, name), encoder.extended

    def record(self, kind: Kind, body: dict[str, Any], *, extended: bool, **fields: Any) -> Record:
        """Make a record; `fields` say what it belongs to and may hold a claim."""
        if extended:
            fields["extended"] = True
        return self.writer.record(kind, body, **fields)


def _weak(method: Callable[..., Any], otherwise: Any) -> Callable[..., Any]:
    """Return a function that calls a method without keeping its object alive.

    Once the object is gone, it returns `otherwise`.
    """
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> Any:
        bound = reference()
        return bound(*args) if bound is not None else otherwise

    return call


def _owners_of(record: Record) -> list[Owner]:
    """Return what a record belongs to: experiment, model and session, as far as it names them."""
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
