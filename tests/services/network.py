"""Changes of this machine's network wait for browsers, whose requests they would abort.

Workers of a run are processes: they agree by locks on files.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_FOLDER = Path(tempfile.gettempdir())


@contextmanager
def steady_network() -> Iterator[None]:
    """Keep the network as it is; any number may at once."""
    with ExitStack() as held:
        with _held("gate", fcntl.LOCK_EX):  # else who waits to change it might wait for ever
            held.enter_context(_held("network", fcntl.LOCK_SH))
        yield


@contextmanager
def changing_network() -> Iterator[None]:
    """Change the network, when nobody needs it steady."""
    with _held("gate", fcntl.LOCK_EX), _held("network", fcntl.LOCK_EX):
        yield


@contextmanager
def _held(name: str, kind: int) -> Iterator[None]:
    fd = os.open(_FOLDER / f"casket-tests-{os.getuid()}-{name}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, kind)
        yield
    finally:
        os.close(fd)
