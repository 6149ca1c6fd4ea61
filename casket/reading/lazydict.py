"""A dict as it stands in a record, and what it says."""

from __future__ import annotations

from typing import Any, NamedTuple

from casket.format import values
from casket.format.artifacts import ArtifactFolder
from casket.format.records import Record


class LazyDict(NamedTuple):
    """A dict as it stands in a record; what it says is read when it is asked for.

    It may refer to arrays in files, which may be large, or gone.
    """

    value: dict[str, Any]
    is_extended: bool
    files: ArtifactFolder

    @classmethod
    def of(cls, record: Record, name: str, files: ArtifactFolder) -> LazyDict:
        """Take it from the body of a record."""
        return cls(record["body"][name], "extended" in record, files)

    def restored(self) -> dict[str, Any]:
        """Return it as the user gave it."""
        return self._restored(self.files.load_array)

    def without_arrays(self) -> dict[str, Any]:
        """Return it with None in place of every array in a file."""
        return self._restored(lambda _: None)

    def _restored(self, load_array: values.LoadArray) -> dict[str, Any]:
        if not self.is_extended:
            return self.value
        restored: dict[str, Any] = values.restore(self.value, load_array)
        return restored
