"""The files beside a JSON file on a file system without locks."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson

from casket.format.records import new_id
from casket.stores import base
from casket.stores.inspection import Damage
from casket.stores.jsonfile import layout
from casket.stores.jsonfile.files import refusal_of_lock
from casket.stores.s3.log import Listed
from casket.system import durability, failures

_NAME = re.compile(r"(\d{16})-(\d+)")
_NAMELESS: int = getattr(os, "O_TMPFILE", 0)
_NO_LINKS = "its file system supports neither locks nor hard links; choose a path on a local disk"


def folder_of(path: Path) -> Path:
    """Return the folder of the files beside a JSON file."""
    return Path(f"{os.path.realpath(path)}.parts")


def begin_if_needed(path: Path) -> None:
    """Create the folder if the file system refuses to lock; warn that it does."""
    number = _refusal(path)
    if number is None:
        return
    Folder(path).probe(b"")
    base.warn(
        f"{path}: its file system does not support locks ({os.strerror(number)}); each process "
        f"keeps a journal and writes it in files of its own into {folder_of(path)}, which readers "
        "combine. `casket compact` combines the files themselves"
    )


def _refusal(path: Path) -> int | None:
    """Return the `errno` with which a lock is refused; None if it is granted."""
    try:
        if path.exists():
            return _refusal_of(os.open(path, os.O_RDWR))
        return _refusal_of_new(path.parent)
    except OSError:  # the first append reports it
        return None


def _refusal_of_new(folder: Path) -> int | None:
    """Lock a file without a name, which leaves the folder unchanged; or else a temporary file."""
    try:
        return _refusal_of(os.open(folder, _NAMELESS | os.O_RDWR, 0o600))
    except OSError:
        temporary = folder / f".{new_id()}.tmp"
        try:
            return _refusal_of(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        finally:
            temporary.unlink(missing_ok=True)


def _refusal_of(fd: int) -> int | None:
    try:
        return refusal_of_lock(fd)
    finally:
        os.close(fd)


class Folder:
    """The files beside a JSON file, as `casket.stores.s3.log.Objects` describes them.

    A file is named by its number and by its version, which takes the place of an ETag. Replacing
    a content creates the next version, so that one of several processes succeeds.

    Args:
        path: the JSON file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = folder_of(path)
        self._warned: set[str] = set()

    @property
    def now(self) -> datetime:
        """The time of the file system."""
        if not self._folder.is_dir():
            return datetime.now(UTC)
        with self._written(b"") as temporary:
            return _time_of(temporary)

    def key(self, first: int) -> str:
        return str(self._folder / f"{first:016d}")

    def listed(self, at_least: int) -> list[Listed]:
        latest = self._latest()
        return [
            Listed(first, str(latest[first]), _time_of(self._file(first, latest[first])))
            for first in sorted(latest)
            if first >= at_least
        ]

    def read(self, first: int) -> tuple[str, bytes] | None:
        version = self._latest().get(first)
        if version is None:
            return None
        try:
            content = self._file(first, version).read_bytes()
        except FileNotFoundError:
            return self.read(first)  # another process has just replaced it
        whole, damages = intact(first, content)
        if damages:
            self._warn(self._file(first, version).name, damages)
        return str(version), whole

    def read_all(self, firsts: Sequence[int]) -> list[tuple[str, bytes] | None]:
        return [self.read(first) for first in firsts]

    def create(self, first: int, content: bytes) -> str | None:
        return "1" if first not in self._latest() and self._link(first, 1, content) else None

    def replace(self, first: int, content: bytes, etag: str) -> str | None:
        version = int(etag)
        if not self._link(first, version + 1, content):
            return None
        # Versions are removed after a later one exists, so the highest is the current one.
        names = self._versions().get(first, [])
        if max(names) != version + 1 or version not in names:
            self._file(first, version + 1).unlink(missing_ok=True)
            return None
        for old in names:
            if old <= version:
                self._file(first, old).unlink(missing_ok=True)
        return str(version + 1)

    def delete(self, firsts: Sequence[int]) -> None:
        versions = self._versions()
        for first in firsts:
            for version in versions.get(first, ()):
                self._file(first, version).unlink(missing_ok=True)

    def probe(self, content: bytes) -> None:  # noqa: ARG002 - the folder needs no description
        """Create the folder, and an empty JSON file that stands for it."""
        try:
            self._folder.mkdir(exist_ok=True)
            with (
                self._written(layout.HEAD + layout.TAIL) as temporary,
                contextlib.suppress(FileExistsError),
            ):
                os.link(temporary, os.path.realpath(self._path))
        except OSError as error:
            raise failures.unavailable(self._path, error.errno, _NO_LINKS) from error

    def close(self) -> None:
        """There is nothing to release."""

    def names(self) -> list[tuple[int, Path]]:
        """Return the numbers and paths of all current files."""
        return [(first, self._file(first, n)) for first, n in sorted(self._latest().items())]

    def _file(self, first: int, version: int) -> Path:
        return self._folder / f"{first:016d}-{version}"

    def _latest(self) -> dict[int, int]:
        return {first: max(versions) for first, versions in self._versions().items()}

    def _versions(self) -> dict[int, list[int]]:
        versions: dict[int, list[int]] = {}
        with contextlib.suppress(FileNotFoundError):
            for match in filter(None, map(_NAME.fullmatch, os.listdir(self._folder))):
                versions.setdefault(int(match[1]), []).append(int(match[2]))
        return versions

    def _link(self, first: int, version: int, content: bytes) -> bool:
        """Create a file with its whole content; return False if its name is taken."""
        try:
            with self._written(content) as temporary:
                os.link(temporary, self._file(first, version))
            durability.sync_folder(self._folder)
        except FileExistsError:
            return False
        except OSError as error:
            raise failures.unavailable(self._path, error.errno, _NO_LINKS) from error
        return True

    @contextlib.contextmanager
    def _written(self, content: bytes) -> Iterator[Path]:
        """Write a temporary file, which is removed afterwards."""
        temporary = self._folder / f".{new_id()}.tmp"
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _warn(self, name: str, damages: Sequence[Damage]) -> None:
        if name not in self._warned:
            self._warned.add(name)
            base.warn(
                f"{self._folder / name}: {damages[0].problem}; the whole records of it are read, "
                f"`casket doctor {self._path}` reports the others"
            )


