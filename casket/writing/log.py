"""The log of a session: the records that a handle appends to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from casket.format.records import Kind, Record, Writer, claim_key, new_id
from casket.format.values import plain_json, restore
from casket.system import forks, git, processes
from casket.writing import provenance
from casket.writing.backend import Backend, Owner
from casket.writing.parent import Parent


class SessionLog:
    """Creates and appends the records of a session.

    A forked child continues as a new writer.

    Args:
        backend: the open store.
        experiment: the id of the experiment.
        model: the id of the model.
        stored_params: the encoded params.
        extended: whether the encoded params contain extended values.
        parent: the id of the session whose child it is, if any.

    Attributes:
        id: the id of the session.
        params: the params, as JSON values.
        claim: the claim on the params.
        follows: the number of starts of the session before this one.
        repeats: whether the session starts even if others have its params.
        labels: further members of the start, such as `name`.
        append: the method `append` of the store.
        meta: values to add to the meta of the start.
        append_later: the same, without waiting for a far store to confirm the end of a session.
    """

    def __init__(
        self,
        backend: Backend,
        experiment: str,
        model: str,
        stored_params: dict[str, Any],
        extended: bool = False,
        parent: str | None = None,
    ) -> None:
        self.id = new_id()
        self.backend = backend
        self.append = backend.store.append
        self.append_later = getattr(backend.store, "append_later", backend.store.append)
        self._append_json = getattr(backend.store, "append_json", None)
        self.writer = Writer()
        self._experiment, self._model = experiment, model
        self._parent = parent
        self._set_params(stored_params, extended)
        self.follows = 0
        self.meta: dict[str, Any] = {}
        self.repeats = False
        self.labels: dict[str, Any] = {}
        self.after_fork()
        forks.renew_in_children(self)

    def renew(self) -> None:
        """Become another session and writer, after a start that was refused.

        The numbers of the refused records would be missing from those of the same writer.
        """
        self.id, self.follows = new_id(), 0
        self.writer = Writer()

    def after_fork(self) -> None:
        """Continue as the new writer that the child has become."""
        self._heads: dict[Kind, bytes] = {}
        self._dirty: git.DirtyCheck | None = None

    def _set_params(self, stored_params: dict[str, Any], extended: bool) -> None:
        self._stored_params, self._extended = stored_params, extended
        self.claim = self.claim_on(stored_params)
        self.params: dict[str, Any] = stored_params
        if extended:
            self.params = restore(stored_params, self.backend.files.load_array)

    @property
    def as_parent(self) -> Parent:
        """The session as the parent of others."""
        return Parent(self.id, self._stored_params, self._extended)

    @property
    def owner(self) -> Owner:
        """The ids of the experiment, model and session."""
        return self._experiment, self._model, self.id

    def write(self, kind: Kind, body: dict[str, Any], extended: bool = False) -> None:
        """Append a record."""
        self.note_dirty()
        self.append([self.record(kind, body, extended)])

    def write_all(self, records: list[Record]) -> None:
        """Append several records at once."""
        self.note_dirty()
        self.append(records)

    def write_result(
        self, kind: Kind, lead: dict[str, Any], result: Mapping[str, Any], timestamp: bool
    ) -> None:
        """Append a record whose body contains the members of `lead` and a `result`.

        Args:
            kind: the kind of the record.
            lead: the first members of the body.
            result: the values by name.
            timestamp: whether readers show the time of the record.

        Raises:
            UnstorableValue: `result` contains a value that cannot be stored.
        """
        text = plain_json(result) if type(result) is dict else None
        if text is not None and timestamp and self._append_json is not None:
            if self._dirty is not None:
                self.note_dirty()
            if kind not in self._heads:
                self._heads[kind] = self.writer.head(kind, **self._fields)
            body = b'%b,"result":%b}' % (orjson.dumps(lead)[:-1], text)
            self._append_json(self.writer.text(self._heads[kind], body))
            return
        encoded, extended = (result, False) if text else self.backend.encode(result, "result")
        shown = {} if timestamp else {"timestamp": False}
        self.write(kind, {**lead, "result": encoded, **shown}, extended)

    def record(
        self, kind: Kind, body: dict[str, Any], extended: bool = False, time: str | None = None
    ) -> Record:
        """Create a record of the session."""
        record = self.writer.record(kind, body, time, **self._fields)
        if extended:
            record["extended"] = True
        return record

    @property
    def _fields(self) -> dict[str, str]:
        """The ids of the experiment, model and session, as in all records of the session."""
        return {"experiment": self._experiment, "model": self._model, "session": self.id}

    def start(self) -> Record:
        """Create the start of the session."""
        with forks.held_off():
            meta = {**provenance.provenance(), **self.meta}
            self._dirty = git.dirty_check()
        meta["dirty"] = self._dirty.result()
        if self._dirty.done:
            self._dirty = None
        meta, is_meta_extended = self.backend.encode(meta, "meta")
        body: dict[str, Any] = {
            "params": self._stored_params,
            "meta": meta,
            "process": processes.this_process(),
            **self.labels,
        }
        if self._parent:
            body["parent"] = self._parent
        if self.follows:
            body["follows"] = self.follows
        record = self.record("session", body, self._extended or is_meta_extended)
        record["claim"] = self.claim
        self._started = record
        return record

    def start_again(self) -> Record:
        """Return the start for a replacement file in which the session continues."""
        again = self._started.copy()
        again["n"] = next(self.writer.numbers)
        continued_from = {"session": self.id, "records": again["n"] - 1}
        meta = {**again["body"]["meta"], "continued_from": continued_from}
        again["body"] = {**again["body"], "meta": meta}
        return again

    def changed_start(self, params: Mapping[str, Any], changes: int) -> Record:
        """Create the start that changes the params of the session, without its number.

        Args:
            params: the params to add.
            changes: how often the params have been changed, this time included.
        """
        added, extended = self.backend.encode(params, "params")
        start = self._started.copy()
        start["body"] = {
            **start["body"],
            "params": {**self._stored_params, **added},
            "changes": changes,
        }
        start["claim"] = self.claim_on(start["body"]["params"])
        if extended:
            start["extended"] = True
        return start

    def adopt(self, start: Record) -> None:
        """Continue with the params of an appended start."""
        self._set_params(start["body"]["params"], "extended" in start)
        self._started = start

    def claim_on(self, identity: Any) -> str:
        """Return the key of a claim within the model, and within the parent if there is one."""
        return claim_key(self._experiment, self._model, identity, self._parent)

    def note_dirty(self, wait: float = 0.0) -> None:
        """Log whether the working copy has changed, once git has reported it.

        Args:
            wait: the maximum number of seconds to wait for git.
        """
        check = self._dirty
        if check is None:
            return
        dirty = check.result(wait)
        if check.done or wait:
            self._dirty = None
        if dirty is not None:
            self.append([self.record("meta", {"dirty": dirty})])
