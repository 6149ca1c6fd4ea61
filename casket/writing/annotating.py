"""Tags and notes that are added to sessions and experiments after the fact.

They are records of kind `tag`: they change neither how a session stands nor when it was last seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from casket.reading.views import ExperimentView, SessionView
from casket.stores.base import StoreOptions
from casket.writing.backend import Backend

OPTIONS = StoreOptions(create=False)
"""How a store is opened that is annotated: one that is gone by then is not made anew."""


def annotate(
    backend: Backend,
    what: SessionView | ExperimentView,
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    note: str | None = None,
) -> None:
    """Add and remove tags, and replace the note.

    Args:
        backend: the store it is in.
        what: a session or an experiment.
        add: tags to add; one it has already changes nothing.
        remove: tags to take away; one it does not have changes nothing.
        note: the new note; empty: none; None: as it was.

    Raises:
        StoreUnavailable: it cannot be written.
        NotFound: it is gone, and the backend was opened with `OPTIONS`.
    """
    body: dict[str, Any] = {"add": list(add), "remove": list(remove)}
    if note is not None:
        body["note"] = note
    owner = {"experiment": what.id}
    if isinstance(what, SessionView):
        owner = {"experiment": what.experiment, "model": what.model, "session": what.id}
    backend.store.append([backend.record("tag", body, extended=False, **owner)])
