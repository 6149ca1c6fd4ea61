"""Changing what is stored: tags, notes and names of sessions and experiments, and removal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from casket.errors import SessionsRunning
from casket.reading.casket import Casket, Where
from casket.reading.views import ExperimentView, SessionView
from casket.stores.location import Location

if TYPE_CHECKING:
    from casket.maintenance.cleaning import Removal
    from casket.writing.backend import Backend

Target = str | SessionView | ExperimentView
"""A session or an experiment: its view or its id; of a session also the beginning of its id or its
name, or `@last`."""


class EditableCasket(Casket):
    """A store opened for reading, whose sessions and experiments can be annotated and removed.

    Each method writes at once; other processes may write at the same time. A store that has been
    removed is not created again.
    """

    _place: Location
    _backend: Backend | None = None

    @classmethod
    def at(cls, location: Location) -> Self:
        """Open the store at a location."""
        opened = super().at(location)
        opened._place = location
        return opened

    def tag(self, target: Target, *tags: str) -> None:
        """Add tags to a session or an experiment; existing tags are ignored.

        Raises:
            NoSuchSession: no session, or more than one, is meant.
            UnstorableValue: a tag is not text.
            StoreUnavailable: the store cannot be written.
        """
        from casket.writing.arguments import checked_tags

        self._annotate(target, add=checked_tags(tags))

    def untag(self, target: Target, *tags: str) -> None:
        """Remove tags from a session or an experiment; missing tags are ignored.

        Raises:
            NoSuchSession: no session, or more than one, is meant.
            UnstorableValue: a tag is not text.
            StoreUnavailable: the store cannot be written.
        """
        from casket.writing.arguments import checked_tags

        self._annotate(target, remove=checked_tags(tags))

    def note(self, target: Target, text: str) -> None:
        """Replace the note of a session or an experiment; an empty text removes it.

        Raises:
            NoSuchSession: no session, or more than one, is meant.
            UnstorableValue: the note is not text.
            StoreUnavailable: the store cannot be written.
        """
        from casket.writing.arguments import checked_text

        self._annotate(target, note=checked_text(text, "note"))

    def rename(self, session: str | SessionView, name: str) -> None:
        """Replace the name of a session; an empty name removes it.

        Raises:
            NoSuchSession: no session, or more than one, is meant.
            UnstorableValue: the name is not text.
            StoreUnavailable: the store cannot be written.
        """
        from casket.writing.arguments import checked_text

        view = self[session] if isinstance(session, str) else session
        self._annotate(view, name=checked_text(name, "name"))

    def remove(
        self, *sessions: str | SessionView, where: Where = None, force: bool = False
    ) -> Removal:
        """Remove sessions with their children and the files that only they refer to.

        Args:
            sessions: the sessions, as for `tag`.
            where: a condition as for `sessions`, which selects further sessions.
            force: remove sessions that may be running, too.

        Returns:
            The removed data; `removal.sessions` has the ids. Sessions that others have continued
            meanwhile are kept.

        Raises:
            NoSuchSession: no session, or more than one, is meant.
            SessionsRunning: a session or a child of it may be running, and `force` is not given.
            StoreUnavailable: the store cannot be written.
        """
        from casket.maintenance.cleaning import Cleaner

        views = [self[each] if isinstance(each, str) else each for each in sessions]
        if where is not None:
            views += self.sessions(where=where)
        ids = {view.id for view in views}
        cleaner = Cleaner(self._place)
        removal = cleaner.chosen(lambda session: session.id in ids)
        check_not_running(removal, force=force)
        return cleaner.remove(removal)

    def close(self) -> None:
        """Close the store; views stay readable."""
        super().close()
        if self._backend is not None:
            self._backend.store.close()

    def target(self, text: str) -> SessionView | ExperimentView:
        """Return the experiment with this id, otherwise the session that the text means.

        Raises:
            NoSuchSession: it is no experiment, and no session, or more than one, is meant.
        """
        for experiment in self.experiments:
            if experiment.id == text:
                return experiment
        return self[text]

    def _annotate(self, target: Target, **changes: Any) -> None:
        from casket.writing.annotating import OPTIONS, annotate
        from casket.writing.backend import Backend

        view = self.target(target) if isinstance(target, str) else target
        if self._backend is None:
            self._backend = Backend(self._place, OPTIONS)
        annotate(self._backend, view, **changes)
        # The journal of a far store is shipped now, so that this handle reads the change.
        getattr(self._backend.store, "flush", lambda: True)()


def check_not_running(removal: Removal, *, force: bool) -> None:
    """Check that no session of a removal may be running.

    Raises:
        SessionsRunning: a session may be running, and `force` is not given.
    """
    running = [name for name, status in removal.sessions.items() if status == "running"]
    if running and not force:
        raise SessionsRunning(running)


@overload
def open_store(url: str | os.PathLike[str], *, writing: Literal[False] = False) -> Casket: ...


@overload
def open_store(url: str | os.PathLike[str], *, writing: Literal[True]) -> EditableCasket: ...


@overload
def open_store(url: str | os.PathLike[str], *, writing: bool) -> Casket: ...


def open_store(url: str | os.PathLike[str], *, writing: bool = False) -> Casket:
    """Open a store that exists, for reading.

    Nothing is created or locked, and nothing is changed except by the methods of `EditableCasket`.

    Args:
        url: the path or URL of the store.
        writing: whether to return an `EditableCasket`, which can tag, rename, note and remove.

    Raises:
        NotFound: the store does not exist.
        NotACasketFile: the file has another format.
        StoreUnavailable: the store cannot be read.
        BadLocation: `url` is not a valid location.
    """
    location = Location.of(url)
    return EditableCasket.at(location) if writing else Casket.at(location)
