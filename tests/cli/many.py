"""Runs many commands from a warm interpreter, each in a fork that ends as a process does.

Usage: python -m tests.cli.many RESULTS WAY, with a JSON list of commands as standard input. WAY is
the state of standard output: `same`, `full`, `closed` or `broken`; of standard error with `!`.
"""

import gc
import json
import os
import pkgutil
import sys
from importlib import import_module
from pathlib import Path

import plotille  # noqa: F401 - loaded here, so that no fork has to
import tabulate  # noqa: F401

import casket
from casket.cli.app import main

USED = (
    "casket.cli",
    "casket.reading",
    "casket.maintenance",
    "casket.dashboard",
    "casket.stores.jsonfile",
)
"""Packages that commands import when they run."""

CREATE = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
SEPARATOR = "=== next ==="


def spoil(way, descriptor):
    """Replace a standard stream by a failing stream."""
    name = "stdout" if descriptor == 1 else "stderr"
    encoding = getattr(sys, name).encoding
    if way == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
    if way == "broken":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, descriptor)
    stream = open(descriptor, "w", encoding=encoding, closefd=False)  # noqa: SIM115 - it stays
    if way == "closed":
        os.close(descriptor)
        stream = None
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def run(folder, number, way, arguments):
    if not os.isatty(1):
        for descriptor, kind in ((1, "out"), (2, "err")):
            os.dup2(
                os.open(folder / f"{number}.{kind}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC),
                descriptor,
            )
        spoil(way.removesuffix("!"), 2 if way.endswith("!") else 1)
    sys.argv = ["casket", *arguments]
    main()


def load():
    """Import the modules of all commands once, instead of in each fork."""
    for module in pkgutil.walk_packages(casket.__path__, "casket."):
        if module.name.startswith(USED):
            import_module(module.name)
    gc.freeze()  # so that the end of a fork does not collect inherited objects


def separate():
    if os.isatty(1):
        print(SEPARATOR, flush=True)


if __name__ == "__main__":
    folder, way, codes = Path(sys.argv[1]), sys.argv[2], []
    load()
    called = json.loads((folder / "commands").read_text())
    for number, arguments in enumerate(called):
        child = os.fork()
        if not child:
            run(folder, number, way, arguments)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        separate()
    (folder / "codes").write_text(json.dumps(codes))
