"""Helpers shared by the stores in database servers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence

from casket.format.records import Record

Identity = tuple[str, int]
"""A record's writer, in its column form, and `n`."""

PASSWORD_VARIABLE = "CASKET_PASSWORD"  # noqa: S105 - where one is
"""The environment variable with the password for URLs without a password."""

_LONGEST_COLUMN = 200


def column(text: str) -> str:
    """Return the value of an indexed column for a text: the text, or its hash if long or odd.

    Databases limit the size of index entries, and PostgreSQL cannot store NUL.
    """
    if len(text) <= _LONGEST_COLUMN and text.isprintable():
        return text
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def column_of(record: Record, field: str) -> str | None:
    """Return the column value of a record's field, or None if it is missing."""
    value = record.get(field)
    return column(value) if isinstance(value, str) else None


def identity(record: Record) -> Identity:
    """Return the identity of a record, which is the same in every copy."""
    return column(record["writer"]), record["n"]


def once_each(records: Sequence[Record]) -> list[Record]:
    """Return the records without duplicates."""
    unique: dict[Identity, Record] = {}
    for record in records:
        unique.setdefault(identity(record), record)
    return list(unique.values())


def must_ask(claim: str, records: Sequence[Record], stored: Collection[Identity]) -> bool:
    """Return whether the claim must be checked (false for a retry).

    An append is a retry if the records with the claim are already stored; it held the claim then.
    """
    claiming = [record for record in records if record.get("claim") == claim] or records
    return any(identity(record) not in stored for record in claiming)


def environment_password() -> str | None:
    """Return the password set in the environment for URLs without a password."""
    return os.environ.get(PASSWORD_VARIABLE)


class Pace:
    """The number of rows to fetch at a time, chosen to limit memory use.

    Args:
        most: the maximum number of rows, however small they are.
    """

    ROOM = 8 << 20
    """Target number of characters of records in memory at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = min(most, 50)

    def came(self, lengths: Sequence[int]) -> None:
        """Adjust the number of rows to the lengths of the rows received."""
        mean = sum(lengths) / len(lengths) or 1
        self.rows = max(1, min(self._most, int(self.ROOM / mean)))
