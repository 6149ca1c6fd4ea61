"""`casket rm`, `casket clean` and `casket compact`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import get_args

import click

from casket import NotFound
from casket.cli import options, terminal
from casket.cli.wording import SpanType, counted, listed, size
from casket.maintenance import cleaning
from casket.maintenance.cleaning import Cleaner, ModelKey, Removal
from casket.maintenance.editing import check_not_running
from casket.reading.casket import Casket
from casket.reading.views import SessionView, Status
from casket.stores.location import Location
from casket.stores.remote import cache as fetched

SHOWN = 20
"""Maximum number of sessions listed individually."""

_NOUNS = ("session", "model", "experiment", "file", "old artifact")

LOOK_INTERVAL = 0.1
"""Seconds between two updates of the progress bar."""


@click.command(cls=options.FileAnywhere)
@click.argument("sessions", nargs=-1, type=options.SessionType(), metavar="[SESSION]...")
@click.option(
    "--model",
    "models",
    shell_complete=options.complete_models,
    multiple=True,
    metavar="ID",
    help="Remove this model.",
)
@click.option(
    "--experiment",
    "experiments",
    shell_complete=options.complete_experiments,
    multiple=True,
    metavar="ID",
    help="Remove this experiment; with --model, only these models of it.",
)
@click.option("--force", is_flag=True, help="Remove running sessions, too.")
@options.where_option
@options.file_option
@options.yes_options
def rm(
    sessions: tuple[str, ...],
    models: tuple[str, ...],
    experiments: tuple[str, ...],
    force: bool,
    where: str | None,
    file: str | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Remove sessions, models and experiments with all their records.

    The children of a session and artifacts that no other session refers to are removed, too.
    Removal cannot be undone.

    \b
    casket rm 114884e0 @last
    casket rm --model SVM --experiment digits
    casket rm --where "status == 'failed' and epochs < 3" --dry-run
    casket rm --experiment "first steps"
    """
    if not (sessions or models or experiments or where):
        raise click.UsageError("nothing to remove: give SESSION, --where, --model or --experiment")
    location = Location.of(options.chosen_file(file))
    cleaner = Cleaner(location)
    ids = _session_ids(location, sessions) | _matching_ids(location, where)
    keys = _model_keys(cleaner, models, experiments)
    names = set() if models else _experiment_ids(cleaner, experiments)
    removal = cleaner.chosen(
        lambda session: session.id in ids, keys.__contains__, names.__contains__
    )
    check_not_running(removal, force=force)
    _remove(cleaner, removal, yes=yes, dry_run=dry_run)


