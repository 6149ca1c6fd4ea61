"""Prints the content of `.wandb` files as the reader of `wandb` 0.21 reads them.

Later versions have no reader in Python. It is run by `make_fixtures.py`.
"""

import json
import sys
from pathlib import Path

import wandb
from wandb.proto.wandb_internal_pb2 import Record
from wandb.sdk.internal.datastore import DataStore


def main(folder):
    wandb._assert_is_internal_process = True
    files = sorted(Path(folder).rglob("*.wandb"))
    json.dump([read(file) for file in files], sys.stdout)


def read(file):
    run = {"config": {}, "summary": {}, "history": [], "exit_code": None, "file": file.parent.name}
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run |= {
                n: getattr(record.run, n) for n in ("run_id", "project", "display_name", "notes")
            }
            run |= {
                "tags": list(record.run.tags),
                "started": record.run.start_time.ToMicroseconds(),
            }
            update(run["config"], record.run.config.update)
        elif kind in {"config", "summary"}:
            update(run[kind], getattr(record, kind).update)
        elif kind == "history":
            update(row := {}, record.history.item)
            run["history"].append(row)
        elif kind == "exit":
            run["exit_code"] = record.exit.exit_code
    return run


def records(file):
    store = DataStore()
    store.open_for_scan(file)
    while (data := store.scan_data()) is not None:
        yield Record.FromString(data)


def update(values, items):
    for item in items:
        *folders, name = item.nested_key or [item.key]
        inner = values
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = plain(json.loads(item.value_json))


def plain(value):
    """Return NaN and the infinities as text."""
    is_odd = isinstance(value, float) and (value != value or value in {float("inf"), -float("inf")})
    return repr(value) if is_odd else value


if __name__ == "__main__":
    main(*sys.argv[1:])
