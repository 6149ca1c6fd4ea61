"""What the commands have in common: which file and session is meant, how a question is asked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
from click.shell_completion import CompletionItem

import casket
from casket.reading.summary import as_json
from casket.reading.views import SessionView

Command = TypeVar("Command", bound=Callable[..., Any])

SUFFIXES = frozenset({".json", ".sqlite", ".sqlite3", ".db"})


class NothingFound(click.ClickException):
    """There is nothing that fits: the message, and exit code 1."""


class FileType(click.Path):
    """A path or URL of an experiment file; the shell completes files."""

    name = "file"

    def __init__(self) -> None:
        super().__init__()

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ARG002 - click's signature
        """Leave it as it is: a URL is no path."""
        return value


class SessionType(click.ParamType[str]):
    """The beginning of a session's id, or `@last`; the shell completes ids."""

    name = "session"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the ids that begin as what was typed, the newest first."""
        try:
            with open_file(ctx.params.get("file")) as runs:
                sessions = list(reversed(runs.sessions()))
        except (click.ClickException, casket.CasketError, OSError):
            return []  # nothing to complete from
        names = [("@last", "the session that began last"), *((s.id, s.model) for s in sessions)]
        return [
            CompletionItem(name, help=said) for name, said in names if name.startswith(incomplete)
        ]


def file_argument(command: Command) -> Command:
    """Add the argument `FILE`."""
    return click.argument("file", required=False, type=FileType())(command)


def file_option(command: Command) -> Command:
    """Add the option `--file FILE`, for commands that take any number of other arguments."""
    return click.option("-f", "--file", type=FileType(), help="The experiment file.")(command)


def json_option(command: Command) -> Command:
    """Add the option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON instead.")(command)


def where_option(command: Command) -> Command:
    """Add the option `--where EXPRESSION`."""
    return click.option(
        "--where",
        metavar="EXPRESSION",
        help="Only sessions that fit, such as \"params.lr < 0.1 or 'svm' in tags\".",
    )(command)


def yes_options(command: Command) -> Command:
    """Add the options `--yes` and `--dry-run`."""
    command = click.option("-y", "--yes", is_flag=True, help="Do not ask.")(command)
    return click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, only.")(
        command
    )


def chosen_file(file: str | None) -> str:
    """Return the file that is meant.

    Args:
        file: what the user gave; None: `$CASKET_FILE`, or the one experiment file of this folder.
    """
    if file:
        return file
    if os.environ.get("CASKET_FILE"):
        return os.environ["CASKET_FILE"]
    files = sorted(filter(_is_ours, Path().iterdir()))
    if not files:
        raise click.UsageError(
            "there is no experiment file in this folder: give FILE, or set CASKET_FILE"
        )
    if len(files) > 1:
        names = ", ".join(map(str, files))
        raise click.UsageError(
            f"there are several experiment files in this folder: give one of {names}, "
            "or set CASKET_FILE"
        )
    return str(files[0])


def _is_ours(path: Path) -> bool:
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False  # it can still be named, and the error says why it cannot be read
    if head.startswith(b"SQLite format 3\0"):
        return b"CREATE TABLE records" in head
    return head.startswith(b'{"_default"') and (b'"kind"' in head or b'"models"' in head)


def open_file(file: str | None) -> casket.Casket:
    """Open the file that is meant to read."""
    return casket.open(chosen_file(file))


def found_session(runs: casket.Casket, name: str) -> SessionView:
    """Return the session of a name: the beginning of its id, or `@last`."""
    sessions = runs.sessions()
    if name == "@last":
        if not sessions:
            raise NothingFound(f"there are no sessions in {runs.place}")
        return sessions[-1]
    fitting = [session for session in sessions if session.id.startswith(name)]
    if not fitting:
        raise NothingFound(f"no session begins with {name!r}: `casket ls` shows those there are")
    if len(fitting) > 1 and name not in {session.id for session in fitting}:
        ids = ", ".join(session.id for session in fitting[:6])
        more = f" and {len(fitting) - 6} more" if len(fitting) > 6 else ""
        raise click.UsageError(f"{name!r} is the beginning of {ids}{more}: give more of the id")
    return fitting[0]


def names(text: str | None) -> list[str]:
    """Return names that are given in one text, with commas."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def json_line(value: Any) -> str:
    """Return JSON in one line."""
    plain = as_json(value)
    try:
        return orjson.dumps(plain).decode()
    except TypeError:  # a whole number of more than 64 bits
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def write_json(value: Any) -> None:
    """Write JSON to the standard output."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a whole number of more than 64 bits
        text = json.dumps(as_json(value), ensure_ascii=False, indent=2)
    click.echo(text)


def is_confirmed(question: str, *, yes: bool, dry_run: bool) -> bool:
    """Ask whether to go on; with `--yes` nobody is asked, with `--dry-run` it never goes on."""
    if dry_run:
        click.echo("nothing was changed (--dry-run)")
        return False
    return yes or click.confirm(question)


@contextmanager
def progress_bar(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on the error stream, if that is a terminal.

    Args:
        label: what is done.
        length: how much there is to do, in any unit.

    Yields:
        What to call with how much more is done.
    """
    is_hidden = not sys.stderr.isatty()
    with click.progressbar(length=length, label=label, file=sys.stderr, hidden=is_hidden) as bar:
        yield bar.update
