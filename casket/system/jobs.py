"""The job of a scheduler that this process belongs to: Slurm, PBS, LSF and Grid Engine.

The names of the variables are those of the manuals of `sbatch`, `qsub` (PBS Professional and Grid
Engine) and `bsub`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["cluster", "is_earlier_run", "this_job"]

_PBS_ID = re.compile(r"(?P<id>\d+)(?:\[(?P<index>\d*)\])?")


def this_job() -> dict[str, Any] | None:
    """Return the job of this process, or None outside a job.

    Returns:
        A dict with the keys `scheduler`, `id` (text), `array_index` (None outside an array) and
        `restart`: how many times the job was requeued, or None where the scheduler does not say.
    """
    for scheduler, read in _SCHEDULERS.items():
        job = read(os.environ)
        if job is not None:
            return {"scheduler": scheduler, **job}
    return None


def cluster() -> str | None:
    """Return the name of the cluster, because ids of jobs are unique within one only."""
    return os.environ.get("SLURM_CLUSTER_NAME") or os.environ.get("PBS_SERVER")


def is_earlier_run(job: object, current: Mapping[str, Any] | None) -> bool:
    """Return whether `job` is an earlier run of the requeued job `current`, and over therefore.

    Both are dicts of `this_job`, with the name of the cluster as `cluster`.
    """
    if not isinstance(job, Mapping) or current is None:
        return False
    same = all(job.get(key) == current[key] for key in current if key != "restart")
    earlier, now = job.get("restart"), current["restart"]
    return same and type(earlier) is int and type(now) is int and earlier < now


def _slurm(environment: Mapping[str, str]) -> dict[str, Any] | None:
    if "SLURM_JOB_ID" not in environment:
        return None
    index = _whole(environment.get("SLURM_ARRAY_TASK_ID"))
    array = environment.get("SLURM_ARRAY_JOB_ID") if index is not None else None
    restart = _whole(environment.get("SLURM_RESTART_COUNT", "0"))
    return {"id": array or environment["SLURM_JOB_ID"], "array_index": index, "restart": restart}


def _pbs(environment: Mapping[str, str]) -> dict[str, Any] | None:
    match = _PBS_ID.match(environment.get("PBS_JOBID", ""))
    if match is None:
        return None
    index = environment.get("PBS_ARRAY_INDEX") or environment.get("PBS_ARRAYID") or match["index"]
    return {"id": match["id"], "array_index": _whole(index), "restart": None}


def _lsf(environment: Mapping[str, str]) -> dict[str, Any] | None:
    if "LSB_JOBID" not in environment:
        return None
    restarted = environment.get("LSB_RESTART", "N").upper() == "Y"
    # The index is 0 outside an array.
    index = _whole(environment.get("LSB_JOBINDEX")) or None
    return {"id": environment["LSB_JOBID"], "array_index": index, "restart": int(restarted)}


def _grid_engine(environment: Mapping[str, str]) -> dict[str, Any] | None:
    if "SGE_TASK_ID" not in environment or "JOB_ID" not in environment:
        return None
    index = _whole(environment["SGE_TASK_ID"])  # the text "undefined" outside an array
    restart = _whole(environment.get("RESTARTED", "0"))
    return {"id": environment["JOB_ID"], "array_index": index, "restart": restart}


_SCHEDULERS: dict[str, Callable[[Mapping[str, str]], dict[str, Any] | None]] = {
    "slurm": _slurm,
    "pbs": _pbs,
    "lsf": _lsf,
    "sge": _grid_engine,
}


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
