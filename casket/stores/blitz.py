"""BlitzDB 0.4.4: a folder with a file per append, for compatibility with tools that read it.

BlitzDB has no lock and rewrites its indexes at every commit; a kill truncates them. Only the files
of documents are written once. Therefore a document holds all records of an append, and reading
uses the documents' files instead of the indexes. Writing takes a lock beside the folder; if the
indexes are damaged, the folder is rebuilt from the documents and the old folder is kept. The cost
of an append grows with the folder: prefer SQLite or the JSON file.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, Unpack

import orjson

from casket.errors import CasketWarning, MissingDependency, NotFound
from casket.format.records import Record, covering, encoded, names_nothing
from casket.stores import base, replaced
from casket.stores.jsonfile.files import LocalFile
from casket.stores.jsonfile.layout import is_record
from casket.system import failures, forks

COLLECTION = "casket_records"


class BlitzStore:
    """Records in the folder of a BlitzDB file back-end.

    Args:
        url: `blitz:` and the folder.
        options: how to open it; BlitzDB never syncs.
    """

    drops_copies = True

    def __init__(self, url: str, options: base.StoreOptions = base.DEFAULTS) -> None:
        self._path = Path(url.removeprefix("blitz:"))
        self._writing = options.writing
        self._heads = options.heads
        self._seen: base.Numbered | None = None
        self._has_appended = False
        self.after_fork()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Create a new lock and an empty cache."""
        self._mutex = threading.RLock()
        self._known: dict[str, str] = {}
        self._damaged: set[str] = set()

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        with self._locked():
            stored = list(self._numbered())
            held = {(record["writer"], record["n"]) for _, record in stored}
            missing = [r for r in records if (r["writer"], r["n"]) not in held]
            last = stored[-1][0] if stored else 0
            if missing:
                if claim is not None:
                    base.refuse_held(claim, self.records, records)
                if self._seen is not None and not _has(stored, self._seen):
                    last = max(last, self._seen[0])  # numbers are never used again
                    missing = self._completed(missing, self._seen[1])
                added = list(enumerate(missing, last + 1))
                self._save(added)
                self._seen, self._has_appended = added[-1], True
            return last + len(missing)

    def records(self, **chosen: Unpack[base.Chosen]) -> Iterator[base.Numbered]:
        filters = base.Filters(**chosen)
        if not self._objects.is_dir() and not self._writing:
            raise NotFound(str(self._path))
        for number, record in self._numbered():
            self._seen = self._seen or (number, record)
            if number > filters.after and filters.fits(record):
                yield number, record

    def prune(self, tombstone: Record, /) -> None:
        with self._locked():
            is_covered = covering(tombstone)
            stored = list(self._numbered())
            kept = [pair for pair in stored if not is_covered(pair[1])]
            if not names_nothing(tombstone):
                kept.append((stored[-1][0] + 1 if stored else 1, tombstone))
            self._make_anew(kept, keep_old=bool(self._damaged))

    def close(self) -> None:
        with self._mutex:
            self._known.clear()

    def _completed(self, records: Sequence[Record], seen: Record) -> list[Record]:
        """Return records, preceded by those that this handle must repeat in another folder."""
        return replaced.completed(
            records,
            doubtful=[],  # every append reads the folder
            last=seen if self._has_appended else None,
            heads=self._heads,
            read=self.records,
            location=self._path,
        )

    @property
    def _objects(self) -> Path:
        return self._path / COLLECTION / "objects"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._mutex:
            try:
                lock = LocalFile(self._path.with_name(f"{self._path.name}.lock"), writing=True)
            except OSError as error:
                raise failures.unavailable(
                    self._path, error.errno, "nothing was written"
                ) from error
            try:
                lock.lock()
                yield
            except OSError as error:
                raise failures.unavailable(
                    self._path, error.errno, "nothing was written"
                ) from error
            finally:
                lock.close()

    def _numbered(self) -> list[base.Numbered]:
        """Return all records; only new documents are read."""
        with self._mutex:
            names = {file.name for file in self._objects.glob("*")}
            for name in self._known.keys() - names:
                del self._known[name]
            for name in names - self._known.keys():
                records = _document(self._objects / name)
                if records is not None:
                    self._known[name] = records
            parts = [self._records_of(name, text) for name, text in self._known.items()]
            return sorted((numbered for part in parts for numbered in part), key=itemgetter(0))

    def _records_of(self, name: str, text: str) -> list[base.Numbered]:
        """Return the records of a document; warn about those that are damaged."""
        numbered: list[tuple[int, Any]]
        try:
            numbered = [(int(number), record) for number, record in orjson.loads(text)]
        except (TypeError, ValueError):
            numbered = [(0, {})]
        whole: list[Any] = [(n, r) for n, r in numbered if type(r) is dict and is_record(r)]
        if len(whole) < len(numbered) and name not in self._damaged:
            self._damaged.add(name)
            warnings.warn(
                f"{self._objects / name}: records in it are damaged and were skipped",
                CasketWarning,
                stacklevel=2,
            )
        return whole

    def _save(self, records: list[base.Numbered]) -> None:
        try:
            _save(self._path, [records])
        except OSError:
            # After the document, only the indexes can fail, which are not used here.
            if not _has(self._numbered(), records[-1]):
                raise
        except (Exception, _index_error()):  # noqa: BLE001 - whatever damaged indexes lead to
            self._make_anew(self._numbered(), keep_old=True)
            _save(self._path, [records])

    def _make_anew(self, records: list[base.Numbered], *, keep_old: bool) -> None:
        """Replace the folder by a new folder, made from the documents."""
        import shutil

        new = self._path.with_name(f"{self._path.name}.new")
        old = self._path.with_name(
            f"{self._path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
        )
        shutil.rmtree(new, ignore_errors=True)
        _save(new, [records[i : i + 500] for i in range(0, len(records), 500)])
        if self._path.exists():
            self._path.rename(old)
        new.rename(self._path)
        if not keep_old:
            shutil.rmtree(old, ignore_errors=True)


