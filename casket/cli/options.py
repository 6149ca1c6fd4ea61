"""Options, arguments and prompts shared by the commands."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
from click.shell_completion import CompletionItem

import casket
from casket.cli import terminal
from casket.reading.columns import flatten
from casket.reading.summary import as_json, numeric_metrics
from casket.reading.views import SessionView

Command = TypeVar("Command", bound=Callable[..., Any])

SUFFIXES = frozenset({".json", ".sqlite", ".sqlite3", ".db"})


class NothingFound(click.ClickException):
    """No matching record exists; exits with code 1."""


class FileType(click.Path):
    """A path or URL of an experiment file, completed as a file by the shell."""

    name = "file"

    def __init__(self) -> None:
        super().__init__()

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ARG002 - click's signature
        """Return the value unchanged, because a URL is not a path."""
        return value


class SessionType(click.ParamType[str]):
    """A prefix of a session id, a name or `@last`, completed by the shell."""

    name = "session"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the ids that start with the incomplete word, newest first."""
        try:
            with open_file(ctx.params.get("file")) as runs:
                sessions = list(reversed(runs.sessions(children=True)))
        except (click.ClickException, casket.CasketError, OSError):
            return []  # no file to read ids from
        names = [("@last", "the latest session"), *((s.id, s.model) for s in sessions)]
        return [
            CompletionItem(name, help=terminal.one_line(text))
            for name, text in names
            if name.startswith(incomplete)
        ]


Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def _completing(values: Callable[[casket.Casket], Iterable[str]]) -> Completion:
    """Return the completion of an option by values of the file; after commas, of the last one."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
        try:
            with open_file(ctx.params.get("file")) as runs:
                known = dict.fromkeys(values(runs))
        except (click.ClickException, casket.CasketError, OSError):
            return []  # no file to read values from
        before, comma, last = incomplete.rpartition(",")
        fitting = [name for name in known if name.startswith(last) and name.isprintable()]
        return [f"{before}{comma}{name}" for name in fitting]

    return complete


complete_metrics = _completing(
    lambda runs: (
        name for session in runs.sessions(children=True) for name in numeric_metrics(session)
    )
)
complete_names = _completing(
    lambda runs: (
        name
        for session in runs.sessions(children=True)
        for name in (*flatten(session.params, "params."), *numeric_metrics(session))
    )
)
complete_tags = _completing(
    lambda runs: (tag for each in runs.sessions(children=True) for tag in each.tags)
)
complete_experiments = _completing(lambda runs: (each.id for each in runs.experiments))
complete_models = _completing(lambda runs: (each.id for each in runs.models()))


class FileAnywhere(click.Command):
    """A command whose FILE is recognized at any position among its arguments."""

    def make_parser(self, ctx: click.Context) -> Any:
        """Return a parser that moves the file to its place."""
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_args(args: list[str]) -> Any:
            values, rest, order = parse(args=args)
            return values, self._move_file(values, rest), order

        parser.parse_args = parse_args  # type: ignore[method-assign]
        return parser

    def _move_file(self, values: dict[str, Any], rest: list[str]) -> list[str]:
        """Move the only experiment file among the arguments to FILE.

        Args:
            values: the parsed values by parameter; changed in place.
            rest: the words that are no values, because there are too many.

        Returns:
            The words that are still too many.
        """
        arguments = [each for each in self.params if isinstance(each, click.Argument)]
        words = [word for each in arguments for word in _words(values.get(str(each.name)))]
        words += rest
        stores = [word for word in words if _is_store(word)]
        is_option = "file" not in {each.name for each in arguments}
        if len(stores) != 1 or (is_option and values.get("file")):
            return rest
        words.remove(stores[0])
        values["file"] = stores[0]
        for argument in arguments:
            if argument.name == "file":
                continue
            count = len(words) if argument.nargs == -1 else 1
            taken, words = words[:count], words[count:]
            values.pop(str(argument.name), None)
            if taken:
                values[str(argument.name)] = taken if argument.nargs == -1 else taken[0]
        return words


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return (
        [each for each in value if isinstance(each, str)]
        if isinstance(value, (list, tuple))
        else []
    )


def _is_store(word: str) -> bool:
    """Return whether an argument is a URL or an existing experiment file."""
    if re.match(r"[a-z][a-z0-9+.-]+://|blitz:.|[^@:/\s]+@[^@:/\s]+:\S+\.json$", word):
        return True
    try:
        return Path(word).is_file() and _has_records(Path(word))
    except OSError:
        return False  # too long for a path


def file_argument(command: Command) -> Command:
    """Add the argument `FILE` to a command."""
    return click.argument("file", required=False, type=FileType())(command)


def file_option(command: Command) -> Command:
    """Add the option `--file FILE` to a command with a variable number of arguments."""
    return click.option("-f", "--file", type=FileType(), help="The experiment file.")(command)


def json_option(command: Command) -> Command:
    """Add the option `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON.")(command)


def where_option(command: Command) -> Command:
    """Add the option `--where EXPRESSION` to a command."""
    return click.option(
        "--where",
        metavar="EXPRESSION",
        help="Only sessions that match a condition, such as \"params.lr < 0.1 or 'svm' in tags\".",
    )(command)


def children_option(command: Command) -> Command:
    """Add the option `--children` to a command."""
    return click.option("--children", is_flag=True, help="Include the children of other sessions.")(
        command
    )


def yes_options(command: Command) -> Command:
    """Add the options `--yes` and `--dry-run` to a command."""
    command = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")(
        command
    )
    return click.option(
        "-n", "--dry-run", is_flag=True, help="Show the changes without making them."
    )(command)


def chosen_file(file: str | None) -> str:
    """Return the path or URL of the experiment file to use.

    Args:
        file: the value given on the command line. If None, `$CASKET_FILE` or the only experiment
            file in the current folder is used.
    """
    if file:
        return file
    if os.environ.get("CASKET_FILE"):
        return os.environ["CASKET_FILE"]
    files = sorted(filter(_is_ours, Path().iterdir()))
    if not files:
        raise click.UsageError(
            "no experiment file in the current folder: give FILE or set CASKET_FILE"
        )
    if len(files) > 1:
        names = ", ".join(map(str, files))
        raise click.UsageError(
            f"several experiment files in the current folder: give one of {names}, "
            "or set CASKET_FILE"
        )
    return str(files[0])


def _is_ours(path: Path) -> bool:
    return (
        path.suffix in SUFFIXES
        and path.is_file()
        and (_has_records(path) or Path(f"{path}.parts").is_dir())
    )


def _has_records(path: Path) -> bool:
    """Return whether the first bytes of a file are those of an experiment file."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False  # it can still be given by name; the error then states the reason
    if head.startswith(b"SQLite format 3\0"):
        return b"CREATE TABLE records" in head
    return head.startswith(b'{"_default"') and (b'"kind"' in head or b'"models"' in head)


def open_file(file: str | None) -> casket.Casket:
    """Open the file that `chosen_file` returns for reading."""
    return casket.open(chosen_file(file))


def found_session(runs: casket.Casket, name: str) -> SessionView:
    """Return a session by its id, the beginning of its id or its name, or by `@last`."""
    with reported():
        return runs[name]


@contextmanager
def reported() -> Iterator[None]:
    """Exit with code 1 if a session is not there, and with code 2 if several are meant."""
    try:
        yield
    except casket.NoSuchSession as error:
        kind = click.UsageError if error.matching else NothingFound
        raise kind(str(error)) from error


def names(text: str | None) -> list[str]:
    """Split a comma-separated list of names."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def json_line(value: Any) -> str:
    """Serialize a value as one line of JSON."""
    plain = as_json(value)
    try:
        return orjson.dumps(plain).decode()
    except TypeError:  # a whole number of more than 64 bits
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def write_json(value: Any) -> None:
    """Write a value as JSON to standard output."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a whole number of more than 64 bits
        text = json.dumps(as_json(value), ensure_ascii=False, indent=2)
    terminal.write(f"{text}\n", is_json=True)


def is_confirmed(question: str, *, yes: bool, dry_run: bool) -> bool:
    """Ask for confirmation, but return False with `--dry-run` and True with `--yes`."""
    if dry_run:
        click.echo("nothing was changed (--dry-run)")
        return False
    return yes or click.confirm(question)


@contextmanager
def progress_bar(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error if it is a terminal.

    Args:
        label: text before the bar.
        length: total amount of work, in any unit.

    Yields:
        A function that advances the bar by an amount.
    """
    is_hidden = not sys.stderr.isatty()
    # The bar moves the cursor, which `sys.stderr` does not permit.
    stream = getattr(sys.stderr, "raw", sys.stderr)
    text = terminal.one_line(label)
    with click.progressbar(length=length, label=text, file=stream, hidden=is_hidden) as bar:
        yield bar.update
