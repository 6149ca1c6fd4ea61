"""`casket tail`: follows the running sessions of all processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from casket.cli import options, tables, terminal
from casket.format.records import Record
from casket.reading.casket import Casket
from casket.reading.columns import flatten
from casket.reading.rows import is_number
from casket.reading.summary import as_json, epoch_count, facts
from casket.reading.sweeps import worker_of
from casket.reading.views import SessionView, parse_time

TOTALS = ("epochs", "max_epochs", "num_epochs", "n_epochs", "num_train_epochs")
"""Params that hold the total number of epochs."""
BATCH_INTERVAL = timedelta(seconds=1)
"""Minimum time between two displayed batches of a session."""
METRICS = 6
WINDOW = 20
"""Number of latest epochs used for the rate, because a resumed session has paused before."""


@click.command()
@options.file_argument
@click.option("-f", "--follow", is_flag=True, help="Keep running and show new records.")
@click.option(
    "--timeout", type=float, help="With -f: stop after this many seconds without a new record."
)
@options.json_option
def tail(file: str | None, follow: bool, timeout: float | None, as_json: bool) -> None:
    """Show running sessions with their metrics, rate and expected end.

    The expected end is known if the params contain the total number of epochs (epochs,
    max_epochs, ...). With --json and -f, each record is a line of JSON.

    \b
    casket tail -f runs.json
    """
    with options.open_file(file) as runs:
        running = runs.sessions(status="running", children=True)
        if follow:
            if running and not as_json:
                click.echo(running_table(running))
            _follow(runs, running, timeout, as_json=as_json)
        elif as_json:
            options.write_json([{**facts(each), **pace_of(each)} for each in running])
        elif running:
            click.echo(running_table(running))
        else:
            raise options.NothingFound(
                f"no session is running in {runs.location}: `casket ls` shows all"
            )


def pace_of(session: SessionView) -> dict[str, Any]:
    """Return the pace of a running session as JSON.

    Returns:
        `epochs_per_second` and `expected_end`, which is None if the total number of epochs is
        unknown.
    """
    times = [parse_time(time) for time in session.logged("epoch").times[-WINDOW:] if time]
    if len(times) < 2 or times[-1] <= times[0]:
        return {"epochs_per_second": None, "expected_end": None}
    pace = (len(times) - 1) / (times[-1] - times[0]).total_seconds()
    total = total_epochs(session)
    end = None
    if total:
        left = max(total - epoch_count(session), 0)
        end = (times[-1] + timedelta(seconds=left / pace)).isoformat()
    return {"epochs_per_second": round(pace, 6), "expected_end": end}


def total_epochs(session: SessionView) -> int | None:
    """Return the total number of epochs from a session's params; None if they have none."""
    params = flatten({**session.config, **session.params})
    for name, value in params.items():
        if name.rpartition(".")[2] in TOTALS and is_number(value) and value > 0:
            return int(value)
    return None


def running_table(running: Sequence[SessionView], *, workers: bool = False) -> str:
    """Return a table of running sessions with their metrics, rate and expected end.

    Args:
        running: the sessions.
        workers: whether to show the host and the pid of the process of each.
    """
    if not running:
        return ""
    rows = [(_worker(session) if workers else {}) | _row(session) for session in running]
    keep = ("worker", "session", "params", "metrics")
    return tables.table(rows, list(rows[0]), keep=keep, least=["name"])


def _worker(session: SessionView) -> dict[str, str]:
    host, pid = worker_of(session)
    return {"worker": f"{host}:{pid}"}


def _row(session: SessionView) -> dict[str, str]:
    pace = pace_of(session)
    total = total_epochs(session)
    epochs = epoch_count(session)
    return {
        "session": session.id[:8],
        "name": session.name,
        "model": session.model,
        "params": _metrics(session.params),
        "epoch": f"{epochs}/{total}" if total else str(epochs),
        "metrics": _metrics(dict(session.last)),
        "rate": _rate(pace["epochs_per_second"]),
        "ends": tables.clock(pace["expected_end"]),
        "last record": f"{tables.ago(session.age.total_seconds())} ago",
    }


