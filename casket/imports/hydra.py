"""Hydra's job folders: the config beside the log of another tool.

A run whose folder, or a folder above it, has `.hydra/config.yaml` gets that config as params, under
the params of its own log, and the overrides and the name of the job as `meta["hydra"]`.
Interpolations such as `${optimizer.lr}` are resolved; those of resolvers, such as `${oc.env:USER}`,
stay as they are. A job folder without another log is not a run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from casket.imports.parsing import read_yaml
from casket.imports.report import Report
from casket.imports.runs import Run

_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")
_DEPTH = 10
"""The maximum length of a chain of references."""


def add_config(run: Run, report: Report) -> None:
    """Add the config of the job that wrote the log of a run."""
    folders = (run.folder, *run.folder.parents) if run.folder is not None else ()
    job = next((folder / ".hydra" for folder in folders if (folder / ".hydra").is_dir()), None)
    if job is None or not (job / "config.yaml").is_file():
        return
    config = read_yaml(job / "config.yaml", report, core=True)
    if isinstance(config, dict):
        run.params = {**resolved(config, config), **run.params}
        run.meta["hydra"] = _facts(job, report)


def _facts(job: Path, report: Report) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if (job / "overrides.yaml").is_file():
        facts["overrides"] = read_yaml(job / "overrides.yaml", report, core=True) or []
    settings = read_yaml(job / "hydra.yaml", report, core=True) if _has_settings(job) else None
    if isinstance(settings, dict):
        facts["job"] = _value(settings, "hydra.job.name")
    return facts


def _has_settings(job: Path) -> bool:
    return (job / "hydra.yaml").is_file()


def resolved(value: Any, config: dict[str, Any], depth: int = 0) -> Any:
    """Return a value with the references to other values of the config replaced."""
    if isinstance(value, dict):
        return {name: resolved(item, config, depth) for name, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, config, depth) for item in value]
    if not isinstance(value, str) or depth == _DEPTH:
        return value
    alone = _REFERENCE.fullmatch(value)
    if alone:
        referred = _value(config, alone[1])
        return value if referred is None else resolved(referred, config, depth + 1)
    return _REFERENCE.sub(lambda match: str(resolved(match[0], config, depth + 1)), value)


def _value(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = config.get(name) if isinstance(config, dict) else None
    return config
