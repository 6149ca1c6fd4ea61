"""The session: a run of a model with its params, to which metrics and artifacts are logged."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from casket.errors import CasketError, CasketWarning, NotInASession
from casket.format.names import two_words
from casket.format.records import Kind, Level, Record, utc
from casket.system.secrets import redact
from casket.writing import around, capture, leaving, provenance, starting
from casket.writing.arguments import (
    checked_index,
    checked_level,
    checked_number,
    checked_tags,
    checked_text,
)
from casket.writing.artifacts import NOT_GIVEN, ArtifactLog
from casket.writing.capture.choices import NOTHING, Plan
from casket.writing.data import DataLog
from casket.writing.log import SessionLog
from casket.writing.outcome import describe, is_pruning
from casket.writing.parent import Parent
from casket.writing.starting import SessionsModel

if TYPE_CHECKING:
    from casket.reading.views import SessionView

Batch = tuple[int, Mapping[str, Any], int | None, float]
"""A batch for `Session.add_batches`: its number, metrics by name, its epoch, and its time in
seconds since the epoch."""

Append = Callable[[Sequence[Record]], Any]

_DIRTY_WAIT = 0.5
"""How many seconds the end of a session waits for git to report whether the code has changed."""


class Session:
    """A run in progress; created by `Model.session` and ended by its `with` block.

    Logged data survives `kill -9` once the call has returned. Threads and forked children may log
    to the session; the exit of a child does not end it.
    """

    def __init__(self, model: SessionsModel, log: SessionLog, plan: Plan = NOTHING) -> None:
        """Wrap the log of a session that has started, and begin to record as planned."""
        self._model = model
        self._log = log
        self._artifacts = ArtifactLog(log)
        self._data = DataLog(log)
        self._ended = False
        self._verdict: tuple[str, str | None] | None = None
        self._pid = os.getpid()
        if not self.is_continued:
            self._steps = count()
        self._at_end: list[Callable[[], object]] = []
        log.backend.remember(log.owner, log.start_again)
        around.enter(self)
        leaving.watch(self, log, self._end_at_exit)
        self._recording = capture.begin(log, plan)

    @property
    def id(self) -> str:
        """The id of the session, 16 hexadecimal digits."""
        return self._log.id

    @property
    def params(self) -> dict[str, Any]:
        """The hyperparameters, as JSON values."""
        return self._log.params

    @property
    def as_parent(self) -> Parent:
        """The session as the parent of others."""
        return self._log.as_parent

    def is_of(self, model: SessionsModel) -> bool:
        """Return whether this is a session of a model, perhaps by another handle."""
        own, other = self._model, model
        is_same = (own.experiment_id, own.id) == (other.experiment_id, other.id)
        return is_same and own.backend.is_same_store(other.backend)

    @property
    def name(self) -> str:
        """The name of the session; without one, two words made from its id.

        It can be set, also after the session has ended; an empty name removes it.
        """
        head = self._head()
        return head.name if head else two_words(self.id)

    @name.setter
    def name(self, name: str) -> None:
        self._annotate(name=checked_text(name, "name"))

    @property
    def group(self) -> str | None:
        """The group of the session; it can be set like the name."""
        head = self._head()
        return head.group if head else None

    @group.setter
    def group(self, group: str) -> None:
        self._annotate(group=checked_text(group, "group"))

    def _head(self) -> SessionView | None:
        return self._model.read_head(self.id)

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
        return self._log.follows > 0

    @property
    def last_epoch(self) -> int | None:
        """The number of the last epoch, or None if there is none."""
        return self._last_number("epoch", "epoch_num")

    @property
    def last_batch(self) -> int | None:
        """The number of the last batch, or None if there is none."""
        return self._last_number("batch", "batch_num")

    @cached_property
    def _steps(self) -> Iterator[int]:
        """The numbers that `log` gives to steps; of a continued session, after its last batch."""
        last = self.last_batch
        return count(0 if last is None else last + 1)

    def _last_number(self, kind: Kind, name: str) -> int | None:
        last = None
        for _, record in self._log.backend.store.records(session=self.id, kinds={kind}):
            last = record["body"][name]
        return last

    def __enter__(self) -> Session:
        return self

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        if exc is None:
            self.end()
            return
        try:
            if is_pruning(exc):
                self.add_meta({"pruned": True})
            if is_pruning(exc) or (isinstance(exc, SystemExit) and exc.code in (None, 0)):
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
        lead = {"epoch_num": checked_number(epoch_num, "epoch_num")}
        self._write_result("epoch", lead, result, timestamp, "add_epoch")

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
        lead = _batch_lead(batch_num, epoch)
        self._write_result("batch", lead, result, timestamp, "add_batch")
        self._steps = count(lead["batch_num"] + 1)

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
            encoded, extended = self._log.backend.encode(result, "result")
            body = {**_batch_lead(batch_num, epoch), "result": encoded}
            records.append(self._log.record("batch", body, extended, utc(timestamp)))
        if records:
            self._log.append(records)
            self._steps = count(records[-1]["body"]["batch_num"] + 1)

    def log(self, result: Mapping[str, Any], step: int | None = None) -> None:
        """Log a batch or step, counting the steps if they have no number.

        Args:
            result: the metrics by name.
            step: the number of the step; by default the one after the last, starting from 0.

        Raises:
            UnstorableValue: `result` contains a value that cannot be stored; nothing was written.
            StoreUnavailable: the record could not be written.
        """
        if step is not None:
            self.add_batch(step, result)
            return
        self._write_result("batch", _batch_lead(next(self._steps), None), result, True, "log")

    def add_result(self, result: Mapping[str, Any], index_by: Any = None) -> None:
        """Log a result.

        Args:
            result: the values by name.
            index_by: the index of the result, such as `"test"`: text, a number, a bool or None.

        Raises:
            UnstorableValue: `result` contains a value that cannot be stored; nothing was written.
            StoreUnavailable: the record could not be written.
        """
        self._write_result("result", {"index": checked_index(index_by)}, result, True, "add_result")

    def add_params(self, params: Mapping[str, Any]) -> None:
        """Add params that become known after the session has started.

        Before the first epoch, batch, result or child they change the identity of the session: its
        claim on the earlier params is released. Afterwards, and while another process has the
        session open, they are added to the meta; those with a name that casket itself uses there,
        such as `start` or `job`, as `params.NAME`.

        Args:
            params: the params to add; they replace earlier params of the same name.

        Raises:
            ExistingParamsException: a running or completed session of this model has these
                params, and this session is no repetition; it stays as it was.
            UnstorableValue: the params contain a value that cannot be stored; nothing was written.
            StoreUnavailable: the params could not be written.
        """
        self._check_open("add_params")
        if not starting.add_params(self._log, params, self._model):
            encoded, extended = self._log.backend.encode(params, "params")
            self._log.write("meta", provenance.beside(encoded), extended)

    def add_meta(self, meta: Mapping[str, Any]) -> None:
        """Add information about the run, such as `{"gpu": "A100"}`.

        Args:
            meta: the values by name; they replace earlier values of the same name.

        Raises:
            UnstorableValue: `meta` contains a value that cannot be stored; nothing was written.
            StoreUnavailable: the record could not be written.
        """
        encoded, extended = self._log.backend.encode(meta, "meta")
        self._check_open("add_meta")
        self._log.write("meta", encoded, extended)

    def add_artifact(
        self,
        name: str,
        source: Any = NOT_GIVEN,
        *,
        step: int | None = None,
        text: str | None = None,
        keep: Literal["last"] | None = None,
    ) -> None:
        """Store a file, a folder, bytes, text, a figure or an object as an artifact.

        Args:
            name: the name of the artifact; its suffix determines the format and the media type.
            source: the path of a file, or of a folder, of which each file becomes an artifact named
                by `name` and its relative path; bytes; an open binary file; a figure, an image, an
                array, a table, a dict, a list or weights in the format of the suffix; or any other
                object, which is serialized with joblib or pickle.
            step: the step that the artifact belongs to.
            text: the content as text, instead of a source.
            keep: `"last"` to remove earlier artifacts of the name in this session.

        Raises:
            UnstorableValue: the object cannot be serialized.
            StoreUnavailable: a file cannot be read, or its copy cannot be written.
            CasketError: a folder contains no files, or a link to one of its own parents.
        """
        self._check_open("add_artifact")
        self._artifacts.add(name, source, step=step, text=text, keep=keep)

    def add_data(self, name: str, data: Any) -> None:
        """Store a fingerprint of data in `meta["data"][name]`, but not the data.

        The hash is the same for equal data in every process and on every machine. `kind`, `rows`,
        `columns` and `bytes` describe the data as far as they are known.

        Args:
            name: the name of the data, such as `"train"`.
            data: the path of a file or folder; bytes; an open binary file; an array or tensor; a
                table of pandas or polars; or lists and dicts of them.

        Raises:
            UnstorableValue: the data is of another kind.
            StoreUnavailable: a file cannot be read, or the record could not be written.
        """
        self._check_open("add_data")
        self._data.add(name, data)

    def alert(self, title: str, text: str = "", level: Level = "warning") -> None:
        """Log an alert, which `casket watch` forwards and `view.alerts` lists.

        Args:
            title: the subject.
            text: the details.
            level: `"info"`, `"warning"` or `"error"`.

        Raises:
            UnstorableValue: the title or the text is not text, or there is no such level.
            StoreUnavailable: the record could not be written.
        """
        body = {
            "title": checked_text(title, "title"),
            "text": checked_text(text, "text"),
            "level": checked_level(level),
        }
        self._check_open("alert")
        self._log.write("alert", body)

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
        self._annotate(note=checked_text(text, "note"))

    def _annotate(self, **changes: Any) -> None:
        self._log.append([self._log.record("tag", {"add": [], "remove": [], **changes})])

    def should_prune(self) -> bool:
        """Return whether to end the session early, by raising `optuna.TrialPruned`.

        The pruner given to `casket_integrations.optuna.suggest` decides, from the values of the
        metric that this and other sessions have logged. Without a pruner it is False.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        return False

    def child(
        self,
        params: Mapping[str, Any] | None = None,
        ensure_unique: bool = True,
        *,
        repeat: bool = False,
        name: str | None = None,
    ) -> Session:
        """Start or continue a child of this session, such as a fold of a cross-validation.

        It is a session of the same model; it ends on its own and may have children, too.

        Args:
            params: its hyperparameters, which are added to those of this session.
            ensure_unique: as for `Model.session`; only the children of this session are considered.
            repeat: as for `Model.session`; only the children of this session are considered.
            name: as for `Model.session`.

        Raises:
            NotInASession: this session has ended.
            ExistingParamsException: a running or completed child has these params.
            UnstorableValue: the params contain a value that cannot be stored.
            StoreUnavailable: the start cannot be written.
        """
        self._check_open("child")
        model = self._model.within(self.as_parent)
        child: Session = model.session(params, ensure_unique, repeat=repeat, name=name)
        return child

    def summarize_children(self) -> dict[str, float]:
        """Log the mean and the standard deviation of the metrics of the completed children.

        They become a result of this session: the mean under the name of the metric, and the sample
        standard deviation under `<name>.std`, which is NaN for a single child. Another call adds a
        newer result.

        Returns:
            The result; empty, and not logged, if no child is completed.

        Raises:
            NotInASession: this session has ended.
            StoreUnavailable: the store cannot be read or written.
        """
        from casket.reading.summary import means_of

        self._check_open("summarize_children")
        means = means_of(self._model.children_of(self.id))
        if means:
            self.add_result(means)
        return means

    def end(
        self,
        status: Literal["completed", "failed", "killed"] = "completed",
        error: str | None = None,
    ) -> None:
        """End the session, as its `with` block does; ending it again has no effect.

        Args:
            status: the final status; `"killed"` for a run that was ended from outside.
            error: the exception that ended the session; secrets in it are replaced by `***`.

        Raises:
            StoreUnavailable: the end could not be written.
        """
        self._end(status, error, self._log.append)

    def _end_at_exit(self, status: Literal["completed", "failed"], error: str | None) -> None:
        """End the session without waiting for a far store, which is closed after all have ended."""
        self._end(status, error, self._log.append_later)

    def _end(self, status: str, error: str | None, append: Append) -> None:
        if self._ended or os.getpid() != self._pid:
            return
        # An end that could not be written is written later, such as when the process leaves.
        self._verdict = status, error = self._verdict or (status, error)
        self._log.note_dirty(_DIRTY_WAIT)
        # Taken first: a signal handler may end the session meanwhile.
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.end()
        if self._ended:
            return
        body = {"status": status, "of": self._log.writer.id}
        if error is not None:
            body["error"] = redact(error)
        append([self._log.record("end", body)])
        self._ended = True
        leaving.forget(self)
        self._log.backend.forget(self._log.owner)
        around.leave(self)
        for function in self._at_end:
            function()

    def at_end(self, function: Callable[[], object]) -> None:
        """Call a function when this handle ends the session, as adapters need it."""
        self._at_end.append(function)

    def _write_result(
        self, kind: Kind, lead: dict[str, Any], result: Any, timestamp: bool, method: str
    ) -> None:
        if self._ended:
            self._check_open(method)
        self._log.write_result(kind, lead, result, timestamp)

    def _check_open(self, method: str) -> None:
        if self._ended:
            raise NotInASession(method, f"came after session {self.id} had ended")


def _batch_lead(batch_num: int, epoch: int | None) -> dict[str, Any]:
    return {
        "batch_num": checked_number(batch_num, "batch_num"),
        "epoch": None if epoch is None else checked_number(epoch, "epoch"),
    }
