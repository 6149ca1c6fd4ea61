"""Copying a file of this machine, with its artifacts, while processes write to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from casket.errors import BadLocation, CasketError, NotFound
from casket.maintenance.merging import FileCarrier
from casket.stores.base import StoreOptions
from casket.stores.location import Location
from casket.system import failures

_READING = StoreOptions(writing=False)


class Backup(NamedTuple):
    """A finished backup.

    Attributes:
        path: the copy of the file.
        size: its size in bytes.
        problems: the reason why an artifact was not copied, by file name.
    """

    path: Path
    size: int
    problems: dict[str, str]


def back_up(location: Location, target: Path) -> Backup:
    """Copy a snapshot of a JSON or SQLite file, and then its artifacts.

    Writers of a JSON file wait while the file is copied; writers of SQLite do not. The copy appears
    under its name when it is complete.

    Args:
        location: the file to copy.
        target: the path of the copy; its artifacts go to `<target>.files`.

    Raises:
        BadLocation: the store is not a file of this machine, or the target exists.
        NotFound: the file does not exist.
        StoreUnavailable: the file cannot be read or the target cannot be written.
    """
    if location.url:
        advice = f"copy it with `casket merge {location} -o FILE`"
        raise BadLocation(f"{location} is not a file of this machine: {advice}")
    if not location.path.is_file():
        raise NotFound(str(location.path))
    copied = Location(location.kind, target)
    with _appearing(target) as temporary:
        location.inspection().copy(temporary)
        carry = FileCarrier(location.artifacts(), copied.artifacts())
        with closing(Location(location.kind, temporary).direct(_READING, writing=False)) as store:
            for _, record in store.records():
                carry(record)
    return Backup(target, target.stat().st_size, carry.problems)


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Yield a temporary path, whose file is renamed to `target` when the block has succeeded."""
    _refuse_existing(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _refuse_existing(target)
        temporary.rename(target)
    except CasketError:
        raise
    except OSError as error:
        raise failures.unavailable(target, error.errno, "no backup was made") from error
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise BadLocation(f"{target} exists: name a new file")
