"""A process leaves in time, however many servers have fallen silent."""

import subprocess
import sys
import time

import casket

FLUSH_TIMEOUT = 5.0
STORES = 4
SLACK = 12.0
"""Seconds that an interpreter may take to end on a busy machine; less than another timeout each."""

CODE = """
import sys
import casket
from casket import Experiment

urls = sys.argv[2:]
timeout = float(sys.argv[1])
models = [Experiment.use(url, exp_id="e", flush_timeout=timeout).model("m") for url in urls]
sessions = [model.session({"lr": lr}) for lr, model in enumerate(models)]
readers = [casket.open(url) for url in urls]
assert all(reader.sessions() for reader in readers)
print("ready", flush=True)
sys.stdin.readline()
for session in sessions:
    session.add_epoch(1, {"loss": 0.5})
print("leaving", flush=True)
sys.exit("without an end of the sessions")
"""


OPEN = """
import multiprocessing, sys
from casket import Experiment

def work(way):
    session = Experiment.use(sys.argv[1], exp_id="e").model("m").session({"way": way})
    for _ in range(3):
        session.log({"loss": 1.0})
    if way == "raise":
        raise ValueError("diverged")

child = multiprocessing.get_context("fork").Process(target=work, args=("raise",))
child.start()
child.join()
work("return")
work("exit")
sys.exit(3)
"""


def test_open_sessions_are_ended_in_every_store(far):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OPEN, far.url], capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    with casket.open(far.url) as runs:
        outcomes = {s.params["way"]: (s.status, s.error, len(s.batches)) for s in runs.sessions()}
    assert outcomes == {
        "raise": ("failed", "ValueError: diverged", 3),
        "return": ("failed", "SystemExit: 3", 3),
        "exit": ("failed", "SystemExit: 3", 3),
    }


def test_silent_servers_keep_a_process_for_one_flush_timeout(far):
    proxies, urls = zip(*[far.proxy() for _ in range(STORES)], strict=True)
    command = [sys.executable, "-W", "ignore", "-c", CODE, str(FLUSH_TIMEOUT), *urls]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        for proxy in proxies:
            proxy.fall_silent()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "leaving\n"
        begun = time.monotonic()
        process.communicate(timeout=10 * STORES * FLUSH_TIMEOUT)
        assert time.monotonic() - begun < FLUSH_TIMEOUT + SLACK
    finally:
        process.kill()
        process.communicate()
