"""Code and packages, collected in the background, once for all sessions of a process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock
from time import monotonic
from typing import Any, NamedTuple

from casket.format.artifacts import ArtifactFolder
from casket.system.background import Background
from casket.writing.capture.choices import Part
from casket.writing.capture.code import patch
from casket.writing.capture.packages import packages

FILES: dict[Part, tuple[str, str]] = {
    "code": ("code.patch", "text/x-patch"),
    "packages": ("packages.txt", "text/plain"),
    "output": ("output.txt", "text/plain"),
}
"""The name and the media type of the artifact of each part."""

_COLLECTORS: dict[Part, Callable[[Event], bytes | None]] = {
    "code": patch,
    "packages": lambda _: packages(),
}
_SHORTEST_USE = 2.0
_LONGEST_USE = 60.0
_SHARE = 100
"""Content is recent for this many times as long as it took: collecting takes 1 % at most."""

_FOLDERS = 8
"""The number of artifact folders whose last collection is remembered."""


class Content(NamedTuple):
    """The content of a part, or None if there is none, and until when it counts as recent."""

    content: bytes | None
    expires: float


_contents: dict[tuple[int, Part], Content] = {}


def _recent(part: Part, stop: Event) -> Content:
    """Return the recent content of a part, which is collected if there is none."""
    key = os.getpid(), part
    known = _contents.get(key)
    if known is not None and monotonic() < known.expires:
        return known
    began = monotonic()
    content = _COLLECTORS[part](stop)
    use = min(max(_SHARE * (monotonic() - began), _SHORTEST_USE), _LONGEST_USE)
    made = Content(content, began + use)
    if not stop.is_set():
        _contents[key] = made
    return made


class Collection:
    """The code and packages of this process, stored as artifacts of a store.

    Args:
        files: the artifact folder of the store.
        parts: the parts to collect.

    Attributes:
        artifacts: the descriptions of the stored artifacts, by part.
        problems: why a part is missing, by part.
    """

    def __init__(self, files: ArtifactFolder, parts: tuple[Part, ...]) -> None:
        self.artifacts: dict[Part, dict[str, Any]] = {}
        self.problems: dict[str, str] = {}
        self._files = files
        self._parts = parts
        self._lock = Lock()
        self._waiting: list[Callable[[], object]] = []
        self._finished = Event()
        self._expires = monotonic() + _LONGEST_USE
        try:
            self._thread = Background(self._collect, "casket-capture")
        except RuntimeError as error:  # no thread, for example while the interpreter exits
            self.problems = {part: str(error) for part in parts}
            self._finish()

    @property
    def is_recent(self) -> bool:
        """Whether another session may use it."""
        return monotonic() < self._expires

    def then(self, call: Callable[[], object]) -> None:
        """Call a function once all is collected, in this thread if it is already."""
        with self._lock:
            if not self._finished.is_set():
                self._waiting.append(call)
                return
        call()

    def wait(self, seconds: float, call: Callable[[], object] | None = None) -> bool:
        """Wait until all is collected.

        Args:
            seconds: how long to wait at most.
            call: a function passed to `then`, which is not called later. If no other function
                waits for a collection that takes longer, it is given up.

        Returns:
            Whether all is collected.
        """
        if self._finished.wait(seconds):
            return True
        with self._lock:
            self._waiting = [each for each in self._waiting if each != call]
            is_given_up = not self._waiting and not self._finished.is_set()
        if is_given_up:
            self._expires = 0.0
            self._thread.end()
        return self._finished.is_set()

    def _collect(self, stop: Event) -> None:
        for part in self._parts:
            if part not in self.artifacts:
                self._collect_part(part, stop)
            if stop.is_set():
                return
        self._finish()

    def _collect_part(self, part: Part, stop: Event) -> None:
        try:
            content = _recent(part, stop)
            self._expires = min(self._expires, content.expires)
            if content.content is not None and not stop.is_set():
                self.artifacts[part] = keep(self._files, part, content.content)
        except Exception as error:  # noqa: BLE001 - whatever fails, the run goes on
            self.problems[part] = f"{type(error).__name__}: {error}"

    def _finish(self) -> None:
        with self._lock:
            self._finished.set()
            waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()


def keep(files: ArtifactFolder, part: Part, content: bytes, owner: str = "") -> dict[str, Any]:
    """Store a part as an artifact and return its description; see `ArtifactFolder.put`."""
    name, media_type = FILES[part]
    return {**files.put(name, content, owner), "media_type": media_type, "captured": part}


_latest: dict[tuple[int, Path, tuple[Part, ...]], Collection] = {}


def collect(files: ArtifactFolder, parts: tuple[Part, ...]) -> Collection:
    """Return a recent collection for a folder; start one if there is none."""
    key = os.getpid(), files.path, parts
    collection = _latest.pop(key, None)
    if collection is None or not collection.is_recent:
        collection = Collection(files, parts)
    _latest[key] = collection
    while len(_latest) > _FOLDERS:
        del _latest[next(iter(_latest))]
    return collection
