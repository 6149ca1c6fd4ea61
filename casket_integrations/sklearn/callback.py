"""`CasketCallback`: how far a fit is, by scikit-learn's own callbacks (1.9 and later)."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from casket import CasketWarning, Model
from casket.writing.session import describe
from casket_integrations.recorder import Recorder
from casket_integrations.sklearn.describe import estimator_params
from casket_integrations.sklearn.progress import Progress

try:
    # What scikit-learn's own callbacks reach the main process with.
    from sklearn.callback import _transport as transport  # type: ignore[import-untyped]
except ImportError:
    transport = None

Path = tuple[int, ...]
Key = tuple[Any, Path]
Message = dict[str, Any]


class CasketCallback:
    """Shows in a terminal how far a fit is, and writes down when its tasks begin and end.

    `search.set_callbacks(CasketCallback())` sets it on any estimator that supports callbacks:
    searches, pipelines, `LogisticRegression`. Before scikit-learn 1.9 no estimator does, and it is
    never called. It sees no scores; `LoggedGridSearchCV` logs those.

    Args:
        model: a casket Model; each fit becomes a session with a batch for each begin and end of a
            task. None: the progress is shown, and nothing is written.
    """

    def __init__(self, model: Model | None = None) -> None:
        self.model = model
        self._listeners: dict[Key, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the store behind while a fit is watched: its workers only tell this process."""
        return {**self.__dict__, "model": None} if self._listeners else self.__dict__

    def setup(self, estimator: Any, context: Any) -> None:
        """Begin to watch a fit."""
        with _forgiving():
            key = _key(context)
            run = _runs[key] = _Run(self.model, estimator)
            self._listeners[key] = transport.open_listener(run.take) if transport else None

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Note that a task begins."""
        with _forgiving():
            self._send({"event": "begin", **_facts(estimator, context)}, context)

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Note that a task has ended."""
        with _forgiving():
            self._send({"event": "end", **_facts(estimator, context)}, context)

    def teardown(self, estimator: Any, context: Any) -> None:  # noqa: ARG002 - the protocol
        """End, as the fit did."""
        with _forgiving():
            key = _key(context)
            listener = self._listeners.pop(key, None)
            if listener is not None:
                transport.close_listener(listener)
            if key in _runs:
                _runs.pop(key).end()

    def _send(self, message: Message, context: Any) -> None:
        """Hand a message to the run it belongs to, which may be another process's."""
        while context is not None:
            key = _key(context)
            if key in _runs:
                _runs[key].take(message)
                return
            if self._listeners.get(key) is not None:
                transport.send(self._listeners[key], message)
                return
            context = context.parent


class _Run:
    """One fit that is watched; told of its tasks from several threads.

    Args:
        model: where to write; None: nowhere.
        estimator: what is fitted.
    """

    def __init__(self, model: Model | None, estimator: Any) -> None:
        self._lock = threading.Lock()
        self._progress = Progress("tasks")
        self._open: dict[Path, int] = {}
        self._count = 0
        self._handled = sys.exc_info()[1]
        self._recorder: Recorder | None = None
        if model is not None:
            self._recorder = Recorder(model, estimator_params(estimator), ensure_unique=False)
            self._recorder.start()

    def take(self, message: Message) -> None:
        """Note what a task has told."""
        with self._lock:
            if message["event"] == "begin":
                self._begin(message["path"], message["subtasks"])
            else:
                self._end(message["path"])
            self._progress.show(_sentence(message))
            if self._recorder is not None:
                self._recorder.batch(self._count, {**message, "path": list(message["path"])})
            self._count += 1

    def end(self) -> None:
        """End with the fit."""
        error = sys.exc_info()[1]
        self._progress.close()
        if self._recorder is not None:
            # An exception that was being handled when the fit began is not the fit's.
            self._recorder.end(None if error is self._handled else error)

    def _begin(self, path: Path, subtasks: int | None) -> None:
        if subtasks == 0:
            return
        # A task with subtasks is counted by them, no longer as one of its parent's.
        self._leave(path[:-1])
        self._open[path] = subtasks or 0
        self._expect(subtasks or 0)

    def _end(self, path: Path) -> None:
        if path in self._open:
            self._expect(-self._open.pop(path))  # a loop that stopped early
        else:
            self._leave(path[:-1])
            self._expect(1)
            self._progress.done += 1

    def _leave(self, parent: Path) -> None:
        if self._open.get(parent):
            self._open[parent] -= 1
            self._expect(-1)

    def _expect(self, more: int) -> None:
        self._progress.total = (self._progress.total or 0) + more


_runs: dict[Key, _Run] = {}
"""The fits that this process watches; a copy of the callback in a worker finds none here."""


@contextmanager
def _forgiving() -> Iterator[None]:
    """Turn an error into a warning: what watches a fit must not stop it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is
        text = f"casket lost sight of the fit, which goes on: {describe(error)}"
        warnings.warn(text, CasketWarning, stacklevel=3)


def _facts(estimator: Any, context: Any) -> Message:
    facts = {
        "estimator": context.estimator_name,
        "task": context.task_name,
        "path": _path(context),
        "subtasks": context.max_subtasks,
    }
    n_splits = getattr(estimator, "n_splits_", None)
    if n_splits and context.task_name.startswith("candidate"):
        candidate, split = divmod(context.task_id, n_splits)
        facts |= {"candidate": candidate, "split": split}
    return facts


def _sentence(message: Message) -> str:
    if "candidate" in message:
        return f"{message['estimator']}: candidate {message['candidate']}, split {message['split']}"
    return f"{message['estimator']}: {message['task']} {message['path'][-1]}"


def _path(context: Any) -> Path:
    above = () if context.parent is None else _path(context.parent)
    return (*above, context.task_id)


def _key(context: Any) -> Key:
    return context.root_uuid, _path(context)
