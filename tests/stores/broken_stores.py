"""Stores broken on purpose, each under the contract that has to notice.

Not collected by itself: `test_contract_catches.py` runs it and examines the failures.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from casket.format.files import CHUNK, FolderFiles, Upload
from casket.format.records import Record, covers, names_nothing
from casket.stores import base
from casket.stores.jsonfile.document import JsonDocument
from casket.stores.jsonfile.files import LocalFile
from casket.stores.jsonfile.store import JsonStore
from casket.stores.memory import MemoryStore
from casket.testing import FilesContract, Reopen, StoreContract


class InMemory(StoreContract):
    shared_by_processes = False
    Broken: type[MemoryStore]

    @pytest.fixture
    def reopen(self) -> Reopen:
        store = self.Broken()
        return lambda: store


class TestGood(InMemory):
    Broken = MemoryStore


class TestIgnoresClaims(InMemory):
    class Broken(MemoryStore):
        def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
            return super().append(records)


class TestAsksForTheClaimTooEarly(InMemory):
    class Broken(MemoryStore):
        def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
            if claim is not None:
                base.refuse_held(claim, self.records, records)
                time.sleep(0.001)
            return super().append(records)


class TestAsksForTheClaimTooLate(InMemory):
    class Broken(MemoryStore):
        def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
            with self._lock:
                last = super().append(records[:-1]) if records[:-1] else 0
                return super().append(records[-1:], claim=claim) or last


class TestEveryEndGivesTheClaimUp(InMemory):
    class Broken(MemoryStore):
        def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
            with self._lock:
                try:
                    return super().append(records, claim=claim)
                except base.Claimed as held:
                    if held.session and list(self.records(session=held.session, kinds={"end"})):
                        return super().append(records)
                    raise


class TestKeepsTheFormerClaim(InMemory):
    class Broken(MemoryStore):
        def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
            with self._lock:
                for _, started in self.records(claim=claim, kinds={"session"} if claim else ()):
                    session = started["session"]
                    lived = self.records(session=session, kinds={"session", "end"})
                    ended = [r for r in records if r["kind"] == "end"]
                    if base.life_of([*(r for _, r in lived), *ended]).is_holding:
                        raise base.Claimed(session)
                return super().append(records, claim=claim)


class TestWritesBatchesInParts(InMemory):
    class Broken(MemoryStore):
        def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
            last = super().append(records[:1], claim=claim)
            for record in records[1:]:
                time.sleep(0.001)
                last = super().append([record])
            return last


class TestNumbersLate(InMemory):
    """As a database does whose sequence counts before the transaction commits."""

    class Broken(MemoryStore):
        def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
            with self._lock:
                last = super().append(records, claim=claim)
                mine = self._lines[-len(records) :]
                del self._lines[-len(records) :]
            time.sleep(0.003 * (last % 3))
            with self._lock:
                self._lines = sorted([*self._lines, *mine])
            return last


class TestUsesNumbersAgain(InMemory):
    class Broken(MemoryStore):
        def prune(self, tombstone: Record, /) -> None:
            with self._lock:
                super().prune(tombstone)
                _, text = self._lines.pop()
                self._last = self._lines[-1][0] + 1 if self._lines else 1
                self._lines.append((self._last, text))


class TestNumbersAnew(InMemory):
    class Broken(MemoryStore):
        def prune(self, tombstone: Record, /) -> None:
            super().prune(tombstone)
            self._lines = [(i, text) for i, (_, text) in enumerate(self._lines, 1)]


class TestPrunesTheFuture(InMemory):
    class Broken(MemoryStore):
        def records(self, **filters: Any) -> Iterator[base.Numbered]:
            numbered = list(super().records(**filters))
            tombstones = [record for _, record in super().records(kinds={"deleted"})]
            return (one for one in numbered if not any(covers(t, one[1]) for t in tombstones))

        def prune(self, tombstone: Record, /) -> None:
            self.append([tombstone])


class TestKeepsTombstonesOfNothing(InMemory):
    class Broken(MemoryStore):
        def prune(self, tombstone: Record, /) -> None:
            super().prune(tombstone)
            if names_nothing(tombstone):
                self.append([tombstone])


class TestPrunesMoreThanIsNamed(InMemory):
    class Broken(MemoryStore):
        def prune(self, tombstone: Record, /) -> None:
            body = {k: v for k, v in tombstone["body"].items() if k != "only_named"}
            super().prune({**tombstone, "body": body})


class TestKeepsTheCallersDict(InMemory):
    class Broken(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self._kept: dict[int, Record] = {}

        def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
            last = super().append(records, claim=claim)
            self._kept |= enumerate(records, last - len(records) + 1)
            return last

        def records(self, **filters: Any) -> Iterator[base.Numbered]:
            for number, record in super().records(**filters):
                yield number, self._kept.get(number, record)


class TestKeepsNumbersAsFloats(InMemory):
    class Broken(MemoryStore):
        def records(self, **filters: Any) -> Iterator[base.Numbered]:
            for number, record in super().records(**filters):
                body = json.loads(json.dumps(record["body"]), parse_int=float)
                yield number, {**record, "body": body}


class TestReadsFromAfterOn(InMemory):
    class Broken(MemoryStore):
        def records(self, *, after: int = 0, **filters: Any) -> Iterator[base.Numbered]:
            return super().records(after=after - 1, **filters)


class TestLooksAtOneFilter(InMemory):
    class Broken(MemoryStore):
        def records(
            self, *, session: str | None = None, experiment: str | None = None, **filters: Any
        ) -> Iterator[base.Numbered]:
            one = {"session": session} if session else {"experiment": experiment}
            return super().records(**one, **filters)


class TestForgetsWhatIsNewer(InMemory):
    class Broken(MemoryStore):
        def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
            known: Any = Record.__annotations__.keys()
            less: Any = [{k: v for k, v in r.items() if k in known} for r in records]
            return super().append(less, claim=claim)


class TestReadsWhatMoves(InMemory):
    class Broken(MemoryStore):
        def records(self, **filters: Any) -> Iterator[base.Numbered]:
            lines = self._lines
            for one in super().records(**filters):
                if self._lines is not lines:
                    raise RuntimeError("the store changed during iteration")
                yield one


class TestReadersHoldUpWriters(InMemory):
    class Broken(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self._readers = 0

        def records(self, **filters: Any) -> Iterator[base.Numbered]:
            self._readers += 1
            yield from super().records(**filters)
            self._readers -= 1

        def prune(self, tombstone: Record, /) -> None:
            if self._readers:
                raise TimeoutError("a reader is in the way")
            super().prune(tombstone)


class TestStaysClosed(InMemory):
    class Broken(MemoryStore):
        def close(self) -> None:
            self._lock = None  # type: ignore[assignment]


class OldFile:
    """As the first casket: each handle keeps all known records, and writes all of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = MemoryStore()
        if path.exists():
            for line in path.read_text().splitlines():
                self._known.append([json.loads(line)])

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        number = self._known.append(records, claim=claim)
        self._write()
        return number

    def records(self, **filters: Any) -> Iterator[base.Numbered]:
        return self._known.records(**filters)

    def prune(self, tombstone: Record, /) -> None:
        self._known.prune(tombstone)
        self._write()

    def close(self) -> None:
        pass

    def _write(self) -> None:
        lines = [json.dumps(record) + "\n" for _, record in self._known.records()]
        self._path.write_text("".join(lines))


