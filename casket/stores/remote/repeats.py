"""What the stores in database servers share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence

from casket.format.records import Record

Identity = tuple[str, int]
"""A record's writer and `n`, the writer as a column holds it."""

PASSWORD_VARIABLE = "CASKET_PASSWORD"  # noqa: S105 - where one is
"""The environment variable with the password of a URL that has none."""

_LONGEST_COLUMN = 200


def column(text: str) -> str:
    """Return a text as an indexed column holds it: itself, or its hash if it is long or odd.

    Databases limit what an index can hold, and PostgreSQL keeps no NUL.
    """
    if len(text) <= _LONGEST_COLUMN and text.isprintable():
        return text
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def column_of(record: Record, field: str) -> str | None:
    """Return the column for what a record belongs to, or None."""
    value = record.get(field)
    return column(value) if isinstance(value, str) else None


def identity(record: Record) -> Identity:
    """Return what makes it the same record wherever it is copied."""
    return column(record["writer"]), record["n"]


def once_each(records: Sequence[Record]) -> list[Record]:
    """Return the records without those met before."""
    found: dict[Identity, Record] = {}
    for record in records:
        found.setdefault(identity(record), record)
    return list(found.values())


def must_ask(claim: str, records: Sequence[Record], stored: Collection[Identity]) -> bool:
    """Tell whether an append has to be refused if something stored holds its claim.

    Not if what claims is stored already: then the append is a repeated one, which had the claim.
    """
    claiming = [record for record in records if record.get("claim") == claim] or records
    return any(identity(record) not in stored for record in claiming)


def environment_password() -> str | None:
    """Return the password that the environment gives for URLs that have none."""
    return os.environ.get(PASSWORD_VARIABLE)


class Pace:
    """How many rows to ask for at a time, so that they fit into little memory.

    Args:
        most: rows at most, however small they are.
    """

    ROOM = 8 << 20
    """Characters of records that are to be in memory at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = min(most, 50)

    def came(self, lengths: Sequence[int]) -> None:
        """Learn from the lengths of the rows that came."""
        mean = sum(lengths) / len(lengths) or 1
        self.rows = max(1, min(self._most, int(self.ROOM / mean)))
