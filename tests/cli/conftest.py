"""Runs the command line, with and without a terminal."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from casket import Experiment
from casket.cli.app import app
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


class Command:
    """Calls `casket` in this process, where nothing is a terminal."""

    def __call__(self, *arguments, code=0, **options):
        """Run a command that has to end with an exit code; return its output."""
        result = CliRunner().invoke(app, [*map(str, arguments)], **options)
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        assert result.exit_code == code, result.output
        return result.stdout

    def error(self, *arguments, code=2):
        """Run a command that has to fail; return its standard error."""
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert isinstance(result.exception, SystemExit), result
        assert result.exit_code == code, result.output
        assert not result.stdout
        return result.stderr

    def warned(self, *arguments, code=0):
        """Run a command; return its warnings."""
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert result.exit_code == code, result.output
        return result.stderr

    def json(self, *arguments, code=0):
        """Run a command with `--json`; return the parsed output."""
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def run():
    return Command()


@pytest.fixture
def filled(file_url):
    """A file with four sessions: three completed sessions of two settings, and a failed session."""
    model = Experiment.use(file_url, exp_id="digits", tags=["thesis"]).model("net", {"units": 64})
    for lr, seed, loss in ((0.1, 0, 0.5), (0.01, 0, 0.25), (0.01, 1, 0.35)):
        with model.session({"lr": lr, "seed": seed, "opt": {"name": "adam"}}) as session:
            for epoch in (1, 2, 3):
                values = {"loss": loss * (4 - epoch), "val_acc": 1 - loss / epoch}
                session.add_epoch(epoch, values)
            session.add_result({"acc": 1 - loss}, index_by="test")
    session = model.session({"lr": 10.0, "seed": 0})
    session.add_epoch(1, {"loss": float("nan"), "val_acc": 0.1})
    session.end("failed", error="ValueError: diverged")
    model.experiment.close()
    return file_url


@pytest.fixture
def terminal(tmp_path):
    """Run `casket` in a terminal; return its exit code and all that it shows."""

    def run_in_terminal(*arguments, columns=100, answer="", module="casket.cli.app", **environment):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        command = [sys.executable, "-m", module, *map(str, arguments)]
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in {"COLUMNS", "NO_COLOR", "PAGER"}
        }
        process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=tmp_path,
            env={**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environment},
        )  # fmt: skip
        os.close(slave)
        if answer:
            os.write(master, answer.encode())
        shown = b""
        try:
            while chunk := os.read(master, 65536):
                shown += chunk
        except OSError:
            shown += b""  # Linux ends a terminal by an error
        os.close(master)
        return process.wait(PATIENCE), shown.decode().replace("\r\n", "\n")

    return run_in_terminal
