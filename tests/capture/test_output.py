"""Captured output: everything a terminal would show, while the terminal still shows it."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

import casket
from casket import Experiment
from casket.writing.capture.tee import ROOM, Kept, shown
from tests.conftest import ROOT
from tests.waiting import PATIENCE

BEGINNING = """
import os, subprocess, sys
from casket import Experiment
from casket.writing.capture import output, transcript
transcript.INTERVAL = 0.01
output.PATIENCE = output.START_PATIENCE = 600.0  # the machine may be busy
model = Experiment.use("runs.json", exp_id="exp", capture=["output"]).model("net")
"""


@pytest.fixture
def run_script(tmp_path):
    """Run a script whose sessions capture output; return the ended process."""

    def run(code: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, "-c", BEGINNING + textwrap.dedent(code)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            capture_output=True,
            timeout=PATIENCE,
        )
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        return done

    return run


def outputs(folder):
    """Return the captured output of each session, and the meta of the last."""
    with casket.open(folder / "runs.json") as runs:
        views = runs.sessions()
        assert all("output.txt" in view.artifacts for view in views), views[-1].meta
        texts = [view.artifacts["output.txt"].load().decode() for view in views]
        return texts, views[-1].meta


def test_all_output_is_kept_and_shown(run_script, tmp_path):
    done = run_script("""
        import ctypes
        print("before")
        with model.session({"n": 1}):
            print("from python")
            print("to stderr", file=sys.stderr)
            subprocess.run(["echo", "from a subprocess"])
            ctypes.CDLL(None).printf(b"from C\\n")
            with model.session({"n": 2}):
                for i in range(4):
                    print(f"\\rstep {i} of 3 \\x1b[31m***\\x1b[0m", end="", flush=True)
                print()
                if os.fork() == 0:
                    os.write(1, b"from a fork\\n")
                    os._exit(0)
                os.wait()
                print("--password=hush", "unfinished", end="")
            print()
        print("after")
    """)
    (first, second), meta = outputs(tmp_path)
    assert second == "step 3 of 3 ***\nfrom a fork\n--password=*** unfinished\n"
    assert first.replace("to stderr\n", "") == (
        "from python\nfrom a subprocess\nfrom C\nstep 3 of 3 ***\nfrom a fork\n"
        "--password=*** unfinished\n"
    )
    assert "to stderr\n" in first
    assert len(list((tmp_path / "runs.json.files").iterdir())) == 2  # the last copy of each
    assert "capture" not in meta
    assert done.stderr == "to stderr\n"
    assert done.stdout.startswith(
        "before\nfrom python\nfrom a subprocess\nfrom C\n\rstep 0 of 3 \x1b"
    )
    assert done.stdout.endswith("from a fork\n--password=hush unfinished\nafter\n")


def test_the_last_words_of_a_killed_script_are_shown_and_earlier_ones_kept(run_script, tmp_path):
    done = run_script("""
        import signal, time
        session = model.session()
        print("first words", flush=True)
        while not model.sessions()[0].captured:
            time.sleep(0.01)
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "first words\nlast words\n"
    (text,), _ = outputs(tmp_path)
    assert text.startswith("first words\n")


def test_a_program_that_outlives_the_script_goes_on_printing(run_script, tmp_path):
    done = run_script("""
        with model.session():
            print("begun", flush=True)
            subprocess.Popen(["sh", "-c", "read line; echo late $line"], stdin=subprocess.PIPE)
    """)
    assert done.stdout == "begun\nlate\n"
    assert outputs(tmp_path)[0] == ["begun\n"]


def test_a_reader_that_leaves_is_noticed(tmp_path):
    script = BEGINNING + textwrap.dedent("""
        with model.session():
            while True:
                print("x" * 1000, flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    assert b"BrokenPipeError" in process.stderr.read()
    assert process.wait(PATIENCE) != 0
    process.stderr.close()


def test_a_debugged_script_is_left_alone(run_script, tmp_path):
    done = run_script("""
        import bdb
        def debugged():
            with model.session():
                print("seen")
        bdb.Bdb().runcall(debugged)
    """)
    assert (done.returncode, done.stdout) == (0, "seen\n"), done.stderr
    with casket.open(tmp_path / "runs.json") as runs:
        (view,) = runs.sessions()
    assert view.meta["capture"] == {"output": "off, because a debugger is running"}


def test_pytest_is_left_alone(tmp_path):
    exp = Experiment.use(tmp_path / "runs.json", exp_id="exp")
    with exp.model("net").session(capture=["output"]):
        print("to pytest")
    (view,) = exp.sessions()
    assert view.artifacts == {}
    assert view.meta["capture"] == {"output": "off, because pytest captures output itself"}


def test_in_a_notebook_cells_are_kept(tmp_path, monkeypatch):
    pytest.importorskip("ipykernel")
    from jupyter_client.manager import start_new_kernel

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    manager, client = start_new_kernel(cwd=str(tmp_path))
    printed = []

    def run(code: str) -> None:
        answer = client.execute_interactive(
            code, timeout=PATIENCE, output_hook=lambda message: printed.append(message["content"])
        )
        assert answer["content"]["status"] == "ok", answer

    try:
        run(BEGINNING + "session = model.session()")
        run("print('from a cell'); print('to stderr', file=sys.stderr)")
        run("session.end()\nprint('after')")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    (text,), meta = outputs(tmp_path)
    assert sorted(text.splitlines()) == ["from a cell", "to stderr"]
    assert "capture" not in meta
    # A line may arrive in several messages.
    shown = "".join(each["text"] for each in printed if each.get("name") == "stdout")
    assert shown == "from a cell\nafter\n"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"plain", b"plain"),
        (b"windows\r", b"windows"),
        (b"10 %\r50 %\r100 %", b"100 %"),
        (b"bar\r      \r", b"bar"),
        (b"\x1b[1;32mgreen\x1b[0m\x1b[K", b"green"),
        (b"\x1b]0;title\x07text", b"text"),
        (b"5/10\b\b\b\b\b\b\r10/10", b"10/10"),
        (b"", b""),
    ],
)
def test_a_line_is_kept_as_the_terminal_shows_it(line, text):
    assert shown(line) == text


def test_only_the_last_megabyte_is_kept():
    kept = Kept()
    for n in range(300_000):
        kept.add(b"line %d\n" % n)
    text = kept.since(0)
    assert ROOM - 100 < len(text) <= ROOM
    assert text.startswith(b"line ")
    assert text.endswith(b"line 299999\n")
    assert kept.since(kept.count - 12) == b"line 299999\n"
