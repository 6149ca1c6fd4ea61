"""Adding tags, notes and names to existing sessions and experiments.

They are stored as records of kind `tag`, which change neither the status of a session nor the
time it was last seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from casket.reading.views import ExperimentView, SessionView
from casket.stores.base import StoreOptions
from casket.writing.backend import Backend

OPTIONS = StoreOptions(create=False)
"""Options for opening a store to annotate it: a store that has been removed is not recreated."""


def annotate(
    backend: Backend,
    view: SessionView | ExperimentView,
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    note: str | None = None,
    name: str | None = None,
) -> None:
    """Add and remove tags, and replace the note and the name.

    Args:
        backend: the backend of the store.
        view: the session or experiment to annotate.
        add: the tags to add; existing tags are ignored.
        remove: the tags to remove; missing tags are ignored.
        note: the new note; an empty string removes the note, None keeps it.
        name: the new name of a session; an empty string removes the name, None keeps it.

    Raises:
        StoreUnavailable: the store cannot be written.
        NotFound: the store no longer exists, and the backend was opened with `OPTIONS`.
    """
    texts = {"note": note, "name": name}
    body: dict[str, Any] = {"add": list(add), "remove": list(remove)}
    body |= {label: text for label, text in texts.items() if text is not None}
    owner = {"experiment": view.id}
    if isinstance(view, SessionView):
        owner = {"experiment": view.experiment, "model": view.model, "session": view.id}
    backend.store.append([backend.record("tag", body, extended=False, **owner)])
