"""Storable process identities, and checks of whether a process is still running."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from casket.system import jobs

__all__ = ["host_name", "is_alive", "this_process"]

_LINUX = sys.platform == "linux"
_LARGEST_PID = 2**31 - 1
_LARGEST_TIME = 2**63
_MACHINE_ID_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_NETWORK = "/sys/class/net"
_SET_BY_SOFTWARE = 0x02
_FIRST_NAMESPACE = "pid:[4026531836]"  # the kernel's PROC_PID_INIT_INO
# Outside Linux, start times come from the wall clock, which is adjusted now and then.
_CLOCK_SLACK = 0 if _LINUX else 2


def this_process() -> dict[str, Any]:
    """Return the identity of this process, for a later call of `is_alive`.

    Returns:
        A dict fit for JSON with the keys `host`, `machine`, `hardware`, `boot`, `namespace`,
        `pid` and `started`. Values that the system does not provide are None. In the job of a
        scheduler also `job`, with the name of the cluster as `cluster`.
    """
    pid = os.getpid()
    job = _job()
    return {
        "host": host_name(),
        "machine": _machine(),
        "hardware": _hardware(),
        "boot": _boot(),
        "namespace": _namespace(),
        "pid": pid,
        "started": _started(pid),
        **({"job": job} if job else {}),
    }


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Return whether a process is still running. Never raises.

    Args:
        process: The identity that `this_process` returned in that process.

    Returns:
        True if it is running, False if it has certainly ended, None if this cannot be determined
        from here.
    """
    if isinstance(process, Mapping) and jobs.is_earlier_run(process.get("job"), _job()):
        return False  # a scheduler requeues a job only after its processes have ended
    if not _is_identity(process) or process["host"] != host_name():
        return None
    boot = _boot()
    if boot is None or not _same(process["boot"], boot):
        return _gone_with_a_reboot(process, boot)
    if process["namespace"] != _namespace():
        return None
    return _runs(process["pid"], process["started"])


def host_name() -> str:
    """Return the name of this host, empty if it has none."""
    if hasattr(os, "uname"):
        name = os.uname().nodename
    else:
        import socket

        name = socket.gethostname()
    return name.encode(errors="replace").decode()


def _job() -> dict[str, Any] | None:
    job = jobs.this_job()
    return job and {**job, "cluster": jobs.cluster()}


def _is_identity(process: object) -> bool:
    if not isinstance(process, Mapping):
        return False
    boot = process.get("boot")
    return (
        _is_pid(process.get("pid"))
        and _is_time(process.get("started"))
        and (isinstance(boot, str) or _is_time(boot))
        and isinstance(process.get("host"), str)
        and isinstance(process.get("namespace"), str)
    )


def _is_pid(value: object) -> bool:
    return type(value) is int and 0 < value <= _LARGEST_PID


def _is_time(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value < _LARGEST_TIME


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return bool(one == other)
    return bool(abs(one - other) <= _CLOCK_SLACK)


def _gone_with_a_reboot(process: Mapping[str, Any], boot: str | int | None) -> bool | None:
    """Return False if the process ran on this machine before its last boot, else None.

    Many machines share a host name, and all machines created from an image share its machine id.
    A common network card is therefore required as evidence that the machine is the same.
    """
    machine, theirs = _machine(), process.get("hardware")
    if boot is None or machine is None or process.get("machine") != machine:
        return None
    if not isinstance(theirs, list) or not any(card in theirs for card in _hardware()):
        return None
    return False


@cache
def _hardware() -> list[str]:
    """Return a hash of the address of each network card.

    The list is empty where a different boot id does not imply a reboot: in containers, which have
    a process namespace of their own, and where the boot id is not the kernel's.
    """
    machine = _machine()
    if machine is None or _namespace() != _FIRST_NAMESPACE or not _is_kernels(_BOOT_ID):
        return []
    addresses = filter(None, map(_burned_in_address, sorted(_listed(_NETWORK))))
    return [_digest(f"{machine} {address}") for address in addresses]


def _burned_in_address(card: str) -> str | None:
    """Return the permanent hardware address of a network card, or None if it has none.

    Addresses assigned by software, such as those of virtual machines, are not unique.
    """
    folder = f"{_NETWORK}/{card}"
    address = _read_line(f"{folder}/address")
    if not address or not os.path.exists(f"{folder}/device"):
        return None
    try:
        is_set_by_software = bool(int(address[:2], 16) & _SET_BY_SOFTWARE)
    except ValueError:
        return None
    is_permanent = _read_line(f"{folder}/addr_assign_type") == "0"
    return address if is_permanent and not is_set_by_software else None


def _is_kernels(path: str) -> bool:
    """Return whether a file below /proc is the kernel's own; container managers may replace it."""
    try:
        return os.stat(path).st_dev == os.stat("/proc/self").st_dev
    except OSError:
        return False


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


@cache
def _machine() -> str | None:
    for path in _MACHINE_ID_FILES:
        identity = _read_line(path)
        # systemd writes "uninitialized" there until the first boot has completed.
        if identity and identity != "uninitialized":
            return _digest(identity)
    return None


def _digest(machine_id: str) -> str:
    # machine-id(5) asks to keep the id itself confidential, and experiment files are shared.
    import hashlib  # loads OpenSSL, so deferred until a session starts

    return hashlib.sha256(b"casket:" + machine_id.encode()).hexdigest()[:32]


@cache
def _boot() -> str | int | None:
    if _LINUX:
        return _read_line(_BOOT_ID) or None
    try:
        import psutil

        return int(psutil.boot_time())
    except (ImportError, OSError, RuntimeError):
        return None


def _read_line(path: str) -> str | None:
    try:
        # Decoded here: passing an encoding to `open` would import it while a thread may fork.
        with open(path, "rb") as file:
            return file.readline().decode("ascii").strip()
    except (OSError, ValueError):
        return None


def _namespace() -> str | None:
    if not _LINUX:
        return ""
    try:
        # A /proc mounted outside of this pid namespace would describe other processes.
        if os.readlink("/proc/self") != str(os.getpid()):
            return None
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _started(pid: int) -> int | float | None:
    try:
        return _own_start(pid)
    except (ImportError, OSError, ValueError, IndexError):
        return None


@cache
def _own_start(pid: int) -> int | float | None:
    """Return when this process started."""
    return _state_and_start(pid)[1] if _LINUX else _create_time(pid)


if hasattr(os, "register_at_fork"):  # a child may have the id of an ancestor that has ended
    os.register_at_fork(after_in_child=_own_start.cache_clear)


def _state_and_start(pid: int) -> tuple[str, int]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The command's name comes first, in parentheses, and may hold spaces and parentheses.
        fields = file.read().rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19])


def _runs(pid: int, started: float) -> bool | None:
    return _runs_by_proc(pid, started) if _LINUX else _runs_by_psutil(pid, started)


def _runs_by_proc(pid: int, started: float) -> bool | None:
    try:
        state, since = _state_and_start(pid)
    except (FileNotFoundError, ProcessLookupError):
        return _runs_unseen(pid)
    except (OSError, ValueError, IndexError):
        return None
    return state not in "ZXx" and _same(since, started)


def _runs_unseen(pid: int) -> bool | None:
    # A /proc mounted with hidepid hides the processes of other users.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return None
    return None


def _create_time(pid: int) -> float | None:
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def _runs_by_psutil(pid: int, started: float) -> bool | None:
    try:
        import psutil
    except ImportError:
        return None
    try:
        process = psutil.Process(pid)
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return not zombie and _same(process.create_time(), started)
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError):
        return None
