"""A pytest plugin: Keras's own tests, with a `DBCallback` in every `CallbackList`.

    KERAS_BACKEND=torch python -m pytest -c /dev/null --noconftest -q \\
        -p tests.conformance.keras_callbacks

runs those of callbacks and trainers that the wheel of Keras ships, unless other tests are named.
Every event is logged into a file, and a failure to log fails the test. A test that fails is
run again without the callback; if it fails again, casket is not the cause, and it is skipped.
So is a test module that cannot be imported, for want of a package or of a file of Keras's own
that the wheel does not bring.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import pytest
from _pytest.runner import runtestprotocol
from keras.src import tree
from keras.src.callbacks import CallbackList

import casket
from casket_integrations.keras import DBCallback

PARTS = [Path(keras.__file__).parent / "src" / part for part in ("callbacks", "trainers")]
_plain_init = CallbackList.__init__


class Logging:
    """Appends a callback to every list, each with a session of its own in a common file."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self._numbers = count(1)
        self._model = casket.Experiment.use(runs, exp_id="conformance").model("keras")

    @contextmanager
    def switched_on(self) -> Iterator[None]:
        CallbackList.__init__ = self._init_with_callback()
        try:
            yield
        finally:
            CallbackList.__init__ = _plain_init

    def _init_with_callback(self) -> Any:
        def init(callback_list: Any, callbacks: Any = None, *args: Any, **kwargs: Any) -> None:
            given = tree.flatten(callbacks) if callbacks else []
            params = {"number": next(self._numbers)}
            ours = DBCallback(self._model, params, batches=True, on_error="raise")
            _plain_init(callback_list, [*given, ours], *args, **kwargs)

        return init

    def summary(self) -> str:
        with casket.open(self.runs) as runs:
            sessions = runs.sessions()
            statuses = Counter(session.status for session in sessions)
            epochs = sum(len(session.epochs) for session in sessions)
            batches = sum(len(session.batches) for session in sessions)
        return f"casket: sessions {dict(statuses)}, epochs {epochs}, batches {batches}"


class Plugin:
    def __init__(self, logging: Logging) -> None:
        self.logging = logging

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Any:
        report = yield
        if report.failed:
            reason = str(report.longrepr).rpartition("E   ")[2].strip()
            _skip(report, str(collector.path), reason)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        with self.logging.switched_on():
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if any(report.failed for report in reports):
            plain = runtestprotocol(item, log=False, nextitem=nextitem)
            for report in reports if any(report.failed for report in plain) else ():
                if report.failed:
                    _skip(report, str(item.path), "fails without the callback too")
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.write_line(self.logging.summary())


def _skip(report: Any, path: str, reason: str) -> None:
    report.outcome, report.longrepr = "skipped", (path, 0, reason)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requires_trainable_backend: every one casket is tested on")
    if not config.option.file_or_dir:
        config.args[:] = [str(path) for part in PARTS for path in sorted(part.glob("*_test.py"))]
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    config.pluginmanager.register(Plugin(Logging(Path(folder.name) / "runs.json")))
