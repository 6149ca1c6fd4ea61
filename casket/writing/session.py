"""The session: a run of a model with its params, to which metrics and artifacts are logged."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

import orjson

from casket.errors import (
    CasketError,
    CasketWarning,
    NotInASession,
    UnstorableValue,
)
from casket.format.records import Kind, Record, Writer, claim_key, new_id, utc
from casket.format.values import Encoder, plain_json, restore
from casket.stores.base import Claimed
from casket.system import forks, git, processes
from casket.system.secrets import redact
from casket.writing import claims, provenance
from casket.writing.backend import Backend, Owner
from casket.writing.refusal import ExistingParamsException

if TYPE_CHECKING:
    from casket.reading.nearest import Near
    from casket.reading.views import SessionView

LARGEST = 2**63 - 1

Batch = tuple[int, Mapping[str, Any], int | None, float]
"""A batch for `Session.add_batches`: its number, metrics by name, its epoch, and its time in
seconds since the epoch."""

_DIRTY_WAIT = 0.5
"""How many seconds the end of a session waits for git to report whether the code has changed."""


class SessionsModel(Protocol):
    """The interface of a model that sessions use."""

    id: str
    backend: Backend

    @property
    def experiment_id(self) -> str:
        """The id of the experiment of the model."""

    def view_of(self, holder: claims.Holder) -> SessionView:
        """Return the session that holds a claim."""

    def nearest_but(
        self, session_id: str | None, params: Mapping[str, Any], n: int = 3
    ) -> list[Near]:
        """Return the sessions whose params are nearest to `params`, except for a given session."""


class Session:
    """A run in progress; created by `Model.session` and ended by its `with` block.

    Logged data survives `kill -9` once the call has returned. Threads and forked children may log
    to the session; the exit of a child does not end it.

    Attributes:
        id: the id of the session, 16 hexadecimal digits.
        params: the hyperparameters, as JSON values.
    """

    def __init__(
        self,
        model: SessionsModel,
        params: Mapping[str, Any] | None,
        ensure_unique: bool,
        repeat: bool = False,
    ) -> None:
        self._prepare(model, params)
        if repeat:
            self._repeat()
        elif ensure_unique:
            self._begin_unique()
        else:
            self._begin_or_continue()
        self._backend.remember(self._owner, self._start_again)

    @classmethod
    def resumed(cls, model: SessionsModel, start: Record) -> Session:
        """Continue a session, regardless of its status.

        Args:
            model: the model of the session.
            start: a start of the session.
        """
        session = cls.__new__(cls)
        session._identify(model, start["body"]["params"], "extended" in start)
        session._continue(claims.look_at(model.backend, start["session"]))
        model.backend.remember(session._owner, session._start_again)
        return session

    @classmethod
    def resumed_last(cls, model: SessionsModel, params: Mapping[str, Any] | None) -> Session:
        """Continue the last session with these params that is not running, or start a session."""
        session = cls.__new__(cls)
        session._prepare(model, params)
        for earlier in reversed(claims.starts_with(model.backend, session._claim)):
            holder = claims.look_at(model.backend, earlier)
            if not holder.may_run and session._continues_alone(holder):
                break
        else:
            session._repeat()
        model.backend.remember(session._owner, session._start_again)
        return session

    @classmethod
    def of_one_result(
        cls, model: SessionsModel, params: Mapping[str, Any] | None, result: Any, index_by: Any
    ) -> None:
        """Write a complete session that contains a single result."""
        session = cls.__new__(cls)
        session._prepare(model, params)
        encoded, extended = session._backend.encode(result, "result")
        body = {"index": checked_index(index_by), "result": encoded}
        end = {"status": "completed", "of": session._writer.id}
        session._append(
            [
                session._start(),
                session._record("result", body, extended),
                session._record("end", end, False),
            ]
        )

    def _prepare(self, model: SessionsModel, params: Mapping[str, Any] | None) -> None:
        self._identify(model, *model.backend.encode(params or {}, "params"))

    def _identify(
        self, model: SessionsModel, stored_params: dict[str, Any], extended: bool
    ) -> None:
        """Set the attributes that are known before the session starts."""
        self.id = new_id()
        self._backend = model.backend
        self._append = model.backend.store.append
        self._append_json = getattr(model.backend.store, "append_json", None)
        self._writer = Writer()
        self._model = model
        self._experiment_id, self._model_id = model.experiment_id, model.id
        self._stored_params, self._extended = stored_params, extended
        self._claim = claim_key(self._experiment_id, self._model_id, stored_params)
        self.params: dict[str, Any] = stored_params
        if extended:
            self.params = restore(stored_params, self._backend.files.load_array)
        self._follows = 0
        self._ended = False
        self._pid = os.getpid()
        self.after_fork()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """Continue as the new writer that the child has become."""
        self._heads: dict[Kind, bytes] = {}
        self._dirty: git.DirtyCheck | None = None

    def __repr__(self) -> str:
        return f"<session {self.id} of {self._model!r}>"

    def __reduce__(self) -> NoReturn:
        raise CasketError(
            f"session {self.id} cannot be pickled or copied: send the model instead, and continue "
            "the session there with model.session(params, ensure_unique=False)"
        )

    @property
    def is_continued(self) -> bool:
        """Whether this handle continues a session that was started earlier."""
        return self._follows > 0

    @property
    def last_epoch(self) -> int | None:
        """The number of the last epoch, or None if there is none."""
        return self._last_number("epoch", "epoch_num")

    @property
    def last_batch(self) -> int | None:
        """The number of the last batch, or None if there is none."""
        return self._last_number("batch", "batch_num")

    def _last_number(self, kind: Kind, name: str) -> int | None:
        last = None
        for _, record in self._backend.store.records(session=self.id, kinds={kind}):
            last = record["body"][name]
        return last

    def __enter__(self) -> Session:
        return self

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        if exc is None:
            self.end()
            return
        try:
            if _is_pruning(exc):
                self.add_meta({"pruned": True})
            if _is_pruning(exc) or (isinstance(exc, SystemExit) and exc.code in (None, 0)):
                self.end()
            else:
                self.end("failed", error=describe(exc))
        except CasketError as error:
            # The exception of the user is being raised and must not be replaced by this error.
            warnings.warn(
                f"the session's end was not written: {error}", CasketWarning, stacklevel=2
            )

    def add_epoch(self, epoch_num: int, result: Mapping[str, Any], timestamp: bool = True) -> None:
        """Log an epoch.

        Args:
            epoch_num: the number of the epoch.
            result: the metrics by name.
            timestamp: whether to show readers the time of the epoch.

        Raises:
            UnstorableValue: `result` contains a value that cannot be stored; nothing was written.
            StoreUnavailable: the record could not be written.
        """
        lead = {"epoch_num": _number(epoch_num, "epoch_num")}
        self._log("epoch", lead, result, timestamp, "add_epoch")

    def add_batch(
        self,
        batch_num: int,
        result: Mapping[str, Any],
        epoch: int | None = None,
        timestamp: bool = True,
    ) -> None:
        """Log a batch or step.

        Args:
            batch_num: the number of the batch.
            result: the metrics by name.
            epoch: the number of the epoch of the batch.
            timestamp: whether to show readers the time of the batch.

        Raises:
            UnstorableValue: `result` contains a value that cannot be stored; nothing was written.
            StoreUnavailable: the record could not be written.
        """
        self._log("batch", _batch_lead(batch_num, epoch), result, timestamp, "add_batch")

    def add_batches(self, batches: Iterable[Batch]) -> None:
        """Log several batches in a single write, at little more than the cost of a single batch.

        Args:
            batches: the batches, as `(batch_num, result, epoch, seconds since the epoch)`.

        Raises:
            UnstorableValue: a batch contains a value that cannot be stored; nothing was written.
            StoreUnavailable: the records could not be written; nothing was written.
        """
        self._check_open("add_batches")
        records = []
        for batch_num, result, epoch, timestamp in batches:
            encoded, extended = self._backend.encode(result, "result")
            body = {**_batch_lead(batch_num, epoch), "result": encoded}
            records.append(self._record("batch", body, extended, utc(timestamp)))
        if records:
            self._append(records)

    def add_result(self, result: Mapping[str, Any], index_by: Any = None) -> None:
        """Log a result.

        Args:
            result: the values by name.
            index_by: the index of the result, such as `"test"`: text, a number, a bool or None.

        Raises:
            UnstorableValue: `result` contains a value that cannot be stored; nothing was written.
            StoreUnavailable: the record could not be written.
        """
        self._log("result", {"index": checked_index(index_by)}, result, True, "add_result")

    def add_meta(self, meta: Mapping[str, Any]) -> None:
        """Add information about the run, such as `{"gpu": "A100"}`.

        Args:
            meta: the values by name; they replace earlier values of the same name.

        Raises:
            UnstorableValue: `meta` contains a value that cannot be stored; nothing was written.
            StoreUnavailable: the record could not be written.
        """
        encoded, extended = self._backend.encode(meta, "meta")
        self._write("meta", encoded, extended, "add_meta")

    def add_artifact(self, name: str, source: Any) -> None:
        """Store a file, bytes, a figure or an object as an artifact, beside the store.

        Args:
            name: the name of the artifact; its suffix determines the media type.
            source: the path of a file to copy; bytes; a matplotlib or plotly figure; a PIL image;
                or any other object, which is serialized with joblib or pickle.

        Raises:
            UnstorableValue: the object cannot be serialized.
            StoreUnavailable: the file cannot be read, or its copy cannot be written.
        """
        self._check_open("add_artifact")
        self._write("artifact", self._backend.files.put(name, source), False, "add_artifact")

    def add_tag(self, tag: str) -> None:
        """Add a tag to the session, which may have ended; an existing tag is ignored."""
        self._annotate(add=checked_tags([tag]))

    def remove_tag(self, tag: str) -> None:
        """Remove a tag from the session, which may have ended; a missing tag is ignored."""
        self._annotate(remove=checked_tags([tag]))

    def note(self, text: str) -> None:
        """Replace the note of the session, which may have ended; an empty text removes it.

        Raises:
            UnstorableValue: the note is not text.
        """
        self._annotate(note=_text(text, "note"))

    def _annotate(self, **changes: Any) -> None:
        self._append([self._record("tag", {"add": [], "remove": [], **changes}, False)])

    def end(
        self, status: Literal["completed", "failed"] = "completed", error: str | None = None
    ) -> None:
        """End the session, as its `with` block does; ending it again has no effect.

        Args:
            status: the final status.
            error: the exception that ended the session; secrets in it are replaced by `***`.

        Raises:
            StoreUnavailable: the end could not be written.
        """
        if self._ended or os.getpid() != self._pid:
            return
        self._note_dirty(_DIRTY_WAIT)
        body = {"status": status, "of": self._writer.id}
        if error is not None:
            body["error"] = redact(error)
        self._append([self._record("end", body, False)])
        self._ended = True
        self._backend.forget(self._owner)

    def _log(
        self, kind: Kind, lead: dict[str, Any], result: Any, timestamp: bool, method: str
    ) -> None:
        """Write a record whose body contains the members of `lead` and a `result`."""
        text = plain_json(result) if type(result) is dict else None
        if text is not None and timestamp and self._append_json is not None:
            if self._ended or self._dirty is not None:
                self._prepare_to_write(method)
            if kind not in self._heads:
                self._heads[kind] = self._writer.head(kind, **self._fields)
            body = b'%b,"result":%b}' % (orjson.dumps(lead)[:-1], text)
            self._append_json(self._writer.text(self._heads[kind], body))
            return
        encoded, extended = (result, False) if text else self._backend.encode(result, "result")
        shown = {} if timestamp else {"timestamp": False}
        self._write(kind, {**lead, "result": encoded, **shown}, extended, method)

    def _write(self, kind: Kind, body: dict[str, Any], extended: bool, method: str) -> None:
        self._prepare_to_write(method)
        self._append([self._record(kind, body, extended)])

    def _prepare_to_write(self, method: str) -> None:
        if self._ended:
            self._check_open(method)
        if self._dirty is not None:
            self._note_dirty(0.0)

    def _record(
        self, kind: Kind, body: dict[str, Any], extended: bool, time: str | None = None
    ) -> Record:
        record = self._writer.record(kind, body, time, **self._fields)
        if extended:
            record["extended"] = True
        return record

    @property
    def _fields(self) -> dict[str, str]:
        """The ids of the experiment, model and session, as in all records of the session."""
        return {"experiment": self._experiment_id, "model": self._model_id, "session": self.id}

    def _check_open(self, method: str) -> None:
        if self._ended:
            raise NotInASession(method, f"came after session {self.id} had ended")

    def _begin_unique(self) -> None:
        """Start the session, unless a running or completed session has these params.

        Raises:
            ExistingParamsException: a running or completed session has these params.
        """
        start = self._start()
        ends: dict[str, list[Record]] = {}
        refused: list[tuple[str, int]] = []
        while True:
            try:
                self._append([*chain(*ends.values()), start], claim=self._claim)
                return
            except Claimed as claimed:
                holder = self._holder(claimed, refused)
            if not holder.is_released and (holder.may_run or holder.is_completed):
                raise self._existing(holder)
            # Accumulated, because repetitions allow several sessions to hold the claim.
            ends[holder.session] = holder.ends(self._backend)

    def _holder(self, claimed: Claimed, refused: list[tuple[str, int]]) -> claims.Holder:
        """Return the state of the session that holds the claim.

        Args:
            claimed: the refusal of the store.
            refused: the sessions returned before, with the number of their records.

        Raises:
            CasketError: the store keeps refusing although its records do not show a reason.
        """
        holder = claims.look_at(self._backend, claimed.session or "")
        # Either another process has written since, or the missing ends are written next.
        state = (holder.session, len(holder.life))
        if refused.count(state) > 1:
            raise CasketError(
                f"{self._backend.location}: session {claimed.session} holds these params, but its "
                "records do not show why; `casket doctor` examines the file"
            )
        refused.append(state)
        return holder

    def _existing(self, holder: claims.Holder) -> ExistingParamsException:
        """Return the exception, which reads its details on access."""
        model, params = self._model, self.params
        return ExistingParamsException(
            lambda: model.view_of(holder),
            lambda: model.nearest_but(holder.session, params),
        )

    def _begin_or_continue(self) -> None:
        refused: list[tuple[str, int]] = []
        while True:
            for earlier in reversed(claims.starts_with(self._backend, self._claim)):
                self._continue(claims.look_at(self._backend, earlier))
                return
            try:
                self._append([self._start()], claim=self._claim)
                return
            except Claimed as claimed:
                self._holder(claimed, refused)  # another process has just started a session

    def _continue(self, holder: claims.Holder) -> None:
        self.id = holder.session
        self._follows = len(holder.life.starts)
        self._append([*holder.ends(self._backend), self._start()])

    def _continues_alone(self, holder: claims.Holder) -> bool:
        """Continue a session that was not running, unless another process is doing so.

        Claims the next position in the order of its writers, so that only one process succeeds.

        Returns:
            Whether this process continues the session.
        """
        self.id = holder.session
        self._follows = len(holder.life.starts)
        place = self._claim_of("follows", [self.id, self._follows])
        records = [*holder.ends(self._backend), self._start(), self._claiming(place, {})]
        try:
            self._append(records, claim=place)
        except Claimed:
            self.id, self._follows = new_id(), 0
            return False
        return True

    def _claim_of(self, name: str, value: Any) -> str:
        """Return the key of an additional claim, beside the claim on the params."""
        identity = [self._stored_params, name, value]
        return claim_key(self._experiment_id, self._model_id, identity)

    def _claiming(self, claim: str, meta: dict[str, Any]) -> Record:
        """Return a record that holds an additional claim, beside the claim of the start."""
        record = self._record("meta", meta, False)
        record["claim"] = claim
        return record

    def _repeat(self) -> None:
        """Start a session even if others have these params, and number the repetition.

        The number is claimed in addition to the params, so that repetitions have distinct numbers.
        """
        earlier = claims.starts_with(self._backend, self._claim)
        if not earlier:
            # If another process is starting the first session, this session is a repetition.
            with suppress(Claimed):
                self._append([self._start()], claim=self._claim)
                return
        start = self._start()
        numbers = [known["body"].get("repeat", 0) for known in earlier.values()]
        for number in count(max(numbers, default=0) + 1):
            claim = self._claim_of("repeat", number)
            start["body"]["repeat"] = number
            with suppress(Claimed):
                self._append([start, self._claiming(claim, {"repeat": number})], claim=claim)
                return

    def _start(self) -> Record:
        with forks.held_off():
            meta = provenance.provenance()
            self._dirty = git.dirty_check()
        meta["dirty"] = self._dirty.result()
        if self._dirty.done:
            self._dirty = None
        meta, is_meta_extended = self._backend.encode(meta, "meta")
        body: dict[str, Any] = {
            "params": self._stored_params,
            "meta": meta,
            "process": processes.this_process(),
        }
        if self._follows:
            body["follows"] = self._follows
        record = self._record("session", body, self._extended or is_meta_extended)
        record["claim"] = self._claim
        self._started = record
        return record

    def _start_again(self) -> Record:
        """Return the start for a replacement file in which the session continues."""
        again = self._started.copy()
        again["n"] = next(self._writer.numbers)
        continued_from = {"session": self.id, "records": again["n"] - 1}
        meta = {**again["body"]["meta"], "continued_from": continued_from}
        again["body"] = {**again["body"], "meta": meta}
        return again

    @property
    def _owner(self) -> Owner:
        return self._experiment_id, self._model_id, self.id

    def _note_dirty(self, wait: float) -> None:
        """Log whether the working copy has changed, once git has reported it."""
        check = self._dirty
        if check is None:
            return
        dirty = check.result(wait)
        if check.done or wait:
            self._dirty = None
        if dirty is not None:
            self._append([self._record("meta", {"dirty": dirty}, False)])


def describe(error: BaseException) -> str:
    """Return the type and message of an exception."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _is_pruning(error: BaseException) -> bool:
    """Return whether an exception ends a run that is complete nevertheless."""
    names = {(base.__module__.partition(".")[0], base.__name__) for base in type(error).__mro__}
    return ("optuna", "TrialPruned") in names or (
        getattr(error, "casket_status", None) == "completed"
    )


