"""System metrics: samples of the machine, the process and its accelerators, as records.

A single thread of the process takes the samples of all its sessions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event, Lock
from time import monotonic, time
from typing import TYPE_CHECKING

from casket.errors import CasketError
from casket.format.records import utc
from casket.system.background import Background
from casket.writing.capture.gpus import Accelerators, accelerators
from casket.writing.log import SessionLog

if TYPE_CHECKING:
    import psutil

ROWS = 5_000
"""Rows of a session beyond which two are averaged, so that each row covers twice the time."""

SHORTEST = 1.0
"""Seconds that a last row must cover to be worth adding at the end."""

SHORTEST_SLEEP = 0.001
LONGEST_SLEEP = 1.0
"""Seconds after which the thread looks for sessions that began meanwhile."""

CUMULATIVE = (
    "disk_read_bytes",
    "disk_write_bytes",
    "network_sent_bytes",
    "network_received_bytes",
)
"""Values that count from the first sample of a session."""

Row = dict[str, float]


class Probe:
    """Samples this machine and this process."""

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        self._process = psutil.Process()
        self._accelerators: list[Accelerators] = accelerators()
        self._before = (monotonic(), self._seconds_of(self._tree()))
        psutil.cpu_percent()

    def sample(self) -> Row:
        """Return the current values; percentages are averages since the last sample."""
        tree = self._tree()
        return {
            "cpu_percent": self._psutil.cpu_percent(),
            "memory_bytes": self._psutil.virtual_memory().used,
            "process_cpu_percent": self._percent(self._seconds_of(tree)),
            "process_memory_bytes": self._resident_of(tree),
            **self._disk(),
            **self._network(),
            **self._gpus(),
        }

    def _tree(self) -> list[psutil.Process]:
        """Return this process and its descendants."""
        pids = [self._process.pid]
        try:
            for pid in pids:  # grows
                pids += _children_of(pid)
        except OSError:  # no Linux, or a process that has just exited
            with suppress(self._psutil.Error):
                return [self._process, *self._process.children(recursive=True)]
        tree = [self._process]
        for pid in pids[1:]:
            with suppress(self._psutil.Error):
                tree.append(self._psutil.Process(pid))
        return tree

    def _seconds_of(self, tree: list[psutil.Process]) -> float:
        """Return the CPU time of processes, including that of children that have exited."""
        seconds = 0.0
        for process in tree:
            with suppress(self._psutil.Error):
                seconds += sum(process.cpu_times()[:4])
        return seconds

    def _resident_of(self, tree: list[psutil.Process]) -> int:
        resident = 0
        for process in tree:
            with suppress(self._psutil.Error):  # it has exited, or belongs to another user
                resident += process.memory_info().rss
        return resident

    def _percent(self, seconds: float) -> float:
        (begun, before), self._before = self._before, (monotonic(), seconds)
        elapsed = max(self._before[0] - begun, 1e-6)
        return round(max(seconds - before, 0.0) / elapsed * 100, 2)

    def _disk(self) -> Row:
        counters = self._psutil.disk_io_counters(nowrap=False)
        if counters is None:  # a container that does not see the disks
            return {}
        return {"disk_read_bytes": counters.read_bytes, "disk_write_bytes": counters.write_bytes}

    def _network(self) -> Row:
        counters = self._psutil.net_io_counters(nowrap=False)
        if counters is None:
            return {}
        return {
            "network_sent_bytes": counters.bytes_sent,
            "network_received_bytes": counters.bytes_recv,
        }

    def _gpus(self) -> Row:
        return {
            f"gpu.{number}.{name}": value
            for each in self._accelerators
            for number, state in each.read().items()
            for name, value in state.items()
        }


def _children_of(pid: int) -> list[int]:
    """Return the children of a process; psutil would read all processes of the machine.

    Raises:
        OSError: the system does not list them.
    """
    children: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
            children += map(int, file.read().split())
    return children


class Samples:
    """The rows of a session, thinned as they are added.

    Args:
        interval: the seconds between two samples.
        write: appends a row with its time as text.

    Attributes:
        due: the time of the next sample, by the monotonic clock.
        problem: why no more samples are added, or None.
    """

    def __init__(self, interval: float, write: Callable[[Row, str], object]) -> None:
        self._interval = interval
        self._write = write
        self._first: Row | None = None
        self._pending: list[tuple[float, Row]] = []
        self._per_row = 1
        self._rows = 0
        self._latest = monotonic()
        self.due = self._latest + interval
        self.problem: str | None = None

    @property
    def is_worth_a_last(self) -> bool:
        """Whether the time since the last sample is worth another one."""
        since = monotonic() - self._latest
        return self.problem is None and since >= min(SHORTEST, self._interval)

    def fail(self, error: Exception) -> None:
        """Add no more samples."""
        self.problem = f"{type(error).__name__}: {error}"
        self.due = math.inf

    def add(self, row: Row) -> None:
        """Add a sample."""
        first = self._first = self._first or row
        since = {name: row[name] - first.get(name, 0) for name in CUMULATIVE if name in row}
        self._latest = monotonic()
        self.due = max(self.due + self._interval, self._latest)
        self._pending.append((time(), {**row, **since}))
        if len(self._pending) >= self._per_row:
            self.flush()

    def flush(self) -> None:
        """Write the pending samples as a row."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        seconds = sum(taken for taken, _ in pending) / len(pending)
        try:
            self._write(mean([row for _, row in pending]), utc(seconds))
        except CasketError as error:  # the store cannot be written
            self.fail(error)
        self._rows += 1
        if self._rows == ROWS:
            self._rows = ROWS // 2
            self._per_row *= 2


