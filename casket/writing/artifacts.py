"""The artifacts that a session handle stores."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from casket.errors import UnstorableValue
from casket.format.artifacts import Description
from casket.format.intact import is_intact
from casket.format.records import Record
from casket.format.references import Identity, freed_by, identity_of
from casket.writing.arguments import checked_number
from casket.writing.log import SessionLog

Keep = Literal["last"] | None
Files = dict[str, dict[Identity, str]]
"""The files of artifacts, by the name of the artifact and the identity of its record."""


class NotGiven:
    """The default of an argument for which None is a value."""

    def __repr__(self) -> str:
        return "not given"


NOT_GIVEN: Final = NotGiven()


class ArtifactLog:
    """Stores the artifacts of a session.

    An artifact that keeps its last only has files of its own, so that an earlier one can be removed
    without a look at what other sessions refer to.

    Args:
        log: the log of the session.
    """

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._files: Files | None = None

    def add(
        self, name: str, source: Any, *, step: int | None, text: str | None, keep: Keep
    ) -> None:
        """Store an artifact, or each file of a folder as one; see `Session.add_artifact`."""
        if keep not in (None, "last"):
            raise UnstorableValue("keep", repr(keep), "give 'last' or None")
        shared = {} if step is None else {"step": checked_number(step, "step")}
        records = [
            self._log.record("artifact", {**body, **shared})
            for body in self._stored(name, source, text, keep)
        ]
        unneeded = [file for record in records for file in self._free(record)] if keep else []
        self._log.write_all(records)
        if self._files is not None:
            for record in records:
                _note(self._files, record)
        for file in unneeded:
            self._log.backend.files.remove(file)

    def _stored(self, name: str, source: Any, text: str | None, keep: Keep) -> list[Description]:
        files = self._log.backend.files
        owner = _owner(self._log.id, name) if keep else ""
        if (text is None) == (source is NOT_GIVEN):
            hint = "give one of them"
            given = "neither a source nor text=" if text is None else "a source and text="
            raise UnstorableValue(f"artifact {name!r}", given, hint)
        if text is not None:
            return [files.put_text(name, text, owner)]
        if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
            owner_of = partial(_owner, self._log.id) if keep else lambda _: ""
            return files.put_folder(name, Path(os.fsdecode(source)), owner_of)
        return [files.put(name, source, owner)]

    def _free(self, record: Record) -> list[str]:
        """Let a record free the earlier artifacts of its name; return their own files."""
        body = record["body"]
        replaced = self._known().get(body["name"], {})
        body["freed"] = [list(identity) for identity in replaced]
        owner = _owner(self._log.id, body["name"])
        return [file for file in replaced.values() if owner in file and file != body["file"]]

    def _known(self) -> Files:
        """Return the files of the artifacts of the session, by name and record."""
        if self._files is None:
            self._files = {}
            store = self._log.backend.store
            for _, record in store.records(session=self._log.id, kinds={"artifact", "tag"}):
                if is_intact(record):
                    _note(self._files, record)
        return self._files


def _note(files: Files, record: Record) -> None:
    freed = set(freed_by(record))
    for named in files.values() if freed else ():
        for identity in freed & named.keys():
            del named[identity]
    if record["kind"] == "artifact":
        body = record["body"]
        files.setdefault(body["name"], {})[identity_of(record)] = body["file"]


def _owner(session: str, name: str) -> str:
    """Return the part of the names of files that belong to an artifact of one session alone."""
    import hashlib  # loads OpenSSL, which a session without artifacts does not need

    owner = f"{session}/{name}".encode(errors="surrogatepass")  # a name is checked later
    return f"-{hashlib.sha256(owner).hexdigest()[:16]}"
