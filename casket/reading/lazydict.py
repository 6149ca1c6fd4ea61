"""A dict of a record that is decoded on access."""

from __future__ import annotations

from typing import Any, NamedTuple

from casket.format import values
from casket.format.artifacts import ArtifactFolder
from casket.format.records import Record


class LazyDict(NamedTuple):
    """A dict of a record in its encoded form; it is decoded on access.

    It may refer to arrays in files, which may be large or missing.
    """

    value: dict[str, Any]
    is_extended: bool
    files: ArtifactFolder

    @classmethod
    def of(cls, record: Record, name: str, files: ArtifactFolder) -> LazyDict:
        """Create it from the body of a record."""
        return cls(record["body"][name], "extended" in record, files)

    def restored(self) -> dict[str, Any]:
        """Return the dict as the user logged it."""
        return self._restored(self.files.load_array)

    def without_arrays(self) -> dict[str, Any]:
        """Return the dict with None in place of each array stored in a file."""
        return self._restored(lambda _: None)

    def _restored(self, load_array: values.LoadArray) -> dict[str, Any]:
        if not self.is_extended:
            return self.value
        restored: dict[str, Any] = values.restore(self.value, load_array)
        return restored
