"""The run of a W&B script."""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path
from shutil import rmtree
from statistics import fmean
from typing import Any

from casket import Session
from casket_integrations.wandb.items import Items
from casket_integrations.wandb.media import Artifact, to_log
from casket_integrations.wandb.names import other

_SUMMARIES: dict[str, Callable[[list[float]], float]] = {
    "min": min,
    "max": max,
    "mean": fmean,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}
_LEVELS: Any = {"INFO": "info", "WARN": "warning", "ERROR": "error"}


class Run:
    """A run, which logs into a session.

    Attributes:
        session: the session.
        config: the params.
        summary: the last value of each metric, and the values that the script sets.
        id: the id given to `init`, otherwise that of the session.
        step: the number of the current step.
    """

    def __init__(self, session: Session, run_id: str | None, facts: Mapping[str, Any]) -> None:
        self.session, self.id = session, run_id or session.id
        self.config = Items(dict(session.params), session.add_params)
        self.summary = Items({}, lambda values: session.add_result(values, "summary"))
        self.project, self.entity = facts["project"], facts.get("entity")
        self.job_type, self.resumed = facts.get("job_type"), session.is_continued
        last = session.last_epoch
        self.step = self.starting_step = 0 if last is None else last + 1
        self.offline, self.disabled = True, facts.get("mode") == "disabled"
        self.path, self.url, self.sweep_id = f"{self.project}/{self.id}", None, None
        self._tags: tuple[str, ...] = tuple(facts.get("tags") or ())
        self._notes, self._folder = facts.get("notes"), ""
        self._summarized: list[tuple[str, str]] = []
        self._history: dict[str, list[float]] = {}
        self._patterns: list[tuple[str, str | None]] = []
        self._kept: dict[Path, int] = {}
        self._pid, self._watches = os.getpid(), list[Any]()
        open_runs.append(self)
        # Before the sessions that are still open are ended: the function registered last is first.
        atexit.unregister(_prepare_ends)
        atexit.register(_prepare_ends)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            self._prepare_end()
        finally:
            self.session.__exit__(kind, error, traceback)

    def __getattr__(self, name: str) -> Any:
        return other("run", name)

    @property
    def name(self) -> str:
        """The name; it can be set."""
        return self.session.name

    @name.setter
    def name(self, name: str) -> None:
        self.session.name = name

    @property
    def group(self) -> str:
        """The group."""
        return self.session.group or ""

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags; they can be set."""
        return self._tags

    @tags.setter
    def tags(self, tags: Sequence[str]) -> None:
        for tag in set(self._tags) - set(tags):
            self.session.remove_tag(tag)
        for tag in set(tags) - set(self._tags):
            self.session.add_tag(tag)
        self._tags = tuple(tags)

    @property
    def notes(self) -> str | None:
        """The note; it can be set."""
        return self._notes

    @notes.setter
    def notes(self, text: str) -> None:
        self.session.note(text)
        self._notes = text

    @property
    def dir(self) -> str:
        """A folder whose files become artifacts when the run ends."""
        self._folder = self._folder or tempfile.mkdtemp(prefix="casket-")
        return self._folder

    def log(
        self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, **_: Any
    ) -> None:
        """Log values at the current step, or at a given one.

        Each call is written at once. A step ends with a call without `step` or with `commit=True`,
        and when a later step is given.
        """
        number = self.step if step is None else int(step)
        values = to_log(self.session, data, number)
        if values:
            self.session.add_epoch(number, values)
        self.summary.note(values)
        self._add_to_history(values)
        if number >= self.step:
            self.step = number + bool(step is None if commit is None else commit)

    def _add_to_history(self, values: Mapping[str, Any]) -> None:
        patterns = {pattern for pattern, _ in self._summarized}
        for name, value in values.items() if patterns else ():
            if hasattr(value, "__float__") and any(fnmatchcase(name, each) for each in patterns):
                self._history.setdefault(name, []).append(float(value))

    def define_metric(
        self,
        name: str,
        step_metric: Any = None,
        summary: str | None = None,
        goal: str | None = None,
        **_: Any,
    ) -> None:
        """Choose the summaries of the metrics that match a name, logged when the run ends."""
        if step_metric is not None:
            self.session.add_meta({f"x-axis of {name}": str(step_metric)})
        best = "max" if goal == "maximize" else "min"
        for kind in (summary or "none").split(","):
            kind = best if kind == "best" else kind
            if kind in _SUMMARIES:
                self._summarized.append((name, kind))

    def save(self, glob_str: Any, base_path: Any = None, **_: Any) -> list[str]:
        """Store files as artifacts, now and when they have changed by the end of the run."""
        self._patterns.append((str(glob_str), base_path and str(base_path)))
        return self._keep(*self._patterns[-1])

    def _keep(self, pattern: str, base: str | None) -> list[str]:
        files = sorted(path for path in map(Path, glob(pattern, recursive=True)) if path.is_file())
        for path in files:
            changed = path.stat().st_mtime_ns
            if self._kept.get(path.absolute()) != changed:
                inner = path.name if path.is_absolute() else path
                name = path.relative_to(base) if base else Path(inner)
                self.session.add_artifact(name.as_posix(), path)
                self._kept[path.absolute()] = changed
        return list(map(str, files))

    def log_artifact(
        self,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,  # noqa: A002 - named by W&B
        aliases: Sequence[str] | None = None,
        **_: Any,
    ) -> Artifact:
        """Store the files of an artifact."""
        artifact = artifact_or_path
        if not isinstance(artifact, Artifact):
            path = Path(artifact_or_path)
            artifact = Artifact(name or path.name, type or "unspecified")
            (artifact.add_dir if path.is_dir() else artifact.add_file)(path)
        artifact.store(self.session, aliases or ())
        return artifact

    def log_model(self, path: Any, name: str | None = None, **_: Any) -> None:
        """Store the file or the folder of a model."""
        self.log_artifact(path, name, "model")

    def watch(
        self,
        models: Any,
        criterion: Any = None,  # noqa: ARG002
        log: Any = None,  # noqa: ARG002
        log_freq: int = 1000,
        **_: Any,
    ) -> None:
        """Log the norms of gradients and weights of modules of PyTorch."""
        from casket_integrations.torch import watch

        for module in models if isinstance(models, (list, tuple)) else [models]:
            self._watches.append(watch(self.session, module, every=log_freq))

    def unwatch(self, models: Any = None) -> None:  # noqa: ARG002 - of all modules
        """Stop to log norms."""
        while self._watches:
            self._watches.pop().remove()

    def alert(self, title: str, text: str = "", level: Any = "INFO", **_: Any) -> None:
        """Log an alert."""
        self.session.alert(title, text, _LEVELS[str(getattr(level, "value", level or "INFO"))])

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:  # noqa: ARG002
        """End the run, as failed with an exit code other than 0."""
        self._prepare_end()
        if exit_code:
            self.session.end("failed", f"exit code {exit_code}")
        self.session.end()

    def _prepare_end(self) -> None:
        """Log the summaries, and the files that have changed."""
        if self not in open_runs or self._pid != os.getpid():
            return
        open_runs.remove(self)
        summaries: dict[str, dict[str, float]] = {}
        for pattern, kind in self._summarized:
            for name, values in self._history.items():
                if fnmatchcase(name, pattern):
                    summaries.setdefault(name, {})[kind] = _SUMMARIES[kind](values)
        if summaries:
            self.session.add_result(summaries, "summary")
        for pattern, base in self._patterns:
            self._keep(pattern, base)
        if self._folder:
            self._keep(f"{self._folder}/**", self._folder)
            rmtree(self._folder)


open_runs: list[Run] = []
"""The runs of this process that have not ended, the latest last."""


def _prepare_ends() -> None:
    for run in open_runs[:]:
        run._prepare_end()
