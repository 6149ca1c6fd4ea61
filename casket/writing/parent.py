"""The parent of sessions."""

from __future__ import annotations

from typing import Any, NamedTuple

from casket.format.records import Record


class Parent(NamedTuple):
    """The session whose children a model starts.

    Attributes:
        id: its id.
        params: its encoded params, which its children have, too.
        extended: whether the encoded params contain extended values.
    """

    id: str
    params: dict[str, Any]
    extended: bool

    @classmethod
    def of(cls, start: Record) -> Parent:
        """Return the parent that a start is of."""
        return cls(start["session"], start["body"]["params"], "extended" in start)
