"""Examination of every byte, record and artifact of an experiment file, and its repair."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from casket.format.intact import problem_of
from casket.format.records import FORMAT_VERSION, KINDS, Record, Seen, covering
from casket.format.references import References
from casket.format.stored import open_stored
from casket.format.values import restore
from casket.stores.base import StoreOptions
from casket.stores.inspection import Damage
from casket.stores.location import Location
from casket.system import failures

READ = 1 << 20
"""The number of bytes of an artifact to read at a time."""

MOST_NAMED = 20
"""The maximum number of sessions to list by id."""

Progress = Callable[[int], None]
"""A callback that receives the number of bytes read since its last call."""

_SESSION = re.compile(rb'"session":\s*"([^"\\]{1,64})"')
_KIND = re.compile(rb'"kind":\s*"([a-z]{1,20})"')


class Finding(NamedTuple):
    """A problem or remark reported by an examination.

    Attributes:
        where: the affected bytes, session or artifact.
        problem: the description of the problem.
        cost: the description of the lost data, as far as it is known.
        start: the first affected byte of the file, if bytes are affected.
        stop: the end of the affected bytes.
        sessions: the ids of the affected sessions.
        is_damage: whether it is damage; False for remarks.
        is_repairable: whether a repair fixes it, except for the lost data.
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
    """The result of an examination.

    Attributes:
        location: the location of the store.
        size: the size of the file in bytes.
        records: the number of intact records by kind.
        sessions: the number of sessions.
        artifacts: the number of files that the records reference.
        findings: the damages and remarks.
    """

    location: str
    size: int
    records: Counter[str]
    sessions: int
    artifacts: int
    findings: list[Finding]

    @property
    def damages(self) -> list[Finding]:
        """The findings that are damage."""
        return [finding for finding in self.findings if finding.is_damage]

    @property
    def is_repairable(self) -> bool:
        """Whether a repair would fix any finding."""
        return any(finding.is_repairable for finding in self.findings)


def examine(location: Location, progress: Progress = lambda _: None) -> Report:
    """Examine every record and every artifact of a store, without changing anything.

    Args:
        location: the location of the store.
        progress: a callback that receives the number of bytes read since its last call.

    Raises:
        NotFound: the store does not exist.
        NotACasketFile: the file contains nothing written by casket.
        StoreUnavailable: the store cannot be read.
    """
    if location.url:
        return _examine_url(location)
    examination = _Examination()
    for part in location.inspection().parts():
        examination.add(part.records, part.damages)
        progress(part.size)
    folder, files = location.artifacts().path, examination.needed_files
    findings = [
        *examination.of_bytes(),
        *examination.of_sessions(),
        *_of_artifacts(
            files,
            {file: _problem_of(folder / Path(file).name, files[file], progress) for file in files},
        ),
        *_of_neighbors(location.path, folder, files),
    ]
    return _report(location, location.path.stat().st_size, examination, findings)


def _examine_url(location: Location) -> Report:
    """Examine the records of a store that is no file, and the names and sizes of its artifacts."""
    examination = _Examination()
    with closing(location.direct(StoreOptions(writing=False), writing=False)) as store:
        for numbered in store.records():
            examination.add([numbered], [])
    with closing(location.artifacts()) as folder:
        sizes = {file.name: file.size for file in folder.stored.listed()}
    problems = {
        file: _problem_of_size(sizes.get(file), kept)
        for file, kept in examination.needed_files.items()
    }
    unused = sizes.keys() - examination.needed_files
    findings = [
        *examination.of_bytes(),
        *examination.of_sessions(),
        *_of_artifacts(examination.needed_files, problems),
        *_of_unused(len(unused), str(location)),
    ]
    return _report(location, 0, examination, findings)


def _problem_of_size(size: int | None, kept: _Kept) -> str | None:
    if size is None:
        return (
            "it is missing; the machine that wrote it may send it when it uses the store again, "
            "or by `casket sync`"
        )
    return None if size == kept.size else f"it has {size} bytes, not {kept.size}"


def _report(
    location: Location, size: int, examination: _Examination, findings: list[Finding]
) -> Report:
    return Report(
        str(location),
        size,
        examination.kinds,
        len(examination.sessions),
        len(examination.needed_files),
        _without_accepted(findings, _accepted(location)),
    )


def accept(location: Location, report: Report) -> Path:
    """Accept the damage of a report: later reports list it as notes, new damage as damage.

    Returns:
        The path of the file beside the store that lists the accepted damage.

    Raises:
        StoreUnavailable: the file cannot be written.
    """
    path = _accepted_path(location)
    texts = _accepted(location) | set(map(_identity, report.damages))
    try:
        path.write_text(f"{json.dumps(sorted(texts), indent=0)}\n", encoding="utf-8")
    except OSError as error:
        raise failures.unavailable(path, error.errno, "nothing was accepted") from error
    return path


def _accepted_path(location: Location) -> Path:
    return location.path.with_name(f"{location.path.name}.accepted")


def _accepted(location: Location) -> set[str]:
    path = _accepted_path(location)
    try:
        return set(map(str, json.loads(path.read_text(encoding="utf-8"))))
    except (FileNotFoundError, ValueError):  # a list that cannot be read accepts nothing
        return set()


def _identity(finding: Finding) -> str:
    return f"{finding.where}: {finding.problem}"


def _without_accepted(findings: list[Finding], accepted: set[str]) -> list[Finding]:
    """Return the findings with accepted damage as remarks."""
    return [
        finding._replace(is_damage=False, problem=f"{finding.problem} (accepted)")
        if _identity(finding) in accepted
        else finding
        for finding in findings
    ]


