"""Run scripts written for W&B: `import casket_integrations.wandb as wandb`.

A project is an experiment in `$CASKET_FILE` or `runs.json`, a run a session whose params are the
config, and the values logged at a step an epoch, as of imported runs. Nothing is sent.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterable
from enum import Enum
from functools import wraps
from typing import Any

from casket import Experiment, NoSuchSession, Session
from casket.format.described import described
from casket.reading.views import SessionView
from casket_integrations.hyperparameters import as_dict
from casket_integrations.trackers import MODEL, experiment_of, session_of_command
from casket_integrations.wandb.items import Error, UsageError
from casket_integrations.wandb.media import Artifact, Histogram, Image, Table
from casket_integrations.wandb.names import other
from casket_integrations.wandb.runs import Run, open_runs

__all__ = [
    "AlertLevel",
    "Artifact",
    "Error",
    "Histogram",
    "Image",
    "Run",
    "Settings",
    "Table",
    "UsageError",
    "alert",
    "define_metric",
    "finish",
    "init",
    "log",
    "log_artifact",
    "log_model",
    "save",
    "unwatch",
    "watch",
]

_VARIABLES = {"id": "RUN_ID", "group": "RUN_GROUP"}


class AlertLevel(Enum):
    """The level of an alert."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


def Settings(**settings: Any) -> dict[str, Any]:  # noqa: N802 - named by W&B
    """Return settings, which have no effect."""
    return settings


def init(
    entity: str | None = None,
    project: str | None = None,
    *,
    id: str | None = None,  # noqa: A002 - named by W&B
    name: str | None = None,
    notes: str | None = None,
    tags: Iterable[str] | None = None,
    config: Any = None,
    config_exclude_keys: Iterable[str] = (),
    config_include_keys: Iterable[str] | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    reinit: bool | str | None = None,
    resume: bool | str | None = None,
    **_: Any,
) -> Run:
    """Start a run, or return the open one, as W&B does.

    The arguments are those of W&B, with the variables `WANDB_PROJECT`, `WANDB_RUN_ID` and so on as
    defaults; others have no effect. In a command of `casket sweep`, the first run is its session;
    later runs are sessions of their own in the same store.

    Raises:
        UsageError: a run has the id, and `resume="never"`.
        NoSuchSession: no run has the id, and `resume="must"`.
        StoreUnavailable: the file cannot be written.
    """
    if open_runs and reinit != "create_new":
        if reinit not in (True, "finish_previous") and not hasattr(builtins, "__IPYTHON__"):
            return open_runs[-1]
        finish()
    labels = {"name": name, "notes": notes, "group": group, "job_type": job_type, "id": id}
    facts = {key: _given(key, value) for key, value in labels.items()}
    facts["tags"] = list(tags or filter(None, os.environ.get("WANDB_TAGS", "").split(",")))
    facts["project"] = _given("project", project) or "uncategorized"
    facts["entity"], facts["mode"] = _given("entity", entity), _given("mode", mode)
    params = {
        key: value
        for key, value in as_dict(config).items()
        if key not in config_exclude_keys
        and (config_include_keys is None or key in config_include_keys)
    }
    if session := session_of_command():
        return _of_sweep(session, params, facts)
    run = Run(_session(params, facts, _given("resume", resume)), facts["id"], facts)
    run.config.update(params)
    return run


def _given(name: str, value: Any) -> Any:
    """Return an argument, or its default from the environment."""
    variable = f"WANDB_{_VARIABLES.get(name, name.upper())}"
    return os.environ.get(variable) if value is None else value


def _of_sweep(session: Session, params: dict[str, Any], facts: dict[str, Any]) -> Run:
    """Return the run of a command of `casket sweep`, whose params win and are not changed."""
    run = Run(session, None, facts)
    run.config.note({**params, **run.config})
    return run


def _session(params: dict[str, Any], facts: dict[str, Any], resume: Any) -> Session:
    is_disabled = facts["mode"] == "disabled" or os.environ.get("WANDB_DISABLED") == "true"
    place, capture = (":memory:", ()) if is_disabled else (None, None)
    experiment = experiment_of(facts["project"], place, capture)
    earlier = _earlier(experiment, facts["id"], resume) if resume else None
    if earlier is not None:
        resumed = experiment.model(earlier.model).resume(earlier.id)
        for tag in facts["tags"]:
            resumed.add_tag(tag)
        facts["tags"] = [*dict.fromkeys([*earlier.tags, *facts["tags"]])]
        facts["notes"] = facts["notes"] or earlier.note
        return resumed
    session = experiment.model(facts["job_type"] or MODEL).session(
        described(params),
        repeat=True,
        name=facts["name"],
        tags=facts["tags"],
        group=facts["group"],
    )
    own = {"run_id": facts["id"], "entity": facts["entity"], "job_type": facts["job_type"]}
    if known := {name: fact for name, fact in own.items() if fact}:
        session.add_meta(known)
    if facts["notes"]:
        session.note(facts["notes"])
    return session


def _earlier(experiment: Experiment, run_id: str | None, resume: Any) -> SessionView | None:
    """Return the session to continue, as `resume` says; None for a new one."""
    views = experiment.sessions()
    if run_id is None:
        is_lost = resume in (True, "auto") and views and views[-1].status in ("failed", "killed")
        return views[-1] if is_lost else None
    views = [view for view in views if run_id in (view.id, view.meta.get("run_id"))]
    if views and resume == "never":
        raise UsageError(f'run {run_id!r} exists: give another id, or resume="allow"')
    if not views and resume == "must":
        raise NoSuchSession(run_id, f"project {experiment.id!r}", [])
    return views[-1] if views else None


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """End the open run; has no effect without one."""
    if open_runs:
        open_runs[-1].finish(exit_code, quiet)


def _open_run(name: str) -> Run:
    if not open_runs:
        raise Error(f"wandb.{name} was called before wandb.init(): call wandb.init() first")
    return open_runs[-1]


def _of_open_run(method: Callable[..., Any]) -> Callable[..., Any]:
    name = method.__name__

    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        return getattr(_open_run(name), name)(*arguments, **named)

    return call


log = _of_open_run(Run.log)
save = _of_open_run(Run.save)
watch = _of_open_run(Run.watch)
unwatch = _of_open_run(Run.unwatch)
alert = _of_open_run(Run.alert)
define_metric = _of_open_run(Run.define_metric)
log_artifact = _of_open_run(Run.log_artifact)
log_model = _of_open_run(Run.log_model)


def __getattr__(name: str) -> Any:
    if name == "run":
        return open_runs[-1] if open_runs else None
    if name in ("config", "summary"):
        return getattr(_open_run(name), name)
    return other("wandb", name)
