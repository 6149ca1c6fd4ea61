"""Scripts with threads and forks, each run in a Python of its own; the tests read the file."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any, NoReturn

import casket
from casket import Experiment as E
from casket import Session

THREADS, EPOCHS_OF_THREAD = 8, 400
CHILDREN, EPOCHS_OF_CHILD = 15, 30
TASKS = 12


class Leaving(Exception):
    """Raised by a child on purpose."""


def _raise() -> NoReturn:
    raise Leaving


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


WAYS_TO_LEAVE: list[tuple[Callable[[], Any], int]] = [
    (lambda: None, 0),  # by return
    (_raise, 1),
    (lambda: sys.exit(3), 3),
    (lambda: os._exit(4), 4),
    (_die, -signal.SIGKILL),
]
"""What a forked child does at the end of its work, and the exit code that follows."""


def model(runs: str) -> casket.Model:
    return E.use(runs, exp_id="e").model("m")


def log(session: Session, name: str, epochs: int) -> None:
    for k in range(1, epochs + 1):
        session.add_epoch(k, {"of": name})


def as_others_see_it(runs: str) -> str:
    """Return the status and the error of the only session, read by another process."""
    code = f"import casket; [s] = casket.open({runs!r}).sessions(); print(s.status, s.error)"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def in_threads(work: Callable[[str], None], number: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(f"thread {i}",)) for i in range(number)]
    for thread in threads:
        thread.start()
    return threads


def read_until(stop: threading.Event, runs: str) -> None:
    while not stop.is_set():
        with casket.open(runs) as opened:
            opened.sessions()


def fork_while_threads_log(runs: str) -> None:
    """Threads log and read, while the process forks children that log and leave."""
    stop = threading.Event()
    children = {}
    with model(runs).session({"a": 1}) as session:
        threads = in_threads(lambda name: log(session, name, EPOCHS_OF_THREAD), THREADS)
        reader = threading.Thread(target=read_until, args=(stop, runs))
        reader.start()
        for i in range(CHILDREN):
            leave, code = WAYS_TO_LEAVE[i % len(WAYS_TO_LEAVE)]
            pid = os.fork()
            if pid == 0:
                log(session, f"child {i}", EPOCHS_OF_CHILD)
                leave()
                return  # out of the `with` block, to the end of the script
            children[pid] = code
            time.sleep(0.002)
        left = {pid: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children}
        for thread in threads:
            thread.join()
        stop.set()
        reader.join()
        assert left == children
        assert as_others_see_it(runs) == "running None"
        session.add_result({"done": True})
    assert as_others_see_it(runs) == "completed None"


def fork_by_multiprocessing_while_threads_log(runs: str) -> None:
    fork = get_context("fork")
    with model(runs).session({"a": 1}) as session:
        threads = in_threads(lambda name: log(session, name, EPOCHS_OF_THREAD), THREADS)
        children = [
            fork.Process(target=log, args=(session, f"child {i}", EPOCHS_OF_CHILD))
            for i in range(CHILDREN)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        for thread in threads:
            thread.join()
        assert [child.exitcode for child in children] == [0] * CHILDREN
        assert as_others_see_it(runs) == "running None"
        session.add_result({"done": True})


def fork_while_threads_begin_sessions(runs: str) -> None:
    """Threads begin and end sessions while the process forks children that do so as well."""
    mine = model(runs)

    def begin_and_end(name: str) -> None:
        for k in range(TASKS):
            with mine.session({"of": name, "k": k}) as session:
                session.add_epoch(1, {"k": k})

    threads = in_threads(begin_and_end, 4)
    children = []
    for i in range(6):
        time.sleep(0.005)
        pid = os.fork()
        if pid == 0:
            begin_and_end(f"child {i}")
            os._exit(0)
        children.append(pid)
    left = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    for thread in threads:
        thread.join()
    assert left == [0] * 6


class SlowFinder:
    """Finds modules as slowly as on a slow file system."""

    def find_spec(self, *_: object) -> None:
        time.sleep(0.05)


def fork_while_a_thread_imports(runs: str) -> None:
    """A thread begins the first session, which imports modules, as the process forks."""
    mine = model(runs)
    sys.meta_path.insert(0, SlowFinder())
    thread = threading.Thread(target=train, args=(mine, 0))
    thread.start()
    children = []
    for task in range(1, 6):
        time.sleep(0.02)
        pid = os.fork()
        if pid == 0:
            train(mine, task)
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 5
    thread.join()


def child_outlives_parent(runs: str) -> None:
    """The parent closes the file and another process comes and goes; the child logs on."""
    mine = model(runs)
    told, tell = os.pipe()
    with mine.session({"a": 1}) as session:
        session.add_epoch(1, {"of": "parent"})
        pid = os.fork()
        if pid == 0:
            log(session, "child", 2)
            os.read(told, 1)
            for k in (3, 4):
                session.add_epoch(k, {"of": "child"})
            os._exit(0)
    mine.experiment.close()
    another = f"from tests.crash.scenarios import model; model({runs!r}).add_result({{'a': 1}})"
    subprocess.run([sys.executable, "-c", another], check=True)
    os.write(tell, b"!")
    assert os.waitpid(pid, 0)[1] == 0


def fork_while_following(runs: str) -> None:
    """The process forks in the middle of reading; the child logs as others come and go."""
    mine = model(runs)
    with mine.session({"a": 1}) as session, casket.open(runs) as opened:
        following = opened.follow(poll=0.001)
        log(session, "parent", 2)
        next(following)
        pid = os.fork()
        if pid == 0:
            log(session, "child", 2)
            another = f"from tests.crash.scenarios import model; model({runs!r}).add_result({{}})"
            subprocess.run([sys.executable, "-c", another], check=True)
            for k in (3, 4):
                session.add_epoch(k, {"of": "child"})
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert next(following)["body"]["epoch_num"] == 2
        log(session, "parent afterwards", 2)


def die_logging_with_children(runs: str, done: str) -> None:
    """Threads log large records; children are forked that live on; the process is killed.

    Args:
        runs: the file.
        done: the children leave when there is a file of this name.
    """
    session = model(runs).session({"a": random.random()})

    def log_on(name: str) -> None:
        while True:
            session.add_epoch(1, {"of": name, "text": "x" * 300_000})

    in_threads(log_on, 2)
    time.sleep(0.02)
    for _ in range(4):
        if os.fork() == 0:
            os.setpgid(0, 0)  # so that they outlive the parent
            deadline = time.monotonic() + 60
            while not os.path.exists(done) and time.monotonic() < deadline:
                time.sleep(0.02)
            os._exit(0)
    time.sleep(random.uniform(0, 0.01))
    _die()


def train(handle: casket.Model | E, task: int) -> int:
    """Log a session by a handle that came from another process."""
    mine = handle if isinstance(handle, casket.Model) else handle.model("m")
    with mine.session({"task": task}) as session:
        log(session, f"task {task}", 3)
    return os.getpid()


def pool_of_forks(runs: str) -> None:
    mine = model(runs)
    with mine.session({"a": 1}) as session, get_context("fork").Pool(3) as pool:
        working = pool.starmap_async(train, [(mine, task) for task in range(TASKS)], chunksize=1)
        log(session, "parent", EPOCHS_OF_THREAD)
        assert os.getpid() not in working.get()
        pool.close()
        pool.join()


_inherited: casket.Model


def _train_inherited(task: int) -> int:
    return train(_inherited, task)


def pool_of_forks_that_inherit_the_handle(runs: str) -> None:
    global _inherited
    _inherited = model(runs)
    with (
        _inherited.session({"a": 1}) as session,
        get_context("fork").Pool(3) as pool,
    ):
        log(session, "parent", EPOCHS_OF_THREAD)
        assert os.getpid() not in pool.map(_train_inherited, range(TASKS), chunksize=1)
        pool.close()
        pool.join()


def spawned_workers(runs: str) -> None:
    mine = model(runs)
    spawn = get_context("spawn")
    workers = [
        spawn.Process(target=train, args=(handle, task))
        for task, handle in enumerate([mine, mine.experiment])
    ]
    with mine.session({"a": 1}) as session:
        for worker in workers:
            worker.start()
        log(session, "parent", EPOCHS_OF_THREAD)
        for worker in workers:
            worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]


def loky_workers(runs: str) -> None:
    from joblib import Parallel, delayed

    mine = model(runs)
    with mine.session({"a": 1}) as session:
        pids = Parallel(n_jobs=2, backend="loky")(delayed(train)(mine, i) for i in range(TASKS))
        log(session, "parent", EPOCHS_OF_THREAD)
    assert os.getpid() not in pids