def _follow(
    runs: Casket, running: Sequence[SessionView], timeout: float | None, *, as_json: bool
) -> None:
    shown: dict[str, datetime] = {}
    watch = _Watch(runs, running)
    for record in runs.follow(timeout=timeout, on_idle=None if as_json else watch.report):
        if as_json:
            terminal.write(f"{options.json_line(record)}\n", is_json=True)
            continue
        if record["kind"] == "batch":
            time, session = parse_time(record["time"]), record["session"]
            if time - shown.get(session, datetime.min.replace(tzinfo=UTC)) < BATCH_INTERVAL:
                continue
            shown[session] = time
        for line in _lines(runs, record):
            click.echo(terminal.one_line(line))


class _Watch:
    """Reports sessions whose process has ended without an end of the session."""

    def __init__(self, runs: Casket, running: Sequence[SessionView]) -> None:
        self._runs = runs
        self._running = {session.id for session in running}

    def report(self) -> None:
        """Print a line for each session that was killed since the last call."""
        killed = self._sessions("killed")
        for session in self._running & killed.keys():
            view = killed[session]
            click.echo(
                terminal.one_line(
                    f"{tables.clock(datetime.now(UTC).isoformat())} {_head(view)} "
                    f"{tables.colored_status('killed')} {_metrics(dict(view.last))}"
                )
            )
        self._running = set(self._sessions("running"))

    def _sessions(self, status: str) -> dict[str, SessionView]:
        return {
            session.id: session for session in self._runs.sessions(status=status, children=True)
        }


def _lines(runs: Casket, record: Record) -> Iterator[str]:
    """Yield the display line of a record, if it has any."""
    clock = tables.clock(record["time"])
    body = record["body"]
    view = runs.session(record.get("session", ""))
    head = f"{clock} {_head(view) if view else ''}"
    match record["kind"]:
        case "session":
            yield f"{head} {tables.colored_status('running')} {_metrics(body['params'])}"
        case "epoch":
            pace = _pace(runs, record)
            yield f"{head} epoch {body['epoch_num']} {_metrics(body['result'])}{pace}"
        case "batch":
            yield f"{head} batch {body['batch_num']} {_metrics(body['result'])}"
        case "result":
            index = "" if body["index"] is None else f" {body['index']}"
            yield f"{head} result{index} {_metrics(body['result'])}"
        case "artifact" if not body.get("captured"):
            step = f", step {body['step']}" if "step" in body else ""
            yield f"{head} artifact {body['name']}{step}"
        case "alert":
            shown = tables.alert_text(body["title"], body["text"], body["level"])
            yield f"{head} alert {shown}"
        case "end":
            error = f" {body['error']}" if body.get("error") else ""
            yield f"{head} {tables.colored_status(body['status'])}{error}"


def _head(session: SessionView) -> str:
    return f"{session.id[:8]} {session.name} {session.model}"


def _pace(runs: Casket, record: Record) -> str:
    session = runs.session(record["session"])
    if session is None:
        return ""
    pace = pace_of(session)
    parts = [_rate(pace["epochs_per_second"])]
    if pace["expected_end"]:
        parts.append(f"ends {tables.clock(pace['expected_end'])}")
    text = ", ".join(filter(None, parts))
    return f"  ({text})" if text else ""


def _metrics(values: dict[str, Any]) -> str:
    numbers = {
        name: value
        for name, value in flatten(as_json(values)).items()
        if not isinstance(value, list)
    }
    return " ".join(
        f"{name}={tables.text(value)}" for name, value in list(numbers.items())[:METRICS]
    )


def _rate(pace: float | None) -> str:
    if not pace:
        return ""
    return f"{pace:.3g} epochs/s" if pace >= 1 else f"{tables.span(1 / pace)} an epoch"
