"""`CasketCallback`: the progress of a fit, by scikit-learn's callbacks (1.9 and later)."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from casket import CasketWarning, Model
from casket.writing.outcome import describe
from casket_integrations.recorder import Recorder
from casket_integrations.sklearn.describe import estimator_params
from casket_integrations.sklearn.progress import Progress

try:
    # Used by scikit-learn's own callbacks to send messages to the main process.
    from sklearn.callback import _transport as transport  # type: ignore[import-untyped]
except ImportError:
    transport = None

Path = tuple[int, ...]
Key = tuple[Any, Path]
Message = dict[str, Any]


class CasketCallback:
    """Shows the progress of a fit in the terminal and logs the start and end of its tasks.

    `search.set_callbacks(CasketCallback())` registers it with any estimator that supports
    callbacks, such as searches, pipelines and `LogisticRegression`. Before scikit-learn 1.9, no
    estimator supports callbacks. Scores are not available to callbacks; use `LoggedGridSearchCV` to
    log them.

    Args:
        model: a casket Model; each fit becomes a session with a batch for each start and end of a
            task. If None, the progress is only shown.
    """

    def __init__(self, model: Model | None = None) -> None:
        self.model = model
        self._listeners: dict[Key, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the store during a fit, because workers only send messages to this process."""
        return {**self.__dict__, "model": None} if self._listeners else self.__dict__

    def setup(self, estimator: Any, context: Any) -> None:
        """Start to watch a fit."""
        with _forgiving():
            key = _key(context)
            run = _runs[key] = _Run(self.model, estimator)
            self._listeners[key] = transport.open_listener(run.receive) if transport else None

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Log the start of a task."""
        with _forgiving():
            self._send({"event": "begin", **_facts(estimator, context)}, context)

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Log the end of a task."""
        with _forgiving():
            self._send({"event": "end", **_facts(estimator, context)}, context)

    def teardown(self, estimator: Any, context: Any) -> None:  # noqa: ARG002 - the protocol
        """End the session with the status of the fit."""
        with _forgiving():
            key = _key(context)
            listener = self._listeners.pop(key, None)
            if listener is not None:
                transport.close_listener(listener)
            if key in _runs:
                _runs.pop(key).end()

    def _send(self, message: Message, context: Any) -> None:
        """Send a message to its run, which may be in another process."""
        while context is not None:
            key = _key(context)
            if key in _runs:
                _runs[key].receive(message)
                return
            if self._listeners.get(key) is not None:
                transport.send(self._listeners[key], message)
                return
            context = context.parent


class _Run:
    """A watched fit, which receives messages from several threads.

    Args:
        model: the casket Model to log to; None to log nothing.
        estimator: the fitted estimator.
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

    def receive(self, message: Message) -> None:
        """Process a message of a task."""
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
        """End the session at the end of the fit."""
        error = sys.exc_info()[1]
        self._progress.close()
        if self._recorder is not None:
            # An exception that was already being handled at the start is not the fit's.
            self._recorder.end(None if error is self._handled else error)

    def _begin(self, path: Path, subtasks: int | None) -> None:
        if subtasks == 0:
            return
        # A task with subtasks is counted by its subtasks instead of as a subtask of its parent.
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
"""The fits watched by this process; empty in a worker."""


@contextmanager
def _forgiving() -> Iterator[None]:
    """Convert an error into a warning, because the callback must not stop the fit."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - any failure
        text = f"CasketCallback failed; the fit continues: {describe(error)}"
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
