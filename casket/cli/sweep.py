"""`casket sweep`: runs a command for each set of params."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from casket import Casket, Experiment
from casket.cli import options, tables, terminal
from casket.cli.app import INTERRUPTED
from casket.cli.sets import sets_of
from casket.cli.sweeps import best_text, end_text, per_hour_text
from casket.cli.tail import running_table
from casket.reading.columns import flatten
from casket.reading.sweeps import SweepView, sweeps_of
from casket.reading.views import SessionView
from casket.writing.attaching import VARIABLE, variable_for
from casket.writing.commands import Commands, placeholders
from casket.writing.spaces import space_of
from casket.writing.sweep import Options, Sweep, SweepSession

_INTERVAL = 0.5
"""Seconds between two updates of the table."""


class _BeforeCommand(click.Command):
    """A command whose own arguments end at `--`, after which another command follows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split the arguments at the first `--`."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[__name__] = args[at + 1 :]
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show the other command in the usage line."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND..."]


@click.command(cls=_BeforeCommand)
@options.file_argument
@click.option("--experiment", "-e", required=True, help="The experiment of the sessions.")
@click.option("--model", "-m", required=True, help="The model of the sessions.")
@click.option(
    "--grid",
    multiple=True,
    metavar="NAME=VALUES",
    help='Values of a param, such as "lr=0.1,0.01" or "seed=0:3" (0, 1, 2); all combinations run.',
)
@click.option(
    "--params",
    "params_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with sets of params: a JSON or YAML list, or CSV with a column for each param.",
)
@click.option("--random", "draws", type=click.IntRange(1), help="Draw this many sets from --space.")
@click.option(
    "--space",
    multiple=True,
    metavar="NAME=DISTRIBUTION",
    help="With --random: uniform(a,b), loguniform(a,b), randint(a,b), or values such as a,b,c.",
)
@click.option("--seed", default=0, show_default=True, help="With --random: the seed of the sets.")
@click.option(
    "--jobs", "-j", default=1, show_default=True, type=click.IntRange(1), help="Commands at a time."
)
@click.option(
    "--gpus",
    metavar="DEVICES",
    help="Set CUDA_VISIBLE_DEVICES to one of these devices, such as 0,1, for each command.",
)
@click.option(
    "--retries",
    default=1,
    show_default=True,
    type=click.IntRange(0),
    help="Times a failed set is tried again.",
)
@click.option("--wait", is_flag=True, help="Wait for the sets that other processes run.")
@click.option("--shuffle", is_flag=True, help="Run the sets in random order.")
@click.option("--where", metavar="CONDITION", help='Run only sets such as "lr > 0.01".')
@click.option("--until", metavar="CONDITION", help='Stop at a session such as "best(loss) < 0.1".')
def sweep(
    file: str | None,
    experiment: str,
    model: str,
    jobs: int,
    gpus: str | None,
    shuffle: bool,
    retries: int,
    wait: bool,
    where: str | None,
    until: str | None,
    **space: Any,
) -> None:
    """Run COMMAND for each set of params, once over all processes that share the file.

    Placeholders such as {lr} in COMMAND stand for params. A script logs into its session with
    casket.attach(); its exit code and its output are kept in any case. Ctrl-C waits for the
    running commands, a second Ctrl-C ends them. The exit code is 0 if all sets are completed.

    \b
    casket sweep runs.json -e digits -m net --grid lr=0.1,0.01 --grid seed=0:3 \\
        -- python train.py --lr {lr} --seed {seed}
    """
    ctx = click.get_current_context()
    command = ctx.meta[__name__]
    sets = sets_of(**space)
    _check(command, sets)
    url = options.chosen_file(file)
    target = Experiment.use(url, exp_id=experiment).model(model)
    order = random.randrange(2, 2**32) if shuffle else False  # noqa: S311 - no secret
    stopping = threading.Event()
    chosen = Options(retries, order, wait, where, until)
    # One for each job, and one that counts what is completed.
    *sweeps, counting = (Sweep(target, sets, chosen, stopping) for _ in range(jobs + 1))
    with options.open_file(url) as runs:
        progress = _Progress(runs, experiment, model, counting)
        commands = Commands(
            [iter(each) for each in sweeps], command, _environment(url, gpus), stopping
        )
        was_interrupted = _run(commands, progress)
        progress.show(is_last=True)
        if was_interrupted:
            ctx.exit(INTERRUPTED)
        ctx.exit(0 if counting.is_complete() else 1)