def _has(stored: Sequence[base.Numbered], seen: base.Numbered) -> bool:
    """Return whether a record is stored under its number."""
    number, record = seen
    other = dict(stored).get(number)
    return other is not None and (other["writer"], other["n"]) == (record["writer"], record["n"])


def _document(path: Path) -> str | None:
    """Return the records of a document; None if it is truncated (its append failed)."""
    try:
        records: str = orjson.loads(path.read_bytes())["records"]
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None
    return records


def _save(path: Path, documents: Sequence[list[base.Numbered]]) -> None:
    stored = _document_class()
    backend = _blitzdb().FileBackend(str(path))
    for records in documents:
        texts = [(number, orjson.Fragment(encoded(record))) for number, record in records]
        text = orjson.dumps(texts).decode()
        backend.save(stored({"number": f"{records[0][0]:016d}", "records": text}))
    backend.commit()


@functools.cache  # BlitzDB registers each class by its name, permanently
def _document_class() -> Any:
    blitzdb = _blitzdb()

    class Stored(blitzdb.Document):  # type: ignore[misc, name-defined]  # has no types
        class Meta(blitzdb.Document.Meta):  # type: ignore[misc, name-defined]
            primary_key = "number"
            collection = COLLECTION

    return Stored


def _blitzdb() -> Any:
    try:
        import blitzdb  # type: ignore[import-untyped]  # has no types
    except ModuleNotFoundError as error:
        raise MissingDependency("blitzdb", "blitz") from error
    return blitzdb


def _index_error() -> type[BaseException]:
    """Return BlitzDB's error for damaged indexes, which is not an `Exception`."""
    from blitzdb.backends.file.backend import DatabaseIndexError  # type: ignore[import-untyped]

    error: type[BaseException] = DatabaseIndexError
    return error
