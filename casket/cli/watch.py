"""`casket watch`: reports events of sessions, each once, to the terminal and elsewhere."""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import click

from casket import CasketError
from casket.cli import options, terminal
from casket.cli.notify import (
    Apprise,
    Command,
    NotDelivered,
    Notice,
    Receiver,
    Refused,
    Terminal,
    Webhook,
    checked_commands,
    checked_urls,
    clean,
)
from casket.cli.wording import counted
from casket.reading.events import EVENT_KINDS, Event, EventKind, EventReader
from casket.reading.plain_text import cut

TRIES, PAUSE = 3, 1.0
"""With `--once`: how often an event is delivered until it is accepted, and the seconds between."""

LONGEST_TITLE, LONGEST_TEXT = 200, 2_000

LONGEST_DELIVERY = 120.0
"""The maximum of seconds to wait for the delivery of an event by another watch."""

LONGEST_PAUSE = 86_400
"""The maximum of `--every`, in seconds."""

Key = tuple[str, str, str]


def _checked_kinds(_: click.Context, __: click.Parameter, text: str) -> list[EventKind]:
    """Return the kinds in a list with commas.

    Raises:
        click.BadParameter: there is no such kind.
    """
    names = options.names(text)
    kinds = [kind for kind in EVENT_KINDS if kind in names]
    unknown = [name for name in names if name not in EVENT_KINDS]
    if unknown or not kinds:
        raise click.BadParameter(f"give some of {','.join(EVENT_KINDS)}")
    return kinds


def _checked_pause(_: click.Context, __: click.Parameter, seconds: float) -> float:
    """Return the seconds between two looks; NaN is in no range, but click admits it.

    Raises:
        click.BadParameter: it is not a number.
    """
    if math.isnan(seconds):
        raise click.BadParameter("give a number of seconds")
    return seconds


@click.command()
@options.file_argument
@click.option(
    "--on",
    "kinds",
    default=",".join(EVENT_KINDS),
    show_default=True,
    callback=_checked_kinds,
    metavar="EVENTS",
    help="The events to report, separated by commas.",
)
@click.option(
    "--webhook",
    "webhooks",
    multiple=True,
    callback=checked_urls,
    metavar="URL",
    help="Send each event as JSON to this URL by POST.",
)
@click.option(
    "--command",
    "commands",
    multiple=True,
    callback=checked_commands,
    metavar="COMMAND",
    help="Run this command for each event, with the event as CASKET_EVENT... and on its input.",
)
@click.option(
    "--apprise",
    "services",
    multiple=True,
    metavar="URL",
    help="Send each event to a service of Apprise, such as mailto:// or ntfy://.",
)
@click.option(
    "--every",
    type=click.FloatRange(0.1, LONGEST_PAUSE),
    callback=_checked_pause,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="The time between two looks at the file.",
)
@click.option("--once", is_flag=True, help="Look once; exit with 1 if a delivery failed.")
@click.option("--new", "only_new", is_flag=True, help="Skip events from before this start.")
@options.json_option
def watch(
    file: str | None,
    kinds: Sequence[EventKind],
    webhooks: Sequence[str],
    commands: Sequence[str],
    services: Sequence[str],
    every: float,
    once: bool,
    only_new: bool,
    as_json: bool,
) -> None:
    """Report what happens to sessions: failed, killed, stalled, NaN, diverged, alerts.

    Each event is reported once, also if the command is started again: what was reported is kept in
    $XDG_STATE_HOME/casket/watch, for each file and receiver. A delivery that fails is tried again
    at the next look.

    \b
    casket watch runs.json --on failed,killed,stalled --webhook https://example.com/hook
    casket watch runs.json --command "notify-send casket" --every 60
    casket watch runs.json --once --json
    """
    receivers: list[Receiver] = [
        Terminal(as_json=as_json),
        *map(Webhook, webhooks),
        *map(Command, commands),
        *map(Apprise, services),
    ]
    with options.open_file(file) as runs:
        events = EventReader(runs.reader, kinds)
        outboxes = [Outbox(runs.location, receiver) for receiver in receivers]
        if only_new:
            _skip(events.read_on(), outboxes)
        if once:
            _watch_once(events, outboxes, runs.location)
        else:
            _watch(events, outboxes, runs.location, every)


def _skip(events: Iterable[Event], outboxes: Iterable[Outbox]) -> None:
    for event in events:
        for outbox in outboxes:
            outbox.note(event.key)


def _watch_once(events: EventReader, outboxes: Sequence[Outbox], location: str) -> None:
    notices = list(_notices(events.read_on(), location))
    for outbox in outboxes:
        outbox.add(notices)
    for _ in range(TRIES):
        accepted = [outbox.deliver() for outbox in outboxes]
        if all(accepted):
            return
        time.sleep(PAUSE)
    raise click.exceptions.Exit(1)


