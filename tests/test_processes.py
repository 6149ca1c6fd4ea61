from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from casket.system import processes
from casket.system.processes import is_alive, this_process

ROOT = Path(__file__).parents[1]
SAY_WHO = (
    "import json, casket.system.processes as p; print(json.dumps(p.this_process()), flush=True)"
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@contextmanager
def child(code: str, *before: str) -> Iterator[subprocess.Popen[str]]:
    """Run `code` in another Python, in the repository's root; it is killed at the end."""
    command = [*before, sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def wait_until_zombie(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_this_process_is_alive() -> None:
    assert is_alive(this_process()) is True


def test_the_identity_survives_json() -> None:
    assert is_alive(json.loads(json.dumps(this_process()))) is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_has_a_start_of_its_own() -> None:
    mine = this_process()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, json.dumps([this_process(), is_alive(mine)]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader) as answer:
        theirs, sees_mine = json.load(answer)
    assert theirs["pid"] != mine["pid"]
    assert theirs["started"] >= mine["started"]
    assert sees_mine is True
    assert is_alive(theirs) is False


@on_linux
def test_the_identity_names_all_it_needs() -> None:
    me = this_process()
    assert list(me) == ["host", "machine", "hardware", "boot", "namespace", "pid", "started"]
    assert me["pid"] == os.getpid()
    assert me["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_the_identity_does_not_change() -> None:
    assert this_process() == this_process()


@on_linux
def test_the_machine_id_itself_is_not_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_caches: None
) -> None:
    file = tmp_path / "machine-id"
    file.write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr(processes, "_MACHINE_ID_FILES", (str(file),))
    machine = this_process()["machine"]
    assert len(machine) == 32
    assert machine != "0123456789abcdef0123456789abcdef"


def test_a_living_child_is_alive_until_it_is_killed() -> None:
    with child(f"{SAY_WHO}; input()") as process:
        identity = said(process)
        assert is_alive(identity) is True
        process.kill()
        process.wait()
        assert is_alive(identity) is False


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs waitid")
def test_a_killed_child_nobody_has_waited_for_is_gone() -> None:
    with child(f"{SAY_WHO}; input()") as process:
        identity = said(process)
        process.kill()
        wait_until_zombie(process.pid)
        assert is_alive(identity) is False


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_stopped_child_is_alive() -> None:
    with child(f"{SAY_WHO}; input()") as process:
        identity = said(process)
        process.send_signal(signal.SIGSTOP)
        assert is_alive(identity) is True


@on_linux
def test_a_process_whose_name_holds_spaces_and_parentheses_is_alive() -> None:
    rename = "open('/proc/self/comm', 'w').write('a) S (b c')"
    with child(f"{rename}; {SAY_WHO}; input()") as process:
        identity = said(process)
        assert is_alive(identity) is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_tells_itself_from_its_parent() -> None:
    fork = (
        "import os, json, casket.system.processes as p\n"
        "parent = p.this_process()\n"
        "read, write = os.pipe()\n"
        "if not os.fork():\n"
        "    me = p.this_process()\n"
        "    os.write(write, json.dumps([me, p.is_alive(me), p.is_alive(parent)]).encode())\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "me, *alive = json.loads(os.read(read, 9999))\n"
        "print(json.dumps([parent, me, *alive, p.is_alive(me), p.this_process() == parent]))"
    )
    with child(fork) as process:
        parent, me, child_lives, parent_lives, child_lived_on, same = said(process)
    assert me["pid"] != parent["pid"]
    assert me["host"] == parent["host"]
    assert me["boot"] == parent["boot"]
    assert (child_lives, parent_lives, child_lived_on, same) == (True, True, False, True)


def test_a_reused_pid_is_not_the_process() -> None:
    me = this_process()
    assert is_alive(me | {"started": me["started"] + 10}) is False


def test_a_process_on_another_host_cannot_be_told() -> None:
    assert is_alive(this_process() | {"host": "elsewhere"}) is None


def test_a_process_in_another_pid_namespace_cannot_be_told() -> None:
    assert is_alive(this_process() | {"namespace": "pid:[1]"}) is None


def test_a_process_before_a_reboot_of_this_machine_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "_machine", lambda: "this one")
    monkeypatch.setattr(processes, "_hardware", lambda: ["card", "dock"])
    assert is_alive(this_process() | {"boot": "before", "hardware": ["card"]}) is False


@pytest.mark.parametrize("hardware", [["another card"], [], None, "card", {"card": 1}])
def test_another_boot_of_a_machine_made_from_the_same_image_cannot_be_told(
    hardware: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_machine", lambda: "baked into the image")
    monkeypatch.setattr(processes, "_hardware", lambda: ["card"])
    assert is_alive(this_process() | {"boot": "before", "hardware": hardware}) is None


def test_network_cards_are_told_where_another_boot_means_a_reboot(
    monkeypatch: pytest.MonkeyPatch, fresh_caches: None, tmp_path: Path
) -> None:
    cards = {
        "eth0": ("00:1b:21:00:00:01", "0", True),
        "virtual": ("02:1b:21:00:00:02", "0", True),  # set by software
        "wlan0": ("00:1b:21:00:00:03", "3", True),  # different for each network
        "veth1": ("00:1b:21:00:00:04", "0", False),  # none of the machine's own
        "odd": ("", "0", True),
    }
    for name, (address, kind, is_device) in cards.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "address").write_text(f"{address}\n")
        (tmp_path / name / "addr_assign_type").write_text(f"{kind}\n")
        if is_device:
            (tmp_path / name / "device").touch()
    monkeypatch.setattr(processes, "_NETWORK", str(tmp_path))
    monkeypatch.setattr(processes, "_machine", lambda: "this one")
    monkeypatch.setattr(processes, "_namespace", lambda: "pid:[4026531836]")
    [card] = this_process()["hardware"]
    assert "00:1b" not in card


def test_a_container_tells_no_network_card(
    monkeypatch: pytest.MonkeyPatch, fresh_caches: None
) -> None:
    monkeypatch.setattr(processes, "_machine", lambda: "baked into the image")
    monkeypatch.setattr(processes, "_namespace", lambda: "pid:[4026532000]")
    assert this_process()["hardware"] == []


def test_a_machine_with_a_mounted_boot_id_tells_no_network_card(
    monkeypatch: pytest.MonkeyPatch, fresh_caches: None, tmp_path: Path
) -> None:
    mounted = tmp_path / "boot_id"
    mounted.write_text("another\n")
    monkeypatch.setattr(processes, "_BOOT_ID", str(mounted))
    monkeypatch.setattr(processes, "_machine", lambda: "this one")
    assert this_process()["hardware"] == []


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("another", "this one"), (None, "this one"), ("theirs", None), (None, None)],
)
def test_another_boot_on_a_machine_not_proven_the_same_cannot_be_told(
    theirs: str | None, ours: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_machine", lambda: ours)
    assert is_alive(this_process() | {"boot": "other", "machine": theirs}) is None


@pytest.mark.parametrize("key", ["host", "boot", "namespace", "pid", "started"])
def test_an_identity_that_lacks_a_key_cannot_be_told(key: str) -> None:
    identity = this_process()
    del identity[key]
    assert is_alive(identity) is None


@pytest.mark.parametrize("value", [None, [], {}, "", "x", True, -1, 1e400, float("nan"), b"1"])
@pytest.mark.parametrize("key", ["host", "boot", "namespace", "pid", "started"])
def test_an_identity_of_nonsense_cannot_be_told(key: str, value: Any) -> None:
    # Text may be a boot's or a machine's real id, so it is not taken for proof either.
    identity = this_process() | {"machine": None, key: value}
    assert is_alive(identity) is None


@pytest.mark.parametrize("pid", [0, 2**31, 10**30, 1.5])
def test_a_pid_that_cannot_be_one_cannot_be_told(pid: Any) -> None:
    assert is_alive(this_process() | {"pid": pid}) is None


@pytest.mark.parametrize("identity", [None, [], "me", 3, {}])
def test_what_is_no_identity_cannot_be_told(identity: Any) -> None:
    assert is_alive(identity) is None


@on_linux
def test_a_process_hidden_in_proc_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    me = this_process()

    def hidden(pid: int) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(processes, "_state_and_start", hidden)
    assert is_alive(me) is None

    def forbidden(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert is_alive(me) is None


@on_linux
@pytest.mark.parametrize("error", [PermissionError, ValueError, IndexError])
def test_an_unreadable_proc_cannot_tell(
    error: type[Exception], fresh_caches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = this_process()
    processes._own_start.cache_clear()

    def unreadable(pid: int) -> None:
        raise error

    monkeypatch.setattr(processes, "_state_and_start", unreadable)
    assert is_alive(me) is None
    assert this_process()["started"] is None
    assert is_alive(this_process()) is None


@on_linux
def test_without_a_readable_namespace_nothing_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    me = this_process()

    def unreadable(path: str) -> str:
        raise PermissionError

    monkeypatch.setattr(os, "readlink", unreadable)
    assert this_process()["namespace"] is None
    assert is_alive(me) is None


@on_linux
def test_processes_in_two_pid_namespaces_cannot_tell_of_each_other() -> None:
    unshare = ("unshare", "--pid", "--fork", "--mount-proc")
    inner = said_in_a_namespace(unshare)
    assert inner["pid"] != os.getpid()
    assert inner["namespace"] not in (None, this_process()["namespace"])
    assert is_alive(inner) is None


@on_linux
def test_a_proc_of_another_pid_namespace_is_not_believed() -> None:
    inner = said_in_a_namespace(("unshare", "--pid", "--fork"))
    assert inner["namespace"] is None
    assert is_alive(inner) is None


def said_in_a_namespace(unshare: tuple[str, ...]) -> Any:
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to make pid namespaces")
    with child(SAY_WHO, *unshare) as process:
        return said(process)


@pytest.fixture
def fresh_caches() -> Iterator[None]:
    caches = (processes._machine, processes._boot, processes._hardware, processes._own_start)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("content", [None, "", "\n", "uninitialized\n", "\xff\n"])
def test_a_machine_without_an_id_has_none(
    content: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_caches: None
) -> None:
    file = tmp_path / "machine-id"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    monkeypatch.setattr(processes, "_MACHINE_ID_FILES", (str(file),))
    assert this_process()["machine"] is None


def test_a_host_whose_name_is_not_utf_8_has_a_name_fit_for_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="caf\udce9"), raising=False)
    assert this_process()["host"] == "caf?"


def test_a_system_without_uname_has_a_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "uname", raising=False)
    assert this_process()["host"]