class TestLosesWhatOthersAppend(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(OldFile, tmp_path / "runs")


class Buffered(JsonStore):
    """Writes when somebody reads, or the handle is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._waiting: list[Record] = []
        self._buffer_lock = threading.RLock()

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        with self._buffer_lock:
            if claim is not None:
                self._flush()
                return super().append(records, claim=claim)
            stored = max((number for number, _ in super().records()), default=0)
            self._waiting += records
            return stored + len(self._waiting)

    def records(self, **filters: Any) -> Iterator[base.Numbered]:
        self._flush()
        return super().records(**filters)

    def close(self) -> None:
        self._flush()
        super().close()

    def _flush(self) -> None:
        with self._buffer_lock:
            waiting, self._waiting = self._waiting, []
            if waiting:
                super().append(waiting)


class TestKeepsRecordsInTheProcess(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(Buffered, tmp_path / "runs.json")


_mutexes: defaultdict[Path, threading.RLock] = defaultdict(threading.RLock)


class OwnLocks(JsonStore):
    """Locks threads out, but no other process."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path

    def append(self, records: Sequence[Record], /, *, claim: str | None = None) -> int:
        with _mutexes[self._path]:
            if claim is not None:
                base.refuse_held(claim, self.records, records)
                time.sleep(0.002)
            return super().append(records)


class TestLocksNoOtherProcessOut(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(OwnLocks, tmp_path / "runs.json")


class ParentsDocument(JsonDocument):
    """Goes on in a forked child as if it were its parent."""

    def after_fork(self) -> None:
        if not hasattr(self, "_mutex"):
            super().after_fork()

    def _catch_up(self, file: Any, *args: Any) -> Any:
        return file if self._end else super()._catch_up(file, *args)


class SharedAfterFork(JsonStore):
    """A store of such a document."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._document = ParentsDocument(partial(LocalFile, path), path, base.DEFAULTS)


class TestGoesOnAfterAForkAsItsParent(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(SharedAfterFork, tmp_path / "runs.json")


class InAFolder(FilesContract):
    Broken: type[FolderFiles]

    @pytest.fixture
    def files(self, tmp_path: Path) -> FolderFiles:
        return self.Broken(tmp_path / "files")


class TestGoodFiles(InAFolder):
    Broken = FolderFiles


class TestAppearsUnfinished(InAFolder):
    class Broken(FolderFiles):
        def put(self, upload: Upload, content: Any, /) -> None:
            super().put(upload._replace(part=upload.name), content)


class TestSendsEverythingAgain(InAFolder):
    class Broken(FolderFiles):
        def put(self, upload: Upload, content: Any, /) -> None:
            self.delete(upload.part)
            super().put(upload, content)


class TestFillsGaps(InAFolder):
    class Broken(FolderFiles):
        def _put(self, upload: Upload, content: Any) -> None:
            self._path.mkdir(exist_ok=True)
            part = self._path / upload.part
            with part.open("ab") as file:
                content.seek(file.tell())
                shutil.copyfileobj(content, file, CHUNK)
            if not part.exists():
                part.write_bytes(bytes(upload.size))
            part.replace(self._path / upload.name)
            self.renew(upload.name, upload.modified)


class TestDeletesWhatWasRenewed(InAFolder):
    class Broken(FolderFiles):
        def delete(self, name: str, _: Any = None, /) -> bool:
            return super().delete(name)


class TestReadsFromTheStart(InAFolder):
    class Broken(FolderFiles):
        def read(self, name: str, _: int = 0, /) -> Iterator[bytes]:
            return super().read(name)


class TestRenewsNoTimes(InAFolder):
    class Broken(FolderFiles):
        def renew(self, name: str, modified: Any, /) -> bool:
            return (self._path / name).is_file()
