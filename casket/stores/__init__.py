"""Where records are kept: the stores, and what a store of one's own needs."""

from casket.format.records import Record, covering, names_nothing
from casket.stores.base import Claimed, Filters, Numbered, Store, StoreOptions, refuse_held

__all__ = [
    "Claimed",
    "Filters",
    "Numbered",
    "Record",
    "Store",
    "StoreOptions",
    "covering",
    "names_nothing",
    "refuse_held",
]
