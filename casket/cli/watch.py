"""`casket watch`: reports events of sessions, each once, to the terminal and elsewhere."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import click
import orjson

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
from casket.stores.jsonfile.files import LocalFile

TRIES, PAUSE = 3, 1.0
"""With `--once`: how often an event is delivered until it is accepted, and the seconds between."""

LONGEST_TITLE, LONGEST_TEXT = 200, 2_000

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

    The keys of delivered events are lines of a file, to which each delivery appends. The newline
    comes first, so that a line that a crash has cut off does not spoil the next.

    Args:
        location: the store.
        receiver: the receiver.
    """

    def __init__(self, location: str, receiver: Receiver) -> None:
        self._receiver = receiver
        identity = hashlib.sha256(f"{location}\n{receiver.identity}".encode()).hexdigest()
        self._path = _folder() / f"{identity[:32]}.jsonl"
        self._delivered = set(_keys(self._path))
        self._waiting: dict[Key, Notice] = {}
        self._problem = ""

    def add(self, notices: Iterable[tuple[Key, Notice]]) -> None:
        """Add the events that were not delivered yet."""
        for key, notice in notices:
            if key not in self._delivered:
                self._waiting[key] = notice

    def deliver(self) -> bool:
        """Deliver the waiting events; return whether all were accepted.

        Another watch with the same destination waits meanwhile, and delivers none of them again.
        """
        if not self._waiting:
            return True
        with self._alone():
            are_accepted = self._deliver()
        if are_accepted:
            self._problem = ""
        return are_accepted

    def _deliver(self) -> bool:
        """Deliver the waiting events; return whether all were accepted.

        A failure is reported once. It ends the attempt, unless the receiver refused only this
        event.
        """
        are_accepted = True
        for key, notice in list(self._waiting.items()):
            try:
                self._receiver.deliver(notice)
            except NotDelivered as error:
                waiting = f"{counted(len(self._waiting), 'event')} waiting"
                self._report(f"{self._receiver.name}: {error}; {waiting}")
                are_accepted = False
                if isinstance(error, Refused):
                    continue
                break
            self.note(key)
            del self._waiting[key]
        return are_accepted

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other watches from delivering, and drop the events that they have delivered."""
        if not self._receiver.is_shared:
            yield
            return
        with ExitStack() as stack:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(closing(LocalFile(self._path, writing=True)))
                file.lock()
            except OSError as error:
                self._report(f"{self._path}: {error.strerror}; events may be reported again")
            else:
                self._delivered.update(_keys(self._path))
                for key in self._delivered & self._waiting.keys():
                    del self._waiting[key]
            yield

    def note(self, key: Key) -> None:
        """Record that an event needs no more delivery."""
        if key in self._delivered:
            return
        self._delivered.add(key)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(b"\n" + orjson.dumps(key))
        except OSError as error:
            self._report(f"{self._path}: {error.strerror}; events may be reported again")

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            message = terminal.one_line(problem)
            click.echo(f"warning: {message}", err=True)


def _folder() -> Path:
    """Return the folder of what was reported."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "casket" / "watch"


def _keys(path: Path) -> Iterator[Key]:
    """Yield the keys in a file; a line that a crash has cut off is skipped."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            session, kind, detail = orjson.loads(line)
        except ValueError:
            continue
        yield session, kind, detail