class FakeProcess:
    """A process in psutil: its status and start, or an error."""

    def __init__(self, status: str, started: float = 1000.0) -> None:
        self.started = started
        self.state = status

    def status(self) -> str:
        return self.state

    def create_time(self) -> float:
        return self.started


@pytest.fixture
def psutil_only(monkeypatch: pytest.MonkeyPatch, fresh_caches: None) -> Any:
    """Off Linux: psutil is asked, here a fake that knows one running process."""
    fake: Any = ModuleType("psutil")
    fake.STATUS_ZOMBIE = "zombie"
    fake.Error = type("Error", (Exception,), {})
    fake.NoSuchProcess = type("NoSuchProcess", (fake.Error,), {})
    fake.AccessDenied = type("AccessDenied", (fake.Error,), {})
    fake.boot_time = lambda: 500.7
    fake.Process = lambda pid: FakeProcess("running")
    monkeypatch.setitem(sys.modules, "psutil", fake)
    off_linux(monkeypatch)
    return fake


def off_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_LINUX", False)
    monkeypatch.setattr(processes, "_CLOCK_SLACK", 2)


def test_off_linux_psutil_tells_who_a_process_is(psutil_only: Any) -> None:
    me = this_process()
    assert (me["boot"], me["namespace"], me["started"]) == (500, "", 1000.0)
    assert is_alive(me) is True