def checked_tags(tags: Iterable[str]) -> list[str]:
    """Return tags as a list; a string is a single tag.

    Raises:
        UnstorableValue: a tag is not text.
    """
    return [_text(tag, "tags") for tag in ((tags,) if isinstance(tags, str) else tags)]


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise UnstorableValue(name, type(value).__name__, "give text")
    text: str = Encoder().encode(value, name)
    return text


def checked_index(index_by: Any) -> Any:
    """Return an index as a JSON scalar.

    Raises:
        UnstorableValue: the index is not a scalar.
    """
    encoder = Encoder()
    index = encoder.encode(index_by, "index_by")
    if encoder.extended or isinstance(index, (list, dict)):
        raise UnstorableValue("index_by", type(index_by).__name__, "give text, a number or a bool")
    return index


def _batch_lead(batch_num: int, epoch: int | None) -> dict[str, Any]:
    return {
        "batch_num": _number(batch_num, "batch_num"),
        "epoch": None if epoch is None else _number(epoch, "epoch"),
    }


def _number(value: Any, name: str) -> int:
    if type(value) is int and -LARGEST <= value <= LARGEST:
        return value
    if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise UnstorableValue(name, "a whole number beyond 64 bits", "count from a smaller one")
    if hasattr(value, "__index__") or (isinstance(value, float) and value.is_integer()):
        return int(value)
    hint = "give a whole number; add_batch logs steps within an epoch"
    raise UnstorableValue(name, type(value).__name__, hint)
