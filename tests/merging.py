"""Merges stores, as `casket merge` does with stores that have no artifacts."""

import os

from casket.maintenance.merging import add_missing
from casket.stores.base import StoreOptions
from casket.stores.location import Location


def merge(target: str | os.PathLike[str], *sources: str | os.PathLike[str]) -> None:
    """Add the records of sources to a target."""
    into = Location.of(target).open(StoreOptions(), writing=True)
    for source in sources:
        store = Location.of(source).open(StoreOptions(), writing=False)
        add_missing(into, (record for _, record in store.records()))
        store.close()
    into.close()