def repair(location: Location) -> Path:
    """Replace a file by a new file with every intact record.

    Returns:
        The path of the backup of the old file.

    Raises:
        StoreUnavailable: the file cannot be written; nothing was changed.
    """
    now = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z"
    kept = location.path.with_name(f"{location.path.name}.damaged-{now}")
    location.inspection().repair(kept)
    return kept


class _Kept(NamedTuple):
    """The description of a file in the record that references it."""

    name: str
    sha256: str
    size: int
    owner: dict[str, Any]


class _Examination:
    """The state of an examination in progress.

    Attributes:
        kinds: the number of records by kind.
        sessions: the ids of the sessions.
        files: the files that records reference, by name in the artifact folder.
    """

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.sessions: set[str] = set()
        self.files: dict[str, _Kept] = {}
        self._references = References()
        self._begun: set[str] = set()
        self._deleted: set[str] = set()
        self._writers: dict[str, tuple[Seen, list[str]]] = {}
        self._largest: Counter[str] = Counter()
        self._count: Counter[str] = Counter()
        self._copies = 0
        self._newer: Counter[str] = Counter()
        self._damages: list[tuple[Damage, int]] = []
        self._waiting: list[Damage] = []
        self._unreadable: list[Finding] = []

    def add(self, records: list[tuple[int, Record]], damages: list[Damage]) -> None:
        """Add the records and damages of a part of the file."""
        self._waiting += damages
        for number, record in records:
            if self._waiting:
                self._measure_damages(number)
            problem = problem_of(record)
            if problem is None:
                self._add(record)
            else:
                self._add_unreadable(number, record, problem)

    def _add_unreadable(self, number: int, record: Record, problem: str) -> None:
        session = record.get("session")
        sessions = (session,) if isinstance(session, str) else ()
        cost = f"1 record of kind {record.get('kind')!r}; it stays in the file and is not shown"
        self._unreadable.append(
            Finding(f"record {number}", f"it {problem}", cost, sessions=sessions)
        )

    def _measure_damages(self, number: int) -> None:
        """Count the missing numbers at each damage, now that the next record is known."""
        passed = [damage for damage in self._waiting if damage.after < number]
        self._damages += [(damage, number - damage.after - 1) for damage in passed]
        self._waiting = [damage for damage in self._waiting if damage.after >= number]

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
            if not is_covered(kept.owner)  # type: ignore[arg-type]  # it reads only these keys
        }

    @property
    def needed_files(self) -> dict[str, _Kept]:
        """The files that records refer to, except for artifacts that were freed."""
        needed = self._references.owners
        return {file: kept for file, kept in self.files.items() if file in needed}

    def _add_files(self, record: Record) -> None:
        self._references.add(record)
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
        """Return the findings about ranges of bytes."""
        damages = [*self._damages, *((damage, 0) for damage in self._waiting)]
        findings = [self._of_damage(damage, missing) for damage, missing in damages]
        return findings + self._unreadable

    def _of_damage(self, damage: Damage, missing: int) -> Finding:
        sessions = tuple(
            dict.fromkeys(match.decode(errors="replace") for match in _SESSION.findall(damage.text))
        )
        return Finding(
            f"bytes {damage.start}-{damage.stop}" if damage.stop else f"record {damage.number}",
            damage.problem,
            self._cost(damage, missing, sessions),
            damage.start if damage.stop else None,
            damage.stop or None,
            sessions,
            is_repairable=True,
        )

    @staticmethod
    def _cost(damage: Damage, missing: int, sessions: tuple[str, ...]) -> str:
        """Describe the lost data, as far as the text and the surrounding numbers reveal it."""
        if not damage.text:
            return "nothing"
        kinds = Counter(kind.decode() for kind in _KIND.findall(damage.text))
        if damage.number or missing == 1:
            amount = "1 record"
        elif missing:
            amount = f"up to {missing} records"
        else:
            amount = f"parts of {kinds.total()} records" if kinds else "cannot be told"
        of_kinds = f" ({', '.join(kinds)})" if kinds else ""
        of_sessions = f" of session {', '.join(sessions[:MOST_NAMED])}" if sessions else ""
        return amount + of_kinds + of_sessions

    def of_sessions(self) -> list[Finding]:
        """Return the findings about sessions and records."""
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
        """Return sessions with gaps in their sequence numbers."""
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


def _of_artifacts(files: dict[str, _Kept], problems: dict[str, str | None]) -> list[Finding]:
    """Return findings about artifacts that are missing or differ from their records."""
    findings = []
    for file, kept in files.items():
        problem = problems[file]
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
        with open_stored(path.parent, path.name) as file:
            size = os.fstat(file.fileno()).st_size
            if size != kept.size:
                return f"it has {size} bytes, not {kept.size}"
            digest = hashlib.sha256()
            while chunk := file.read(READ):
                digest.update(chunk)
                progress(len(chunk))
    except FileNotFoundError:
        return "it is a link, which is not followed" if path.is_symlink() else "it is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if digest.hexdigest() == kept.sha256 else "its hash differs: its content changed"


def _of_neighbors(path: Path, folder: Path, files: dict[str, _Kept]) -> list[Finding]:
    """Return remarks about other files beside the store."""
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
    return [*findings, *_of_unused(len(unused), str(folder))]


def _of_unused(count: int, where: str) -> list[Finding]:
    problem = f"{count} files are referred to by nothing (`casket clean --artifacts`)"
    return [_note(where, problem)] if count else []


def _rewritings(path: Path) -> list[Path]:
    """Return the temporary files of unfinished rewrites beside a store."""
    candidates = path.parent.glob(f"{glob.escape(path.name)}.*.tmp")
    return sorted(each for each in candidates if each.suffixes[-2][1:].isdecimal())


def _note(where: str, problem: str) -> Finding:
    return Finding(where, problem, is_damage=False)
