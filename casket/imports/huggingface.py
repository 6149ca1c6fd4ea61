"""Hugging Face's Trainer: `trainer_state.json` in an output folder or in its checkpoints.

The output folder becomes the model, its parent folder the experiment; of several states of a folder
the state with the most steps is imported. Each logged row becomes a batch, numbered by its step,
and each epoch, counted from 1, an epoch with the latest value of each metric. The row at the end of
the training becomes a result with the index `train`. The params are those in the state: batch size,
numbers of epochs and steps, and the params of a hyperparameter search; `training_args.bin` is a
pickle, which is not read. The state holds no times. A training is `completed` if it reached its
last step or logged its end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from casket.imports.parsing import file_time, read_json, whole
from casket.imports.report import Report
from casket.imports.runs import Entry, Run

_STATE = "trainer_state.json"
_CHECKPOINT = "checkpoint-"
_PARAMS = ("num_train_epochs", "max_steps", "train_batch_size")
_FACTS = ("best_metric", "best_model_checkpoint", "best_global_step", "total_flos")
_END = "train_runtime"


def recognizes(path: Path) -> bool:
    """Return whether a path is or contains a `trainer_state.json`."""
    return any(_states(path))


def count(path: Path) -> int:
    """Return the maximum number of runs, without reading them."""
    return len({_output_folder(state) for state in _states(path)})


def runs(path: Path, report: Report) -> Iterator[Run]:
    """Yield one run per output folder."""
    for folder, states in groupby(sorted(_states(path), key=_output_folder), key=_output_folder):
        read = [(state, read_json(state, report)) for state in states]
        known = [(state, content) for state, content in read if _is_state(content)]
        report.leave_out("checkpoints", sum(state.parent != folder for state, _ in read))
        if known:
            state, content = max(known, key=lambda each: _progress(each[1]))
            yield _run(folder, state, content)
        else:
            report.problem(folder / _STATE, "it has no logged rows")


def _states(path: Path) -> Iterator[Path]:
    files = path.rglob(_STATE) if path.is_dir() else [path] if path.name == _STATE else []
    return (file for file in files if file.is_file())


def _output_folder(state: Path) -> Path:
    folder = state.parent
    return folder.parent if folder.name.startswith(_CHECKPOINT) else folder


def _is_state(content: Any) -> bool:
    return isinstance(content, dict) and bool(content.get("log_history"))


def _progress(content: dict[str, Any]) -> tuple[int, int]:
    return content.get("global_step", 0), len(content["log_history"])


def _run(folder: Path, state: Path, content: dict[str, Any]) -> Run:
    rows = content["log_history"]
    has_ended = any(_END in row for row in rows)
    has_all_steps = 0 < content.get("max_steps", 0) <= content.get("global_step", 0)
    params = {name: content[name] for name in _PARAMS if content.get(name) is not None}
    return Run(
        facts=[folder.parent.name, folder.name, rows[0]],
        name=folder.name,
        experiment=folder.parent.name,
        started=file_time(state),
        status="completed" if has_ended or has_all_steps else None,
        params={**params, **(content.get("trial_params") or {})},
        meta={name: content[name] for name in _FACTS if content.get(name) is not None},
        entries=list(_entries(rows)),
        folder=folder,
    )


def _entries(rows: list[dict[str, Any]]) -> Iterator[Entry]:
    for epoch, group in groupby(rows, key=_epoch):
        latest: dict[str, Any] = {}
        results: list[Entry] = []
        for row in group:
            values = {name: row[name] for name in row if name not in {"step", "epoch"}}
            if _END in row:
                results.append(Entry("result", {"index": "train"}, values))
                continue
            latest |= values
            yield Entry("batch", {"batch_num": whole(row.get("step")) or 0, "epoch": epoch}, values)
        if latest and epoch is not None:
            yield Entry("epoch", {"epoch_num": epoch}, latest)
        yield from results


def _epoch(row: dict[str, Any]) -> int | None:
    """Return the epoch in which a row was logged; the Trainer logs the fraction of epochs done."""
    return max(math.ceil(row["epoch"]), 1) if "epoch" in row else None
