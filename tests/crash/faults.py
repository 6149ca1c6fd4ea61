"""System calls that fail from some moment on, in this process, by Linux's seccomp.

Nothing is imitated: the kernel refuses the call, whichever library makes it.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys

import pytest

_NUMBERS = {
    "x86_64": {"flock": 73, "fsync": 74, "fdatasync": 75},
    "aarch64": {"flock": 32, "fsync": 82, "fdatasync": 83},
}
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER, _SECOND_ARGUMENT = 0, 24
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
UNLOCK = 8
"""What `flock` is asked for to release a lock."""

needs_faults = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in _NUMBERS,
    reason="needs Linux's seccomp",
)


def refuse(*calls: str, argument: int | None = None, error: int = errno.EIO) -> None:
    """Let system calls of this thread, and of its children, fail permanently from now on.

    Args:
        calls: their names.
        argument: only where this is the second argument.
        error: how they fail.
    """
    numbers = _NUMBERS[platform.machine()]
    steps = [step for call in calls for step in _steps(numbers[call], argument, error)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    address = ctypes.c_void_p(ctypes.addressof(program))
    done = libc.prctl(_SECCOMP, ctypes.c_ulong(_FILTER), address, 0, 0)
    assert done == 0, ctypes.get_errno()


def _steps(number: int, argument: int | None, error: int) -> list[tuple[int, int, int, int]]:
    fails = (_RETURN, 0, 0, _FAIL | error)
    loaded = (_LOAD, 0, 0, _NUMBER)
    if argument is None:
        return [loaded, (_JUMP_IF_EQUAL, 0, 1, number), fails]
    return [
        loaded,
        (_JUMP_IF_EQUAL, 0, 3, number),
        (_LOAD, 0, 0, _SECOND_ARGUMENT),
        (_JUMP_IF_EQUAL, 0, 1, argument),
        fails,
    ]
