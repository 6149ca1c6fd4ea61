"""The receivers of the events of `casket watch`: the terminal, webhooks, commands and Apprise."""

from __future__ import annotations

import os
import shlex
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import Any, Protocol

import click
import orjson

from casket.cli import tables, terminal
from casket.errors import missing
from casket.reading.plain_text import encodable, visible

_BUSY = frozenset({429, 502, 503, 504})
"""The answers of a server that accepts no event at the moment."""

WEBHOOK_TIMEOUT = 10.0
COMMAND_TIMEOUT = 60.0

Notice = dict[str, str]
"""An event as texts: event, title, text, level, time, session, name, experiment, model, file."""


class NotDelivered(Exception):
    """A receiver did not accept an event; the message states the reason."""


class Refused(NotDelivered):
    """The receiver was reached and refused this event; it may accept others."""


class Receiver(Protocol):
    """Receives events."""

    @property
    def name(self) -> str:
        """The receiver in messages, without secrets."""

    @property
    def identity(self) -> str:
        """The receiver and its destination; events are delivered once per identity."""

    @property
    def is_shared(self) -> bool:
        """Whether several watches at once deliver to the same destination."""

    def deliver(self, notice: Notice) -> None:
        """Deliver an event.

        Raises:
            NotDelivered: it was not accepted.
        """


class Terminal:
    """Prints each event on a line, as text or as JSON."""

    name = identity = "terminal"
    is_shared = False

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def deliver(self, notice: Notice) -> None:
        if self._as_json:
            terminal.write(f"{_json(notice).decode()}\n", is_json=True)
            return
        event = notice["event"]
        kind = event if event != "alert" else notice["level"]
        shown = terminal.styled(kind, fg=tables.LEVEL_COLORS.get(notice["level"]))
        parts = (notice["title"] if notice["title"] != event else "", notice["text"])
        text = ": ".join(filter(None, parts)) if event == "alert" else " ".join(filter(None, parts))
        head = f"{tables.clock(notice['time'])} {notice['session'][:8]} {notice['model']}"
        click.echo(terminal.one_line(f"{head} {shown} {text}").rstrip())


class Webhook:
    """Sends each event as JSON by POST."""

    is_shared = True

    def __init__(self, url: str) -> None:
        self.identity = f"webhook {url}"
        self._url = url
        # The path often holds a secret.
        self.name = f"webhook {urllib.parse.urlsplit(url).hostname}"

    def deliver(self, notice: Notice) -> None:
        request = urllib.request.Request(  # noqa: S310 - `checked_url` admits http and https only
            self._url, _json(notice), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with _OPENER.open(request, timeout=WEBHOOK_TIMEOUT):
                return
        except urllib.error.HTTPError as error:
            error.close()
            kind = NotDelivered if error.code in _BUSY else Refused
            raise kind(f"answered {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise NotDelivered(str(error.reason)) from error
        except (OSError, HTTPException) as error:
            raise NotDelivered(str(error) or type(error).__name__) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes redirections fail, because urllib would follow them by GET, without the event."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


class Command:
    """Runs a command for each event, without a shell.

    The command gets the event as JSON on its standard input and as environment variables.
    """

    is_shared = True

    def __init__(self, command: str) -> None:
        self.identity = f"command {command}"
        self._words = shlex.split(command)
        self.name = f"command {self._words[0]}"

    def deliver(self, notice: Notice) -> None:
        variables = {
            f"CASKET_EVENT_{name.upper()}" if name != "event" else "CASKET_EVENT": text
            for name, text in notice.items()
        }
        try:
            done = subprocess.run(  # noqa: S603 - the user's own command; no text of a file is in it
                self._words,
                input=_json(notice),
                env={**os.environ, **variables},
                timeout=COMMAND_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NotDelivered(f"took longer than {COMMAND_TIMEOUT:.0f} s") from error
        except (OSError, ValueError) as error:
            raise NotDelivered(str(error)) from error
        if done.returncode:
            raise Refused(f"exited with code {done.returncode}")


class Apprise:
    """Sends each event to a service that the package Apprise knows."""

    is_shared = True
    LEVELS = {"info": "info", "warning": "warning", "error": "failure"}  # noqa: RUF012 - constant

    def __init__(self, url: str) -> None:
        try:
            import apprise
        except ModuleNotFoundError as error:
            raise missing(error, "apprise", "watch") from error
        self._services = apprise.Apprise()
        if not self._services.add(url):
            raise click.UsageError("--apprise: Apprise does not know this kind of URL")
        self.identity = f"apprise {url}"
        self.name = f"apprise {url.partition(':')[0]}"

    def deliver(self, notice: Notice) -> None:
        title = f"{notice['event']}: {notice['title']}"
        owner = f"{notice['experiment']} / {notice['model']} {notice['session'][:8]}"
        body = "\n".join(filter(None, (notice["text"], owner)))
        kind = self.LEVELS.get(notice["level"], "info")
        if not self._services.notify(body=body, title=title, notify_type=kind):
            raise NotDelivered("the service did not accept it")


def checked_urls(_: click.Context, __: click.Parameter, urls: tuple[str, ...]) -> tuple[str, ...]:
    """Return the URLs of webhooks.

    Raises:
        click.BadParameter: a URL is not one of HTTP.
    """
    for url in urls:
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise click.BadParameter("give a URL that begins with http:// or https://")
    return urls


def checked_commands(
    _: click.Context, __: click.Parameter, commands: tuple[str, ...]
) -> tuple[str, ...]:
    """Return commands.

    Raises:
        click.BadParameter: a command is empty or its quotes are not closed.
    """
    for command in commands:
        try:
            is_empty = not shlex.split(command)
        except ValueError as error:
            raise click.BadParameter(f"{command!r}: {error}") from error
        if is_empty:
            raise click.BadParameter("give a command")
    return commands


def clean(text: str) -> str:
    """Return a text of a file without control characters, for environments and services."""
    return encodable(visible(text))


def _json(notice: Notice) -> bytes:
    return orjson.dumps(notice)