def _run(commands: Commands, table: _Progress) -> bool:
    """Run the commands to their end; return whether they were interrupted.

    The first Ctrl-C starts no further commands; the second one, or SIGTERM, ends the running ones.
    """
    received: list[int] = []
    # A handler that only notes the signal: an exception could be raised while another is handled.
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    handled = 0
    try:
        while not commands.wait(_INTERVAL):
            table.show()
            if len(received) == handled:
                continue
            handled = len(received)
            if received == [signal.SIGINT]:
                commands.stop()
                table.note("waiting for the running commands; Ctrl-C again ends them")
            else:
                commands.terminate()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return bool(received)


def _environment(url: str, gpus: str | None) -> Callable[[int, SweepSession], Mapping[str, str]]:
    devices = options.names(gpus)

    def environment(number: int, session: SweepSession) -> dict[str, str]:
        variables = {VARIABLE: variable_for(url, session.id)}
        if devices:
            variables["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
        return variables

    return environment


def _check(command: Sequence[str], sets: Any) -> None:
    if not command:
        raise click.UsageError("give the command after --, such as: -- python train.py --lr {lr}")
    names = {name for params in space_of(sets).sets for name in flatten(params)}
    for name in placeholders(command):
        if name not in names:
            known = ", ".join(f"{{{each}}}" for each in sorted(names))
            raise click.UsageError(
                f"the command names {{{name}}}, but the sets have {known or 'no params'}"
            )


class _Progress:
    """The progress of a sweep over all processes, shown while it runs.

    In a terminal the lines are drawn anew; otherwise each session is reported when it ends.
    """

    def __init__(self, runs: Casket, experiment: str, model: str, sweep: Sweep) -> None:
        self._runs, self._owner, self._sweep = runs, (experiment, model), sweep
        self._drawn = 0
        self._reported = {session.id for session in self._sessions() if _has_ended(session)}

    def show(self, *, is_last: bool = False) -> None:
        """Show what has changed."""
        sessions = self._sessions()
        view = next(iter(sweeps_of(sessions)), None)
        done = " of ".join(map(str, self._sweep.progress()))
        head = _headline(view, done)
        if sys.stdout.isatty():
            self._draw([head, *(running_table(view.running).splitlines() if view else [])])
            return
        ended = [each for each in sessions if _has_ended(each) and each.id not in self._reported]
        for session in ended:
            self._reported.add(session.id)
            click.echo(_ended_line(session))
        if ended or is_last:
            click.echo(head)

    def note(self, text: str) -> None:
        """Show a message, which stays above the lines drawn next."""
        click.echo(text, err=True)
        self._drawn = 0

    def _draw(self, lines: list[str]) -> None:
        width = shutil.get_terminal_size().columns - 1
        back = terminal.marked(f"\x1b[{self._drawn}F\x1b[J") if self._drawn else ""
        click.echo(back + "\n".join(click.unstyle(line)[:width] for line in lines))
        self._drawn = len(lines)

    def _sessions(self) -> list[SessionView]:
        experiment, model = self._owner
        sessions = self._runs.sessions(experiment=experiment, model=model)
        return [view for view in sessions if _sweep_id(view) == self._sweep.id]


def _sweep_id(session: SessionView) -> Any:
    sweep = session.meta.get("sweep")
    return sweep.get("id") if isinstance(sweep, dict) else None


def _has_ended(session: SessionView) -> bool:
    return session.status != "running"


def _headline(view: SweepView | None, done: str) -> str:
    if view is None:
        return f"{done} done"
    parts = [f"{done} done", f"{len(view.running)} running"]
    if view.unsuccessful:
        parts.append(f"{view.unsuccessful} failed")
    if view.per_hour:
        parts.append(f"{per_hour_text(view)} an hour")
    if view.expected_end:
        parts.append(f"ends {end_text(view)}")
    if best := best_text(view):
        parts.append(f"best {best}")
    return ", ".join(parts)


def _ended_line(session: SessionView) -> str:
    params = " ".join(f"{name}={tables.text(value)}" for name, value in session.params.items())
    error = f": {session.error}" if session.error else ""
    line = f"{tables.colored_status(session.status)} {session.id[:8]} {params}{error}"
    return terminal.one_line(line)
