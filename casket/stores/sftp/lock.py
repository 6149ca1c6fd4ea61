"""A lock on another machine, made of renaming, for SFTP has none.

Beside the file `runs.json` lies a folder `runs.json.lock` that holds one empty file, the baton.
Its name says who has it: `free-<generation>`, or `held-<holder>-<count>`. Whoever renames it from
the one name to the other has taken it, handed it on, or taken it away from a holder that is gone;
as the old name is there only once, one of many succeeds, and everybody else is told so.

- A holder renames the baton now and then. One that did not for `LEASE` seconds, by the clock of
  the one who waits, is taken to be dead. Being wrong about that costs a repeated write, never a
  record: what a holder wrote counts only if it could still hand on the baton afterwards.
- A request of a dead holder may be on its way still. So whoever takes the baton away from a
  holder goes on in a copy of the file: what arrives late is written to the old one, which nobody
  reads. A file that was about to take the place of the old one is removed first.
- The generation changes whenever another file took the place of the one before, so that nobody
  goes on in a file that was replaced.

What can go wrong: casket on the other machine itself, given the bare path, knows of no baton; let
it use `user@localhost:` too, or read only. Nor do editors.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable

from casket.format.records import new_id
from casket.stores import waiting
from casket.stores.sftp import wire as sftpwire
from casket.stores.sftp.wire import Answer, Request, Session

LEASE = 15.0
"""Seconds after which a silent holder counts as dead; longer than one request may take."""

PATIENCE = 60.0
"""Seconds to wait for the baton at most."""

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1
"""Seconds between two looks at a baton that others hold."""

_FREE, _HELD, _NEW = "free-", "held-", "new-"


class Lost(Exception):
    """Others took the baton away: what was written since does not count."""


class Baton:
    """The lock of one file, as one handle on the file sees it; it outlives connections.

    Args:
        lease: seconds after which a silent holder counts as dead.

    Attributes:
        generation: which of the files that stood there in turn is meant; empty: not known yet.
    """

    def __init__(self, lease: float = LEASE) -> None:
        self._lease = lease
        self._holder = new_id()
        self._count = 0
        self._held = ""
        self._renewed = 0.0
        self._watched = ("", 0.0)
        self.generation = ""

    def is_held(self) -> bool:
        """Tell whether this handle has the baton, as far as it knows."""
        return bool(self._held)

    def forget(self) -> None:
        """Think no more that it is held: the connection broke."""
        self._held = ""

    def look(self, session: Session, path: str) -> str:
        """Learn the generation of the file, before it is opened; lay a baton if there is none.

        Nothing is learnt while others have the baton.

        Returns:
            The name of the baton.
        """
        names = _names(session, path)
        if not names:
            self._lay(session, path)
            names = _names(session, path)
        batons = [name for name in names if name.startswith((_FREE, _HELD))]
        name = batons[0] if batons else ""
        self.generation = name.removeprefix(_FREE) if name.startswith(_FREE) else ""
        return name

    def take(self, session: Session, path: str, *more: Request) -> tuple[bool, list[Answer]]:
        """Try to take the baton if the file's generation is still the known one.

        Args:
            session: what to ask.
            path: the file.
            more: what else to ask, at once and after it.

        Returns:
            Whether it is taken now, and the answers to what was asked besides.
        """
        name = self._next()
        free = f"{_FREE}{self.generation}"
        first, *answers = session.ask(_renamed(path, free, name), *more)
        if _is_missing(first):
            return False, answers
        self._holds(name)
        return True, answers

    def take_away(self, session: Session, path: str, name: str) -> bool:
        """Take the baton from a holder that is dead, or from a broken connection of this handle.

        Args:
            session: what to ask.
            path: the file.
            name: what `look` returned.

        Returns:
            Whether it is taken now. What the holder was about to put in place is gone then, but
            what it asked for may still arrive: go on in a copy of the file.
        """
        if not name.startswith(_HELD) or not self._is_dead(name):
            return False
        mine = self._next()
        [answer] = session.ask(_renamed(path, name, mine))
        if _is_missing(answer):
            return False
        self._holds(mine)
        self._remove_new(session, path)
        return True

    def wait(self, look: Callable[[], bool], place: str) -> None:
        """Call `look` until it succeeds; after a while, warn that it has not yet.

        Raises:
            OSError: others had the baton all the time.
        """
        pause, begun, has_warned = FIRST_PAUSE, time.monotonic(), False
        while not look():
            waited = time.monotonic() - begun
            if waited > PATIENCE:
                raise OSError(errno.EBUSY, "others hold its lock")
            if waited > waiting.NOTICE and not has_warned:
                has_warned = True
                waiting.warn_waiting(
                    place,
                    f"another client (its lock is {self._watched[0] or 'changing hands'}; one that "
                    f"is silent loses it after {self._lease:.0f} s)",
                    waited,
                )
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def renew(self, session: Session, path: str, *, is_due: bool = False) -> None:
        """Show that the holder lives, if the last sign of it is old or it `is_due`.

        Raises:
            Lost: others have taken it away.
        """
        if is_due or not self._held or time.monotonic() - self._renewed > self._lease / 4:
            name = self._next()
            self._hand_on(session, path, name)
            self._holds(name)

    def give_up(self, session: Session, path: str, generation: str) -> None:
        """Hand the baton on; the file that is there now is of a generation.

        Raises:
            Lost: others have taken it away.
        """
        self._hand_on(session, path, f"{_FREE}{generation}")
        self._held, self.generation = "", generation

    def new_file(self, path: str) -> str:
        """Return the path of a file that is about to take the place of the file."""
        self._count += 1
        return f"{folder_of(path)}/{_NEW}{self._holder}-{self._count}"

    def _hand_on(self, session: Session, path: str, name: str) -> None:
        held, self._held = self._held, ""
        if not held or _is_missing(session.ask(_renamed(path, held, name))[0]):
            raise Lost

    def _holds(self, name: str) -> None:
        self._held, self._renewed = name, time.monotonic()
        self._watched = ("", 0.0)

    def _next(self) -> str:
        self._count += 1
        return f"{_HELD}{self._holder}-{self._count}"

    def _is_dead(self, name: str) -> bool:
        """Tell whether a holder is known to be dead; begin to watch it if it is another one."""
        if name.startswith(f"{_HELD}{self._holder}-"):
            return True
        watched, since = self._watched
        if name != watched:
            self._watched = (name, time.monotonic())
            return False
        return time.monotonic() - since > self._lease

    def _remove_new(self, session: Session, path: str) -> None:
        folder = folder_of(path)
        leftovers = [name for name in _names(session, path) if name.startswith(_NEW)]
        session.ask(*[sftpwire.remove(f"{folder}/{name}") for name in leftovers])

    def _lay(self, session: Session, path: str) -> None:
        """Put a folder with a baton in place at once; nothing, if others were faster."""
        folder = folder_of(path)
        self._count += 1
        own = f"{folder}.{self._holder}-{self._count}"
        free = f"{_FREE}{new_id()}"
        parent = sftpwire.stat(session.do(sftpwire.stat_of(path.rpartition("/")[0] or "/")))
        session.do(sftpwire.make_folder(own, parent.mode & 0o777))
        handle = session.open(f"{own}/{free}", sftpwire.WRITE | sftpwire.CREATE)
        session.ask(sftpwire.close(handle))
        [answer] = session.ask(sftpwire.rename(own, folder))
        if answer.failure():
            session.ask(sftpwire.remove(f"{own}/{free}"), sftpwire.remove_folder(own))


def folder_of(path: str) -> str:
    """Return the folder with the baton of a file."""
    return f"{path}.lock"


def _renamed(path: str, old: str, new: str) -> Request:
    folder = folder_of(path)
    return sftpwire.rename(f"{folder}/{old}", f"{folder}/{new}")


def _names(session: Session, path: str) -> list[str]:
    """Return the names beside the baton; none if there is no folder."""
    try:
        return session.names(folder_of(path))
    except FileNotFoundError:
        return []


def _is_missing(answer: Answer) -> bool:
    """Tell whether nothing was renamed because the old name is not there.

    Raises:
        OSError: it could not be renamed for another reason.
    """
    failure = answer.failure()
    if failure is None:
        return False
    if failure.errno != errno.ENOENT:
        raise failure
    return True
