"""A remote lock built on atomic renames, since SFTP has no locks.

Beside the file `runs.json`, a folder `runs.json.lock` contains an empty file, the lease. Its name
identifies the holder: `free-<generation>` or `held-<holder>-<count>`. Renaming the lease acquires
it, releases it, or takes it from a dead holder. Since the old name exists only once, only a single
client succeeds, and the others receive an error.

- A holder renews the lease by renaming it at intervals. A client that waits considers a
  holder dead after `DURATION` seconds without renewal, measured by the client's own clock. A wrong
  decision costs a repeated write, never a record: the writes of a holder are valid only if it
  could still release the lease afterwards.
- Requests of a dead holder may still be in transit. A client that takes the lease from a holder
  therefore continues in a copy of the file: late requests write to the old file, which has no
  readers. A file that was about to replace the old file is removed first.
- The generation changes whenever the file is replaced, so that no client continues in a replaced
  file.

Limitations: casket on the remote machine itself, given the bare path, ignores the lease, and so do
editors. Use `user@localhost:` there too, or only read.
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

DURATION = 15.0
"""Seconds after which a silent holder is considered dead; longer than a request may take."""

PATIENCE = 60.0
"""Maximum number of seconds to wait for the lease."""

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1
"""Seconds between attempts to acquire a lease that others hold."""

_FREE, _HELD, _NEW = "free-", "held-", "new-"


class Lost(Exception):
    """Another client took the lease; writes made since then are invalid."""


class Lease:
    """The lock of a file, as seen by a handle on the file; it outlives connections.

    Args:
        duration: seconds after which a silent holder is considered dead.

    Attributes:
        generation: the generation of the file, which changes with each replacement; empty if not
            known yet.
    """

    def __init__(self, duration: float = DURATION) -> None:
        self._duration = duration
        self._holder = new_id()
        self._count = 0
        self._held = ""
        self._renewed = 0.0
        self._watched = ("", 0.0)
        self.generation = ""

    def is_held(self) -> bool:
        """Return whether this handle holds the lease, to its knowledge."""
        return bool(self._held)

    def forget(self) -> None:
        """Consider the lease not held, because the connection broke."""
        self._held = ""

    def look(self, session: Session, path: str) -> str:
        """Read the generation of the file before it is opened; create a lease if there is none.

        The generation is unknown while others hold the lease.

        Returns:
            The name of the lease.
        """
        names = _names(session, path)
        if not names:
            self._lay(session, path)
            names = _names(session, path)
        leases = [name for name in names if name.startswith((_FREE, _HELD))]
        name = leases[0] if leases else ""
        self.generation = name.removeprefix(_FREE) if name.startswith(_FREE) else ""
        return name

    def acquire(self, session: Session, path: str, *more: Request) -> tuple[bool, list[Answer]]:
        """Try to acquire the lease if the generation of the file is unchanged.

        Args:
            session: the session to use.
            path: the file.
            more: further requests to send together with the rename, after it.

        Returns:
            Whether the lease was acquired, and the responses to the further requests.
        """
        name = self._next()
        free = f"{_FREE}{self.generation}"
        first, *answers = session.ask(_renamed(path, free, name), *more)
        if _is_missing(first):
            return False, answers
        self._holds(name)
        return True, answers

    def take_over(self, session: Session, path: str, name: str) -> bool:
        """Take over the lease of a dead holder or of a broken connection of this handle.

        Args:
            session: the session to use.
            path: the file.
            name: the name returned by `look`.

        Returns:
            Whether the lease was acquired. If so, the holder's replacement files are removed, but
            its requests may still arrive: continue in a copy of the file.
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

    def wait(self, look: Callable[[], bool], location: str) -> None:
        """Call `look` until it succeeds, with a warning if that takes long.

        Raises:
            OSError: others held the lease throughout.
        """
        pause, begun, has_warned = FIRST_PAUSE, time.monotonic(), False
        while not look():
            waited = time.monotonic() - begun
            if waited > PATIENCE:
                raise OSError(errno.EBUSY, "others hold its lock")
            if waited > waiting.NOTICE and not has_warned:
                has_warned = True
                waiting.warn_waiting(
                    location,
                    f"another client (its lock is {self._watched[0] or 'changing hands'}; a "
                    f"silent client loses it after {self._duration:.0f} s)",
                    waited,
                )
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def renew(self, session: Session, path: str, *, is_due: bool = False) -> None:
        """Renew the lease if the last renewal is old or a renewal `is_due`.

        Raises:
            Lost: another client has taken the lease.
        """
        if is_due or not self._held or time.monotonic() - self._renewed > self._duration / 4:
            name = self._next()
            self._hand_on(session, path, name)
            self._holds(name)

    def give_up(self, session: Session, path: str, generation: str) -> None:
        """Release the lease and publish the generation of the current file.

        Raises:
            Lost: another client has taken the lease.
        """
        self._hand_on(session, path, f"{_FREE}{generation}")
        self._held, self.generation = "", generation

    def new_file(self, path: str) -> str:
        """Return a new path for a file that is going to replace the file."""
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
        """Return whether a holder is known to be dead; start watching it if it is new."""
        if name.startswith(f"{_HELD}{self._holder}-"):
            return True
        watched, since = self._watched
        if name != watched:
            self._watched = (name, time.monotonic())
            return False
        return time.monotonic() - since > self._duration

    def _remove_new(self, session: Session, path: str) -> None:
        folder = folder_of(path)
        leftovers = [name for name in _names(session, path) if name.startswith(_NEW)]
        session.ask(*[sftpwire.remove(f"{folder}/{name}") for name in leftovers])

    def _lay(self, session: Session, path: str) -> None:
        """Create the folder with a lease atomically, unless another client was faster."""
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
    """Return the folder that contains the lease of a file."""
    return f"{path}.lock"


def _renamed(path: str, old: str, new: str) -> Request:
    folder = folder_of(path)
    return sftpwire.rename(f"{folder}/{old}", f"{folder}/{new}")


def _names(session: Session, path: str) -> list[str]:
    """Return the names in the folder of the lease; none if the folder does not exist."""
    try:
        return session.names(folder_of(path))
    except FileNotFoundError:
        return []


def _is_missing(answer: Answer) -> bool:
    """Return whether a rename failed because the old name does not exist.

    Raises:
        OSError: the rename failed for another reason.
    """
    failure = answer.failure()
    if failure is None:
        return False
    if failure.errno != errno.ENOENT:
        raise failure
    return True
