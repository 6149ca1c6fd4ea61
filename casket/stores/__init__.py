"""Stores of records, and the parts for writing another store."""

from casket.format.files import Files, FolderFiles, StoredFile, Upload
from casket.format.records import Record, covering, names_nothing
from casket.stores.base import Claimed, Filters, Numbered, Store, StoreOptions, refuse_held
from casket.stores.simple import SimpleStore

__all__ = [
    "Claimed",
    "Files",
    "Filters",
    "FolderFiles",
    "Numbered",
    "Record",
    "SimpleStore",
    "Store",
    "StoreOptions",
    "StoredFile",
    "Upload",
    "covering",
    "names_nothing",
    "refuse_held",
]