def _watch(events: EventReader, outboxes: Sequence[Outbox], location: str, every: float) -> None:
    problem = ""
    while True:
        try:
            notices = list(_notices(events.read_on(), location))
            problem = ""
        except CasketError as error:
            if str(error) != problem:
                problem = str(error)
                click.echo(f"warning: {problem}; it is tried again", err=True)
            notices = []
        for outbox in outboxes:
            outbox.add(notices)
            outbox.deliver()
        time.sleep(every)


def _notices(events: Iterable[Event], location: str) -> Iterator[tuple[Key, Notice]]:
    """Yield events with their texts, which are of a length that every receiver accepts."""
    for event in events:
        texts = {
            "event": event.kind,
            "title": cut(event.title, LONGEST_TITLE),
            "text": cut(event.text, LONGEST_TEXT),
            "level": event.level,
            "time": event.time.isoformat(),
            "session": event.session.id,
            "name": cut(event.session.name, LONGEST_TITLE),
            "experiment": cut(event.session.experiment, LONGEST_TITLE),
            "model": cut(event.session.model, LONGEST_TITLE),
            "file": cut(location, LONGEST_TEXT),
        }
        yield event.key, {name: clean(text) for name, text in texts.items()}


class Outbox:
    """The events that a receiver has not accepted yet, and the record of those it has.

    The keys of delivered events are in a SQLite file, which all watches with the same store and
    receiver share.

    Args:
        location: the store.
        receiver: the receiver.
    """

    def __init__(self, location: str, receiver: Receiver) -> None:
        self._receiver = receiver
        identity = hashlib.sha256(f"{location}\n{receiver.identity}".encode()).hexdigest()
        self._path = _folder() / f"{identity[:32]}.sqlite"
        self._delivered = self._recorded()
        self._waiting: dict[Key, Notice] = {}
        self._problem = ""

    def add(self, notices: Iterable[tuple[Key, Notice]]) -> None:
        """Add the events that were not delivered yet."""
        for key, notice in notices:
            if key not in self._delivered:
                self._waiting[key] = notice

    def deliver(self) -> bool:
        """Deliver the waiting events; return whether all were accepted.

        A failure is reported once. It ends the attempt, unless the receiver refused only this
        event.
        """
        are_accepted = True
        for key, notice in list(self._waiting.items()):
            try:
                self._deliver(key, notice)
            except NotDelivered as error:
                waiting = f"{counted(len(self._waiting), 'event')} waiting"
                self._report(f"{self._receiver.name}: {error}; {waiting}")
                are_accepted = False
                if isinstance(error, Refused):
                    continue
                break
            del self._waiting[key]
        if are_accepted:
            self._problem = ""
        return are_accepted

    def _deliver(self, key: Key, notice: Notice) -> None:
        """Deliver an event, unless another watch has; another one that is about to do so waits."""
        with self._recording(key) as is_new:
            if is_new or not self._receiver.is_shared:
                self._receiver.deliver(notice)

    def note(self, key: Key) -> None:
        """Record that an event needs no more delivery."""
        with self._recording(key):
            pass

    @contextmanager
    def _recording(self, key: Key) -> Iterator[bool]:
        """Record a key unless the block raises; yield whether it was not recorded before.

        A key that cannot be recorded, such as on a full disk, is known to this process only.
        """
        with ExitStack() as stack:
            connection, is_new = None, True
            with self._reporting():
                opened = stack.enter_context(closing(_connected(self._path)))
                opened.execute("BEGIN IMMEDIATE")
                insertion = "INSERT OR IGNORE INTO delivered VALUES (?, ?, ?)"
                is_new = opened.execute(insertion, key).rowcount == 1
                connection = opened
            yield is_new
            self._delivered.add(key)
            if connection is not None:
                with self._reporting():
                    connection.execute("COMMIT")

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self._report(f"{self._path}: {error}; events may be reported again")

    def _recorded(self) -> set[Key]:
        if not self._path.exists():
            return set()
        try:
            with closing(_connected(self._path)) as connection:
                return set(connection.execute("SELECT session, kind, detail FROM delivered"))
        except sqlite3.Error as error:
            raise click.ClickException(f"{self._path}: {error}; remove the file") from error

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            message = terminal.one_line(problem)
            click.echo(f"warning: {message}", err=True)


def _folder() -> Path:
    """Return the folder of what was reported."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "casket" / "watch"


def _connected(path: Path) -> sqlite3.Connection:
    """Open the record of delivered events.

    Raises:
        OSError: its folder cannot be created.
        sqlite3.Error: it cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=LONGEST_DELIVERY, isolation_level=None)
    columns = "session, kind, detail, UNIQUE (session, kind, detail)"
    connection.execute(f"CREATE TABLE IF NOT EXISTS delivered ({columns})")
    return connection
