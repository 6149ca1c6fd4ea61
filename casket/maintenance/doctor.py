"""Examining an experiment file: every byte, record and artifact; and repairing it."""

from __future__ import annotations

import glob
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from casket.format.records import FORMAT_VERSION, KINDS, Record, Seen, covering
from casket.format.values import restore
from casket.stores.inspection import Flaw
from casket.stores.location import Place

READ = 1 << 20
"""Bytes of an artifact read at a time."""

MOST_NAMED = 20
"""Sessions named one by one."""

Progress = Callable[[int], None]
"""Told how many more bytes were looked at."""

_SESSION = re.compile(rb'"session":\s*"([^"\\]{1,64})"')
_KIND = re.compile(rb'"kind":\s*"([a-z]{1,20})"')


class Finding(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        where: the bytes, session or artifact it is about.
        problem: what is wrong.
        cost: what was lost by it, as far as one can tell.
        start: where it begins in the file, if it is about bytes.
        stop: where it ends.
        sessions: the ids of the sessions it is about.
        is_damage: false for what is only good to know.
        is_repairable: whether a repair makes it good, but for what was lost.
    """

    where: str
    problem: str
    cost: str = ""
    start: int | None = None
    stop: int | None = None
    sessions: tuple[str, ...] = ()
    is_damage: bool = True
    is_repairable: bool = False


class Report(NamedTuple):
    """What an examination found.

    Attributes:
        place: the store.
        size: the bytes of its file.
        records: how many whole records it holds, by kind.
        sessions: how many sessions those are of.
        artifacts: how many files the records refer to.
        findings: what is wrong, and what is good to know.
    """

    place: str
    size: int
    records: Counter[str]
    sessions: int
    artifacts: int
    findings: list[Finding]

    @property
    def damages(self) -> list[Finding]:
        """What is wrong."""
        return [finding for finding in self.findings if finding.is_damage]

    @property
    def is_repairable(self) -> bool:
        """Whether a repair would make something good."""
        return any(finding.is_repairable for finding in self.findings)


def examine(place: Place, progress: Progress = lambda _: None) -> Report:
    """Look at every record and every artifact of a store; nothing is changed.

    Raises:
        NotFound: it does not exist.
        NotACasketFile: nothing in it is casket's.
        StoreUnavailable: it cannot be read.
        BadLocation: it is no file.
    """
    examination = _Examination()
    for part in place.inspection().parts():
        examination.add(part.records, part.flaws)
        progress(part.size)
    folder = place.artifacts().path
    findings = [
        *examination.of_bytes(),
        *examination.of_sessions(),
        *_of_artifacts(examination.files, folder, progress),
        *_of_neighbours(place.path, folder, examination.files),
    ]
    return Report(
        str(place),
        place.path.stat().st_size,
        examination.kinds,
        len(examination.sessions),
        len(examination.files),
        findings,
    )


def repair(place: Place) -> Path:
    """Put a file in place that holds every whole record; return where the old one is kept.

    Raises:
        StoreUnavailable: it cannot be written; nothing was changed.
    """
    now = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z"
    kept = place.path.with_name(f"{place.path.name}.damaged-{now}")
    place.inspection().repair(kept)
    return kept


class _Kept(NamedTuple):
    """What a record says of a file it refers to."""

    name: str
    sha256: str
    size: int
    owner: dict[str, Any]


class _Examination:
    """What was met in a file so far.

    Attributes:
        kinds: how many records of each kind.
        sessions: the ids of the sessions that are there.
        files: the files that records refer to, by their names in the folder of artifacts.
    """

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.sessions: set[str] = set()
        self.files: dict[str, _Kept] = {}
        self._begun: set[str] = set()
        self._deleted: set[str] = set()
        self._writers: dict[str, tuple[Seen, list[str]]] = {}
        self._largest: Counter[str] = Counter()
        self._count: Counter[str] = Counter()
        self._copies = 0
        self._newer: Counter[str] = Counter()
        self._flaws: list[tuple[Flaw, int]] = []
        self._waiting: list[Flaw] = []

    def add(self, records: list[tuple[int, Record]], flaws: list[Flaw]) -> None:
        """Take what stands in a part of the file."""
        self._waiting += flaws
        for number, record in records:
            if self._waiting:
                self._measure_flaws(number)
            self._add(record)

    def _measure_flaws(self, number: int) -> None:
        """Count the numbers missing where a flaw is, now that the next record is known."""
        passed = [flaw for flaw in self._waiting if flaw.after < number]
        self._flaws += [(flaw, number - flaw.after - 1) for flaw in passed]
        self._waiting = [flaw for flaw in self._waiting if flaw.after >= number]

    def _add(self, record: Record) -> None:
        kind, writer, session = record["kind"], record["writer"], record.get("session")
        self.kinds[kind] += 1
        seen, owners = self._writers.setdefault(writer, (Seen(), []))
        if not seen.add(record["n"]):
            self._copies += 1
            return
        self._count[writer] += 1
        self._largest[writer] = max(self._largest[writer], record["n"])
        if record["v"] > FORMAT_VERSION or kind not in KINDS:
            self._newer[kind] += 1
        elif kind == "deleted":
            self._add_tombstone(record)
        elif session is not None:
            self.sessions.add(session)
            if not owners:
                owners.append(session)
            if kind == "session":
                self._begun.add(session)
        self._add_files(record)

    def _add_tombstone(self, tombstone: Record) -> None:
        is_covered = covering(tombstone)
        self._deleted.update(tombstone["body"]["sessions"])
        self.sessions.difference_update(tombstone["body"]["sessions"])
        self.files = {
            file: kept
            for file, kept in self.files.items()
            if not is_covered(kept.owner)  # type: ignore[arg-type]  # all that is looked at
        }

    def _add_files(self, record: Record) -> None:
        owner = {name: record.get(name) for name in ("experiment", "model", "session")}
        if record["kind"] == "artifact":
            body = record["body"]
            kept = _Kept(f"artifact {body['name']!r}", body["sha256"], body["size"], owner)
            self.files[body["file"]] = kept
        elif "extended" in record:
            arrays: list[dict[str, Any]] = []
            restore(record["body"], arrays.append)
            for array in arrays:
                self.files[array["file"]] = _Kept(
                    f"an array in a record of kind {record['kind']!r}",
                    array["sha256"],
                    array["size"],
                    owner,
                )

    def of_bytes(self) -> list[Finding]:
        """Return what is wrong with ranges of bytes."""
        flaws = [*self._flaws, *((flaw, 0) for flaw in self._waiting)]
        return [self._of_flaw(flaw, missing) for flaw, missing in flaws]

    def _of_flaw(self, flaw: Flaw, missing: int) -> Finding:
        sessions = tuple(
            dict.fromkeys(match.decode(errors="replace") for match in _SESSION.findall(flaw.text))
        )
        return Finding(
            f"bytes {flaw.start}-{flaw.stop}" if flaw.stop else f"record {flaw.number}",
            flaw.problem,
            self._cost(flaw, missing, sessions),
            flaw.start if flaw.stop else None,
            flaw.stop or None,
            sessions,
            is_repairable=True,
        )

    @staticmethod
    def _cost(flaw: Flaw, missing: int, sessions: tuple[str, ...]) -> str:
        """Say what was lost, as far as the numbers around it and what stands there tell."""
        if not flaw.text:
            return "nothing"
        kinds = Counter(kind.decode() for kind in _KIND.findall(flaw.text))
        if flaw.number or missing == 1:
            amount = "1 record"
        elif missing:
            amount = f"up to {missing} records"
        else:
            amount = f"parts of {kinds.total()} records" if kinds else "cannot be told"
        of_kinds = f" ({', '.join(kinds)})" if kinds else ""
        of_sessions = f" of session {', '.join(sessions[:MOST_NAMED])}" if sessions else ""
        return amount + of_kinds + of_sessions

    def of_sessions(self) -> list[Finding]:
        """Return what is wrong with sessions, and with records as such."""
        findings = []
        for session in sorted(self.sessions - self._begun - self._deleted):
            problem = "its start is not there: its params and meta are not known"
            findings.append(Finding(f"session {session}", problem, sessions=(session,)))
        gone = sorted(self.sessions & self._deleted)
        for session in gone:
            problem = "it was removed, but went on to log"
            findings.append(
                Finding(f"session {session}", problem, sessions=(session,), is_damage=False)
            )
        findings += self._of_gaps()
        if self._copies:
            findings.append(
                _note("records", f"{self._copies} are copies of others; readers drop them")
            )
        for kind, count in self._newer.items():
            problem = f"{count} of kind {kind!r} can be read by a newer casket only"
            findings.append(_note("records", problem))
        return findings

    def _of_gaps(self) -> list[Finding]:
        """Return the sessions of which records are not there that their writers counted."""
        gaps: dict[str, int] = defaultdict(int)
        for writer, (_, owners) in self._writers.items():
            missing = self._largest[writer] - self._count[writer]
            if missing and owners and not writer.startswith("first-"):
                gaps[owners[0]] += missing
        return [
            Finding(
                f"session {session}",
                f"{missing} of its records are not there: lost, or never written (a full disk)",
                sessions=(session,),
                is_damage=False,
            )
            for session, missing in list(gaps.items())[:MOST_NAMED]
        ]


def _of_artifacts(files: dict[str, _Kept], folder: Path, progress: Progress) -> list[Finding]:
    """Return the artifacts that are missing or are not what was kept."""
    findings = []
    for file, kept in files.items():
        problem = _problem_of(folder / Path(file).name, kept, progress)
        if problem:
            session = kept.owner["session"]
            owner = f"session {session}" if session else f"experiment {kept.owner['experiment']}"
            findings.append(
                Finding(
                    f"{kept.name} of {owner} ({file})",
                    problem,
                    sessions=(session,) if session else (),
                )
            )
    return findings


def _problem_of(path: Path, kept: _Kept, progress: Progress) -> str | None:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size != kept.size:
                return f"it has {size} bytes, not {kept.size}"
            digest = hashlib.sha256()
            while chunk := file.read(READ):
                digest.update(chunk)
                progress(len(chunk))
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if digest.hexdigest() == kept.sha256 else "its hash differs: its content changed"


def _of_neighbours(path: Path, folder: Path, files: dict[str, _Kept]) -> list[Finding]:
    """Return what lies beside the store and is good to know of."""
    findings = []
    torn = path.with_name(f"{path.name}.torn")
    if torn.is_file():
        problem = f"{torn.stat().st_size} bytes that held no whole record were moved here"
        findings.append(_note(str(torn), problem))
    for left in _rewritings(path):
        problem = "a rewriting left it that was killed, or is going on (`casket compact`)"
        findings.append(_note(str(left), problem))
    there = folder.iterdir() if folder.is_dir() else iter(())
    unused = [each for each in there if each.name not in files]
    if unused:
        problem = f"{len(unused)} files are referred to by nothing (`casket clean --artifacts`)"
        findings.append(_note(str(folder), problem))
    return findings


def _rewritings(path: Path) -> list[Path]:
    """Return the new files beside a store that have not taken its place."""
    candidates = path.parent.glob(f"{glob.escape(path.name)}.*.tmp")
    return sorted(each for each in candidates if each.suffixes[-2][1:].isdecimal())


def _note(where: str, problem: str) -> Finding:
    return Finding(where, problem, is_damage=False)