def test_off_linux_a_clock_set_right_changes_nothing(psutil_only: Any) -> None:
    assert is_alive(this_process() | {"boot": 501, "started": 999.5}) is True


def test_off_linux_a_reused_pid_is_not_the_process(psutil_only: Any) -> None:
    assert is_alive(this_process() | {"started": 900.0}) is False


def test_off_linux_a_zombie_is_gone(psutil_only: Any) -> None:
    me = this_process()
    psutil_only.Process = lambda pid: FakeProcess("zombie")
    assert is_alive(me) is False


@pytest.mark.parametrize(("error", "alive"), [("NoSuchProcess", False), ("AccessDenied", None)])
def test_off_linux_an_error_tells_what_it_can(
    error: str, alive: bool | None, psutil_only: Any
) -> None:
    me = this_process()
    processes._own_start.cache_clear()

    def fail(pid: int) -> None:
        raise getattr(psutil_only, error)

    psutil_only.Process = fail
    assert is_alive(me) is alive
    assert this_process()["started"] is None


def test_off_linux_without_psutil_nothing_can_be_told(
    psutil_only: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = this_process()
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert is_alive(me) is None
    processes._boot.cache_clear()
    assert this_process()["boot"] is None
    assert is_alive(me) is None


def test_the_real_psutil_tells_a_living_and_a_killed_child(
    monkeypatch: pytest.MonkeyPatch, fresh_caches: None
) -> None:
    psutil = pytest.importorskip("psutil")
    off_linux(monkeypatch)
    with child("print(0, flush=True); input()") as process:
        said(process)
        started = psutil.Process(process.pid).create_time()
        identity = this_process() | {"pid": process.pid, "started": started}
        assert is_alive(identity) is True
        process.kill()
        process.wait()
        assert is_alive(identity) is False
