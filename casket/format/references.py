"""The files in the folder of artifacts that records refer to.

The record of an artifact whose file is not needed anymore stays; a later record that names it in
`freed` says so: the next artifact of a name that keeps its last only, or a change by
`casket clean --old-artifacts`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from casket.format.intact import is_intact
from casket.format.records import Record
from casket.format.values import restore

Identity = tuple[str, int]
"""The writer of a record and its number."""


def identity_of(record: Record) -> Identity:
    """Return the identity of a record, which is the same in every copy of it."""
    return record["writer"], record["n"]


def freed_by(record: Record) -> Iterator[Identity]:
    """Yield the identities of the artifacts' records whose files a record frees."""
    for freed in record["body"].get("freed", ()):
        writer, number = freed
        yield writer, number


def files_of(record: Record) -> list[str]:
    """Return the names of the files that an intact record refers to."""
    files: list[str] = []
    if not is_intact(record):
        return files
    if record["kind"] == "artifact":
        files.append(record["body"]["file"])
    if "extended" in record:
        restore(record["body"], lambda kept: files.append(kept["file"]))
    return files


class References:
    """The files that the records of a store refer to."""

    def __init__(self) -> None:
        self._owners: dict[str, set[Identity]] = defaultdict(set)
        self._freed: set[Identity] = set()

    def add(self, record: Record) -> list[str]:
        """Add a record and return the names of the files that it refers to."""
        files = files_of(record)
        for file in files:
            self._owners[file].add(identity_of(record))
        if files or record["kind"] == "tag":
            self._freed.update(freed_by(record))
        return files

    @property
    def owners(self) -> dict[str, set[Identity]]:
        """The records that refer to a file, by the name of the file."""
        kept = ((file, owners - self._freed) for file, owners in self._owners.items())
        return {file: owners for file, owners in kept if owners}