def _time_of(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:  # replaced or packed a moment ago
        return datetime.now(UTC)


def intact(first: int, content: bytes) -> tuple[bytes, list[Damage]]:
    """Return a content without its damaged lines, and the damages."""
    lines, damages, at = list[bytes](), list[Damage](), 0
    head, *rest = content.split(b"\n")
    last, after = first - 1, len(head) + 1
    for line in rest:
        number = _number_of(line)
        if number is not None:
            lines.append(line)
            last = number
        elif line:
            at = after
            damages.append(Damage(at, at + len(line), "a line is no record", last, line))
        after += len(line) + 1
    if not damages and content.endswith(b"\n") and _is_head(head):
        return content, []
    if not damages:
        damages = [Damage(0, len(content), "the file is cut", first - 1, content)]
    if not _is_head(head):
        head = orjson.dumps({"casket": 1, "batch": new_id(), "next": max(last, first) + 1})
    return b"\n".join((head, *lines, b"")), damages


def _number_of(line: bytes) -> int | None:
    try:
        number, record = orjson.loads(line)
    except (TypeError, ValueError):
        return None
    return number if isinstance(number, int) and isinstance(record, dict) else None


def _is_head(line: bytes) -> bool:
    try:
        return bool({"casket", "batch", "next"} <= orjson.loads(line).keys())
    except (AttributeError, ValueError):
        return False
