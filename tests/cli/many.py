"""Runs many commands from one warm interpreter, each in a fork that ends as a process does.

Usage: python -m tests.cli.many RESULTS WAY, with a JSON list of commands as standard input. WAY is
the state of standard output: `same`, `full`, `closed` or `broken`; of standard error with `!`.
"""

import json
import os
import sys
from pathlib import Path

from casket.cli.app import main

CREATE = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
SEPARATOR = "=== next ==="


def spoil(way, descriptor):
    """Replace a standard stream by one that fails."""
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


def separate():
    if os.isatty(1):
        print(SEPARATOR, flush=True)


if __name__ == "__main__":
    folder, way, codes = Path(sys.argv[1]), sys.argv[2], []
    called = json.loads((folder / "commands").read_text())
    for number, arguments in enumerate(called):
        child = os.fork()
        if not child:
            run(folder, number, way, arguments)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        separate()
    (folder / "codes").write_text(json.dumps(codes))
