"""What the handles of one experiment share: the open store, its artifacts, and a writer."""

from __future__ import annotations

from typing import Any

from casket.errors import CasketError
from casket.locate import Place
from casket.records import Kind, Record, Writer
from casket.stores import base
from casket.values import Encoder


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
        self.store = place.open(options, writing=True)
        self.files = place.artifacts()
        self.writer = Writer()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.place.kind == "memory":
            raise CasketError("a store in memory cannot be sent to another process; use a file")
        return Backend, (self.place, self.options)

    def __copy__(self) -> Backend:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self

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