def mean(rows: Sequence[Row]) -> Row:
    """Return the mean of each value; whole numbers stay whole."""
    means: Row = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        value = sum(values) / len(values)
        means[name] = round(value) if {int}.issuperset(map(type, values)) else round(value, 3)
    return means


class Sampler:
    """The thread that takes the samples of all sessions of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sampling = Lock()
        self._sessions: list[Samples] = []
        self._probe: Probe | None = None
        self._thread: Background | None = None

    def add(self, samples: Samples) -> None:
        """Begin to sample for a session."""
        with self._lock:
            self._sessions.append(samples)
            if len(self._sessions) == 1:
                try:
                    self._thread = Background(self._run, "casket-system")
                except RuntimeError as error:  # no thread, while the interpreter exits
                    samples.fail(error)

    def remove(self, samples: Samples, patience: float) -> None:
        """Stop sampling for a session, with a last row if that covers some time."""
        with self._lock:
            self._sessions.remove(samples)
            ending = None if self._sessions else self._thread
        if ending is not None:
            ending.end(patience)
        if samples.is_worth_a_last:
            self._sample([samples])
        samples.flush()

    def _run(self, stop: Event) -> None:
        while not stop.is_set():
            with self._lock:
                sessions = [each for each in self._sessions if each.problem is None]
            due = [each for each in sessions if each.due <= monotonic()]
            if due or (sessions and self._probe is None):
                self._sample(due)
            following = min((each.due for each in sessions), default=math.inf) - monotonic()
            stop.wait(min(max(following, SHORTEST_SLEEP), LONGEST_SLEEP))

    def _sample(self, due: list[Samples]) -> None:
        with self._sampling:
            try:
                if self._probe is None:
                    self._probe = Probe()
                row = self._probe.sample() if due else {}
            except Exception as error:  # noqa: BLE001 - a driver may raise anything
                for each in [*due, *self._sessions]:
                    each.fail(error)
                return
        for each in due:
            each.add(row)


_samplers: dict[int, Sampler] = {}


def sampler() -> Sampler:
    """Return the sampler of this process."""
    return _samplers.setdefault(os.getpid(), Sampler())


class SystemMetrics:
    """The system metrics of a session.

    Args:
        log: the log of the session.
        interval: the seconds between two samples.
    """

    def __init__(self, log: SessionLog, interval: float) -> None:
        self._log = log
        self._samples = Samples(interval, self._write)
        sampler().add(self._samples)

    def _write(self, row: Row, time: str) -> None:
        self._log.append([self._log.record("system", {"values": row}, time=time)])

    def end(self, patience: float) -> dict[str, str]:
        """Stop within some seconds; return what is missing, and why."""
        sampler().remove(self._samples, patience)
        return {"system": self._samples.problem} if self._samples.problem else {}
