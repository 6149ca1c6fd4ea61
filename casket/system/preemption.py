"""Signals by which a scheduler announces that it will stop a job."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

from casket.errors import CasketError

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


def on_preemption(callback: Callable[[], Any]) -> Callable[[], None]:
    """Call a function when the scheduler announces that it will stop this job.

    The function is called once, in the main thread, at the first SIGTERM or SIGUSR1, such as that
    of `sbatch --signal=USR1@60`. It may save a checkpoint, set a flag that the training loop tests,
    raise, or call `sys.exit()`. If it returns, the handler that was installed before is called; if
    there is none, the script continues. Without a call of `on_preemption`, casket handles no
    signals.

    Args:
        callback: the function, called without arguments and once.

    Returns:
        A function that restores the handlers that were installed before.

    Raises:
        CasketError: the call is not made in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise CasketError("casket.on_preemption must be called in the main thread of the process")
    before = {number: signal.getsignal(number) for number in SIGNALS}
    was_called = False

    def handle(number: int, frame: Any) -> None:
        nonlocal was_called
        if not was_called:
            was_called = True
            callback()
        earlier = before[number]
        if callable(earlier):
            earlier(number, frame)

    def restore() -> None:
        for number, earlier in before.items():
            # None: a handler that was not installed from Python, and cannot be restored by it.
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)

    for number in SIGNALS:
        signal.signal(number, handle)
    return restore
