"""The `casket` command: loads commands by name and reports errors without a traceback."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click
from click.exceptions import Exit

from casket import CasketError, __version__
from casket.cli import terminal

COMMANDS = {
    "ls": (
        "casket.cli.listing:ls",
        "List sessions with the params that vary and their metrics.",
    ),
    "show": (
        "casket.cli.show:show",
        "Show a session: params, meta, results, artifacts and curves.",
    ),
    "tail": (
        "casket.cli.tail:tail",
        "Show running sessions with their metrics, rate and expected end.",
    ),
    "watch": (
        "casket.cli.watch:watch",
        "Report what happens to sessions: failed, killed, stalled, NaN, diverged, alerts.",
    ),
    "diff": (
        "casket.cli.diff:diff",
        "Show the differences between two sessions or groups of sessions.",
    ),
    "best": ("casket.cli.listing:best", "List the sessions with the best values of METRIC."),
    "sweep": (
        "casket.cli.sweep:sweep",
        "Run COMMAND for each set of params, once over all processes that share the file.",
    ),
    "tag": ("casket.cli.annotate:tag", "Add tags to a session or an experiment."),
    "untag": ("casket.cli.annotate:untag", "Remove tags from a session or an experiment."),
    "rename": ("casket.cli.annotate:rename", "Set the name of a session."),
    "note": ("casket.cli.annotate:note", "Set the note of a session or an experiment."),
    "rm": (
        "casket.cli.cleaning:rm",
        "Remove sessions, models and experiments with all their records.",
    ),
    "clean": (
        "casket.cli.cleaning:clean",
        "Remove failed and killed sessions, empty models and experiments, and unused files.",
    ),
    "compact": (
        "casket.cli.cleaning:compact",
        "Rewrite a file compactly, while others may write to it.",
    ),
    "export": (
        "casket.cli.export:export",
        "Export tables, documents and reports.",
    ),
    "import": (
        "casket.cli.transfer:import_",
        "Import the runs of another tracker; importing again adds only new runs.",
    ),
    "merge": (
        "casket.cli.transfer:merge",
        "Merge files into another; merging again adds only new records.",
    ),
    "doctor": (
        "casket.cli.doctor:doctor",
        "Check the records, the artifacts and the structure of a file.",
    ),
    "backup": (
        "casket.cli.backup:backup",
        "Copy a file with its artifacts while processes write to it.",
    ),
    "sync": (
        "casket.cli.sync:sync",
        "Ship pending records, and the files of artifacts, to remote stores.",
    ),
    "dashboard": (
        "casket.cli.dashboard:dashboard",
        "Serve experiment files on a live web page.",
    ),
}
"""The location of each command and the first sentence of its help.

A command's module is imported only when the command is used.
"""


ALLOCATIONS = 500_000
"""Allocations between two garbage collections. Reading a file creates many objects but no garbage;
the default threshold costs a tenth of the time of `casket ls`."""


INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells report it: 128 + SIGINT."""


class Failure(click.ClickException):
    """An error of usage or an invalid file; exits with code 2."""

    exit_code = 2


class _Commands(click.Group):
    """A group that imports each command on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], COMMANDS)
            if not near:
                raise
            hint = f"Did you mean {' or '.join(near)}?"
            raise click.UsageError(f"No such command {args[0]!r}. {hint}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in COMMANDS.items()])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with terminal.safe_streams():
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CasketError as error:
            raise Failure(str(error)) from error
        except KeyboardInterrupt as error:
            raise Exit(INTERRUPTED) from error
        except click.Abort as error:  # by a prompt
            if isinstance(error.__context__, KeyboardInterrupt):
                raise Exit(INTERRUPTED) from error
            raise Failure("no answer: give --yes to confirm without a terminal") from error


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="casket")
def app() -> None:
    """View, compare, clean up and convert experiment files.

    FILE is the path or URL of an experiment file. It defaults to $CASKET_FILE, or to the only
    experiment file in the current folder. SESSION is a prefix of a session's id, its name, or @last
    for the latest session.

    Exit codes: 0 for success, 1 if nothing was found or the sessions differ, 2 for an invalid
    command or file.
    """
    warnings.showwarning = _show_warning


def main() -> None:
    """Run the command line."""
    terminal.occupy_closed_descriptors()
    gc.set_threshold(ALLOCATIONS)
    sys.set_int_max_str_digits(0)  # logged integers are shown at any length
    app(prog_name="casket", color=False if os.environ.get("NO_COLOR") else None)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"warning: {message}", err=True)


if __name__ == "__main__":
    main()
