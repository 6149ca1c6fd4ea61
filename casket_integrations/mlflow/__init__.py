"""Run scripts written for MLflow: `import casket_integrations.mlflow as mlflow`.

An experiment is one in `$CASKET_FILE` or `runs.json`, a run a session, and a nested run its child;
the metrics of a step become an epoch, as of imported runs. Nothing is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from casket.format.described import described
from casket_integrations.mlflow.runs import (
    ActiveRun,
    MlflowException,
    active_run,
    create_experiment,
    current,
    end_run,
    get_experiment_by_name,
    last_active_run,
    set_experiment,
    start_run,
)
from casket_integrations.trackers import ignoring, lacking, place

__all__ = [
    "ActiveRun",
    "MlflowException",
    "active_run",
    "create_experiment",
    "delete_tag",
    "end_run",
    "get_experiment_by_name",
    "get_tracking_uri",
    "last_active_run",
    "log_artifact",
    "log_artifacts",
    "log_dict",
    "log_figure",
    "log_metric",
    "log_metrics",
    "log_param",
    "log_params",
    "log_text",
    "set_experiment",
    "set_tag",
    "set_tags",
    "start_run",
]

_READ = 'casket.open("runs.json"), see docs/from-mlflow.md'
_LOAD = "casket_integrations.{0} to log, and session.add_artifact(name, model) for models"
_INSTEAD = {
    **dict.fromkeys(
        ("MlflowClient", "client", "search_runs", "get_run", "tracking", "search_experiments"),
        _READ,
    ),
    **{
        name: _LOAD.format(name) for name in ("sklearn", "xgboost", "lightgbm", "catboost", "keras")
    },
    **{name: _LOAD.format(name) for name in ("transformers", "lightning", "optuna")},
    **dict.fromkeys(("pytorch", "tensorflow"), _LOAD.format("lightning or .keras")),
    "autolog": "an adapter of casket_integrations (sklearn, keras, lightning, xgboost, lightgbm, "
    "transformers...), see docs/adapters/README.md",
    **dict.fromkeys(("log_model", "pyfunc", "models"), "log_artifact(path) for models"),
    **dict.fromkeys(
        ("log_input", "log_inputs", "data"), 'active_run().session.add_data("train", x)'
    ),
    "log_image": "log_figure(figure, file), or active_run().session.add_artifact(file, image)",
    **dict.fromkeys(("log_table", "load_table"), 'log_dict(table, "table.json")'),
    **dict.fromkeys(("evaluate", "genai", "trace", "start_span"), "log_metrics(values)"),
}
_NEED_A_SERVER = {
    *("set_tracking_uri", "set_registry_uri", "register_model", "login", "flush_async_logging"),
}


def get_tracking_uri() -> str:
    """Return the path or URL of the store."""
    return place()


def log_param(key: str, value: Any, *_: Any, **__: Any) -> Any:
    """Log a param, and return its value."""
    log_params({key: value})
    return value


def log_params(params: Mapping[str, Any], *_: Any, run_id: str | None = None, **__: Any) -> None:
    """Log params; they keep their types."""
    current(run_id).session.add_params(described(params))


def log_metric(key: str, value: Any, step: int | None = None, *_: Any, **options: Any) -> None:
    """Log a metric."""
    log_metrics({key: value}, step, **options)


def log_metrics(
    metrics: Mapping[str, Any],
    step: int | None = None,
    *_: Any,
    run_id: str | None = None,
    **__: Any,
) -> None:
    """Log metrics of a step."""
    current(run_id).log(metrics, step)


def set_tag(key: str, value: Any, *_: Any) -> None:
    """Set a tag, stored as `key=value`."""
    current().tag(key, value)


def set_tags(tags: Mapping[str, Any], *_: Any) -> None:
    """Set tags."""
    for name, value in tags.items():
        set_tag(name, value)


def delete_tag(key: str) -> None:
    """Remove a tag."""
    current().untag(key)


def log_artifact(
    local_path: Any, artifact_path: str | None = None, run_id: str | None = None
) -> None:
    """Store a file, or a folder under its name."""
    name = Path(artifact_path or "", Path(local_path).name).as_posix()
    current(run_id).session.add_artifact(name, Path(local_path))


def log_artifacts(
    local_dir: Any, artifact_path: str | None = None, run_id: str | None = None
) -> None:
    """Store the files of a folder."""
    for path in sorted(Path(local_dir).iterdir()):
        log_artifact(path, artifact_path, run_id)


def log_dict(dictionary: Any, artifact_file: str, run_id: str | None = None) -> None:
    """Store a dict as JSON, or as YAML if the name ends so."""
    session = current(run_id).session
    if Path(artifact_file).suffix in (".json", ".yaml", ".yml"):
        session.add_artifact(artifact_file, dictionary)
    else:
        session.add_artifact(artifact_file, text=json.dumps(dictionary, default=str))


def log_text(text: str, artifact_file: str, run_id: str | None = None) -> None:
    """Store a text."""
    current(run_id).session.add_artifact(artifact_file, text=text)


def log_figure(figure: Any, artifact_file: str, **_: Any) -> None:
    """Store a figure in the format of the name."""
    current().session.add_artifact(artifact_file, figure)


def __getattr__(name: str) -> Any:
    if name in _NEED_A_SERVER:
        return ignoring(f"mlflow.{name}")
    raise lacking("mlflow", name, _INSTEAD)
