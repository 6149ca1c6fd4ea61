"""A base class for stores that can lock, load and save all of their records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Unpack

from casket.errors import NotFound
from casket.format.records import Record, covering, names_nothing
from casket.stores import base


class SimpleStore(ABC):
    """A store that is loaded and saved as a whole: an append takes time in proportion to its size.

    Args:
        url: the URL.
        options: the options of the store.

    Attributes:
        path: the URL without its scheme.
    """

    def __init__(self, url: str, options: base.StoreOptions = base.DEFAULTS) -> None:
        self.url = url
        self.path = Path(url.partition("://")[2])
        self.options = options

    @abstractmethod
    def lock(self) -> AbstractContextManager[object]:
        """Return a context manager that excludes all other threads and processes that write."""

    @abstractmethod
    def load(self) -> Sequence[base.Numbered] | None:
        """Return all numbers and records; None if the store does not exist. Needs no lock."""

    @abstractmethod
    def save(self, numbered: list[base.Numbered], /) -> None:
        """Replace all records atomically: a crash leaves the old or the new ones."""

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        with self.lock():
            if claim is not None:
                base.refuse_held(claim, self.records, records)
            numbered = list(self.load() or ())
            numbered += enumerate(records, _last(numbered) + 1)
            self.save(numbered)
            return _last(numbered)

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        filters, numbered = base.Filters(**chosen), self.load()
        if numbered is None and not self.options.writing:
            raise NotFound(self.url)
        for number, record in numbered or ():
            if number > filters.after and filters.fits(record):
                yield number, record

    def prune(self, tombstone: Record, /) -> None:
        is_covered = covering(tombstone)
        with self.lock():
            numbered = self.load() or ()
            remaining = [one for one in numbered if not is_covered(one[1])]
            own = [] if names_nothing(tombstone) else [(_last(numbered) + 1, tombstone)]
            self.save([*remaining, *own])

    def close(self) -> None:  # noqa: B027 - optional
        """Do nothing; a store that keeps resources open overrides this method."""


def _last(numbered: Sequence[base.Numbered]) -> int:
    return numbered[-1][0] if numbered else 0