@click.command()
@options.file_argument
@click.option("--failed", is_flag=True, help="Remove failed sessions.")
@click.option("--killed", is_flag=True, help="Remove killed sessions.")
@click.option(
    "--empty", is_flag=True, help="Remove models without sessions and experiments without models."
)
@click.option("--artifacts", is_flag=True, help="Remove files that no record refers to.")
@click.option(
    "--old-artifacts",
    is_flag=True,
    help="Remove artifacts whose name was used again in their session, except for the last.",
)
@click.option(
    "--older-than",
    type=SpanType(),
    metavar="DURATION",
    help="Remove only records and files older than this, such as 30d or 12h.",
)
@click.option(
    "--cache",
    is_flag=True,
    help="Remove the files that were fetched from remote stores from the cache of this machine.",
)
@options.yes_options
def clean(
    file: str | None,
    failed: bool,
    killed: bool,
    empty: bool,
    artifacts: bool,
    old_artifacts: bool,
    older_than: timedelta | None,
    cache: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Remove failed and killed sessions, empty models and experiments, and unused files.

    Without --failed, --killed, --empty, --artifacts and --old-artifacts, all of these are removed
    except for old artifacts. The children of a session are removed with it, unless one of them is
    running. While sessions run, empty models and experiments and unused files are kept until they
    are an hour old, because they may have just been created.

    \b
    casket clean runs.json --dry-run
    casket clean --killed --older-than 30d --yes
    casket clean --cache
    """
    if cache:
        _clean_cache(yes=yes, dry_run=dry_run)
        return
    is_all = not (failed or killed or empty or artifacts or old_artifacts)
    chosen = {"failed": failed, "killed": killed}
    statuses = frozenset(s for s in get_args(Status) if s in chosen and (is_all or chosen[s]))
    cleaner = Cleaner(Location.of(options.chosen_file(file)))
    removal = cleaner.cleanable(
        statuses=statuses,
        empty=is_all or empty,
        files=is_all or artifacts,
        old_artifacts=old_artifacts,
        older_than=older_than or timedelta(0),
    )
    if not removal:
        raise options.NothingFound(f"nothing to clean in {cleaner.location}")
    _remove(cleaner, removal, yes=yes, dry_run=dry_run)


@click.command()
@options.file_argument
@options.yes_options
def compact(file: str | None, yes: bool, dry_run: bool) -> None:
    """Rewrite a file compactly, while others may write to it.

    Other writers wait while the file is rewritten. Nothing visible to readers is removed. Damaged
    bytes are moved to FILE.torn; `casket doctor` describes them.
    """
    location = Location.of(options.chosen_file(file))
    if not (location.path.exists() or location.url):
        raise NotFound(str(location))
    before = cleaning.size_of_store(location)
    if before:
        click.echo(
            f"{location}: {size(before)} will be rewritten; a temporary copy needs the same space"
        )
    if not options.is_confirmed(f"Rewrite {location}?", yes=yes, dry_run=dry_run):
        return
    _show_progress(location)
    if before:
        click.echo(f"{location}: {size(cleaning.size_of_store(location))}, before {size(before)}")


def _clean_cache(*, yes: bool, dry_run: bool) -> None:
    if options.is_confirmed(f"Remove all files from {fetched.home()}?", yes=yes, dry_run=dry_run):
        click.echo(f"freed {size(fetched.trim(0))}")


def _session_ids(location: Location, names: Sequence[str]) -> set[str]:
    if not names:
        return set()
    with Casket.at(location) as runs:
        return {options.found_session(runs, name).id for name in names}


def _matching_ids(location: Location, where: str | None) -> set[str]:
    if where is None:
        return set()
    with Casket.at(location) as runs:
        ids = {session.id for session in runs.sessions(where=where)}
        if not ids:
            raise options.NothingFound(f"no session matches in {location}")
        return ids


def _model_keys(
    cleaner: Cleaner, models: Sequence[str], experiments: Sequence[str]
) -> set[ModelKey]:
    """Return the models with these ids, restricted to `experiments` if any are given."""
    keys = {
        key
        for key in cleaner.models
        if key[1] in models and (not experiments or key[0] in experiments)
    }
    for model in models:
        homes = sorted(experiment for experiment, name in keys if name == model)
        if not homes:
            where = f" in experiment {' or '.join(experiments)}" if experiments else ""
            raise options.NothingFound(f"no model {model!r}{where}")
        if len(homes) > 1 and not experiments:
            raise click.UsageError(
                f"model {model!r} is in several experiments ({listed(homes)}): give --experiment"
            )
    return keys


def _experiment_ids(cleaner: Cleaner, experiments: Sequence[str]) -> set[str]:
    for experiment in experiments:
        if experiment not in cleaner.experiments:
            raise options.NothingFound(f"no experiment {experiment!r} in {cleaner.location}")
    return set(experiments)


def _remove(cleaner: Cleaner, removal: Removal, *, yes: bool, dry_run: bool) -> None:
    """List the records to remove, ask for confirmation and remove them."""
    for line in _lines(cleaner, removal):
        click.echo(terminal.one_line(line))
    what = _summary(removal)
    if not options.is_confirmed(
        f"Remove {what} from {cleaner.location}?", yes=yes, dry_run=dry_run
    ):
        return
    before = cleaning.size_of_store(cleaner.location) + cleaner.size_of(removal)
    removed = cleaner.remove(removal)
    after = cleaning.size_of_store(cleaner.location) + cleaner.size_of(removal)
    if removed:
        less = f": freed {size(before - after)}" if after < before else ""
        click.echo(f"removed {_summary(removed)}{less}")
    left = _left(removal, removed)
    if left:
        click.echo(f"kept {_summary(left)}, which may be in use again", err=True)


def _lines(cleaner: Cleaner, removal: Removal) -> Iterator[str]:
    sessions = [view for view in cleaner.sessions if view.id in removal.sessions]
    for view in sessions[:SHOWN]:
        yield _line(view)
    if len(sessions) > SHOWN:
        yield f"... and {counted(len(sessions) - SHOWN, 'session')} more"
    for experiment, model in sorted(removal.models):
        yield f"model {model} of experiment {experiment}"
    for experiment in sorted(removal.experiments):
        yield f"experiment {experiment}"
    if removal.old:
        yield counted(len(removal.old), "old artifact")
    if removal.files:
        folder = cleaner.location.artifacts().shown
        files = counted(len(removal.files), "file")
        yield f"{files} of {size(cleaner.size_of(removal))} in {folder}"


def _line(session: SessionView) -> str:
    return f"session {session.id} of {session.experiment}/{session.model}: {session.summary()}"


def _summary(removal: Removal) -> str:
    counts = map(len, (*removal[:4], removal.old))
    parts = [counted(count, noun) for count, noun in zip(counts, _NOUNS, strict=True) if count]
    return listed(parts)


def _left(planned: Removal, removed: Removal) -> Removal:
    return Removal(
        {name: s for name, s in planned.sessions.items() if name not in removed.sessions},
        planned.models - removed.models,
        planned.experiments - removed.experiments,
        planned.files - removed.files,
        {each: owner for each, owner in planned.old.items() if each not in removed.old},
    )


def _show_progress(location: Location) -> None:
    """Compact a store and show the progress."""
    length, done = cleaning.size_of_store(location), 0
    with (
        ThreadPoolExecutor(1) as pool,
        options.progress_bar(f"rewriting {location.path.name}", length) as advance,
    ):
        rewriting = pool.submit(cleaning.compact, location)
        while wait([rewriting], LOOK_INTERVAL).not_done:
            more = max(cleaning.rewritten(location) - done, 0)
            advance(more)
            done += more
        rewriting.result()
        advance(max(length - done, 0))
