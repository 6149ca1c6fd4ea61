"""A small real training of each framework, for the tests that all frameworks share.

Each module has `Hook`, the class of the framework's callback or logger, and `train(hook,
interrupt)`, which trains with it, calls `interrupt` in the middle of the training, and returns the
framework's own `Record`.
"""

import json
import sys
from importlib import import_module
from typing import Any, NamedTuple


class Record(NamedTuple):
    """What a framework recorded of a training: the rows of a table of the session, its params."""

    table: str
    rows: list[dict[str, Any]]
    params: dict[str, Any]


def do_nothing():
    """Interrupt no training."""


def run(name, url, interrupt=do_nothing):
    """Train with a framework in another process; write its record beside the store."""
    scenario = import_module(f"{__name__}.{name}")
    record = scenario.train(scenario.Hook(url, exp_id="exp", model_id="net"), interrupt)
    with open(f"{sys.argv[0]}.record", "w") as file:
        json.dump(record, file)
