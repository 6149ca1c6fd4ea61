"""A script that is left while sessions are open: each way to leave has its status."""

import os
import re
import subprocess
import sys
import textwrap

import pytest

import casket
from casket import ExistingParamsException
from tests.waiting import PATIENCE

SCRIPT = """
import os, sys, threading
from casket import Experiment

def session_in(url):
    # Nothing refers to the session when the script ends.
    Experiment.use(url, exp_id="e").model("m").session({"way": way}).log({"loss": 1.0})

for way, code in WAYS.items():
    if os.fork() == 0:
        break  # this child leaves the script, the parent goes on with the next way
    os.wait()
else:
    os._exit(0)
os.dup2(os.open(f"{way}.txt", os.O_CREAT | os.O_WRONLY), 2)
for url in ("runs.json", "runs.sqlite"):
    session_in(url)
exec(code)
"""

WAYS = {
    "ran to its end": ("", "completed", None),
    "exit": ("sys.exit()", "completed", None),
    "exit 0": ("sys.exit(0)", "completed", None),
    "exit 3": ("sys.exit(3)", "failed", "SystemExit: 3"),
    "exit with text": (
        "sys.exit('no data, password=hunter2')", "failed", "SystemExit: no data, password=***",
    ),
    "exit in a function": (
        "def main():\n  with open(os.devnull):\n    sys.exit(3)\nmain()", "failed", "SystemExit: 3",
    ),
    "exit that is caught": (
        "try:\n  sys.exit(3)\nexcept SystemExit:\n  pass", "completed", None,
    ),
    "exit of a thread": (
        "t = threading.Thread(target=sys.exit, args=[3]); t.start(); t.join()", "completed", None,
    ),
    "exception": ("raise ValueError('diverged')", "failed", "ValueError: diverged"),
    "exception that is caught": (
        "try:\n  raise ValueError\nexcept ValueError:\n  pass", "completed", None,
    ),
    "exception of a thread": (
        "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", "completed", None,
    ),
    "hook of the user": (
        "sys.excepthook = lambda *_: None; raise ValueError('diverged')",
        "failed", "ValueError: diverged",
    ),
    "Ctrl-C": ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt"),
    "forked child": ("if os.fork() == 0: sys.exit(5)\nos.wait()", "completed", None),
    "os._exit": ("os._exit(0)", "killed", None),
    "killed": ("os.kill(os.getpid(), 9)", "killed", None),
}  # fmt: skip

CHILDREN = """
import multiprocessing, sys
from casket import Experiment

def work(way):
    for url in ("runs.json", "runs.sqlite"):
        Experiment.use(url, exp_id="e").model("m").session({"way": way}).log({"loss": 1.0})
    if way.endswith("raise"):
        raise ValueError("diverged")
    if way.endswith("exit"):
        sys.exit(3)

if __name__ == "__main__":
    own = Experiment.use("runs.json", exp_id="e").model("m").session({"way": "own"})
    processes = [
        multiprocessing.get_context(method).Process(target=work, args=(f"{method} {way}",))
        for method in ("spawn", "fork", "forkserver")
        for way in ("return", "raise", "exit")
    ]
    for each in processes: each.start()
    for each in processes: each.join()
    own.log({"loss": 2.0})
"""


def outcomes(folder, name):
    with casket.open(folder / name) as runs:
        return {s.params["way"]: (s.status, s.error, len(s.batches)) for s in runs.sessions()}


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """The folder in which a script has been left in every way."""
    folder = tmp_path_factory.mktemp("left")
    codes = {way: code for way, (code, *_) in WAYS.items()}
    script = f"WAYS = {codes!r}\n{SCRIPT}"
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, timeout=PATIENCE)
    return folder


@pytest.mark.parametrize("name", ["runs.json", "runs.sqlite"])
@pytest.mark.parametrize("way", WAYS)
def test_an_open_session_reads_as_the_script_was_left(left, name, way):
    assert outcomes(left, name)[way] == (*WAYS[way][1:], 1)


def test_the_exception_is_still_shown(left):
    def shown(way):
        return (left / f"{way}.txt").read_text()

    assert shown("exception").rstrip().endswith("ValueError: diverged")
    assert shown("exit with text") == "no data, password=hunter2\n"
    assert shown("ran to its end") == shown("hook of the user") == ""


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    folder = tmp_path_factory.mktemp("children")
    (folder / "train.py").write_text(CHILDREN)
    subprocess.run(
        [sys.executable, "train.py"],
        cwd=folder,
        check=True,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
    )
    return folder


@pytest.mark.parametrize("name", ["runs.json", "runs.sqlite"])
def test_a_child_of_multiprocessing_ends_its_own_sessions(children, name):
    expected = {
        f"{method} {way}": outcome
        for method in ("spawn", "fork", "forkserver")
        for way, outcome in {
            "return": ("completed", None, 1),
            "raise": ("failed", "ValueError: diverged", 1),
            "exit": ("failed", "SystemExit: 3", 1),
        }.items()
    }
    if name == "runs.json":
        expected["own"] = ("completed", None, 1)
    assert outcomes(children, name) == expected


def test_sys_exit_is_what_it_was_once_no_session_is_open(memory):
    before = sys.exit
    with memory.session({"lr": 1}):
        assert sys.exit is not before
        with memory.session({"lr": 2}):
            pass
        with pytest.raises(SystemExit) as left:
            sys.exit(3)
        assert left.value.code == 3
    assert sys.exit is before


def test_an_end_that_cannot_be_written_does_not_stop_the_others(tmp_path, run_python):
    run_python(
        """
        import shutil
        from casket import Experiment
        for folder in ("a", "b"):
            session = Experiment.use(f"{folder}/runs.json", exp_id="e").model("m").session()
        shutil.rmtree("a")
        """.replace("import shutil", "import os, shutil; os.mkdir('a'); os.mkdir('b')")
    )
    with casket.open(tmp_path / "b" / "runs.json") as runs:
        assert [s.status for s in runs.sessions()] == ["completed"]


def test_an_adapter_ends_its_session_itself(tmp_path, run_python):
    run_python(
        """
        from casket import Experiment
        from casket_integrations.recorder import Recorder
        recorder = Recorder(Experiment.use("runs.json", exp_id="e").model("m"), {"lr": 1})
        recorder.start()
        recorder.epoch(1, {"loss": 1.0})
        """
    )
    with casket.open(tmp_path / "runs.json") as runs:
        (view,) = runs.sessions()
    assert (view.status, view.error) == ("failed", "the process ended during the training")


def test_params_that_this_process_has_open_are_refused_with_the_way_out(model):
    session = model.session({"lr": 1})
    with pytest.raises(ExistingParamsException, match=re.escape("session.end()")) as refused:
        model.session({"lr": 1})
    assert "This very process" in str(refused.value)
    session.end()
    with pytest.raises(ExistingParamsException) as refused:
        model.session({"lr": 1})
    assert "This very process" not in str(refused.value)


def test_a_kernel_that_is_shut_down_completes_its_session(tmp_path):
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))

    def run(code):
        shown = []
        reply = client.execute_interactive(
            code, timeout=PATIENCE, output_hook=lambda message: shown.append(message["content"])
        )
        return reply["content"]["status"], [each["evalue"] for each in shown if "evalue" in each]

    try:
        first = "from casket import Experiment\nmodel = Experiment.use('runs.json').model('m')"
        cell = "session = model.session({'lr': 1}); session.log({'loss': 1.0})"
        assert run(first) == run(cell) == ("ok", [])
        status, (message,) = run(cell)  # the cell is run again while the session is open
        assert status == "error"
        assert "end it with session.end()" in message
        assert run("raise ValueError") == ("error", [""])
        assert run("import sys; sys.exit(3)") == ("error", ["3"])
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
    with casket.open(tmp_path / "runs.json") as runs:
        assert [(s.status, s.error) for s in runs.sessions()] == [("completed", None)]


def test_sessions_of_an_interactive_shell_are_completed(tmp_path):
    code = """
    from casket import Experiment
    session = Experiment.use("runs.json", exp_id="e").model("m").session()
    1 / 0
    """
    subprocess.run(
        [sys.executable, "-i", "-q"], cwd=tmp_path, input=textwrap.dedent(code), text=True,
        check=True, capture_output=True, timeout=PATIENCE, env={**os.environ, "PYTHONSTARTUP": ""},
    )  # fmt: skip
    with casket.open(tmp_path / "runs.json") as runs:
        assert [s.status for s in runs.sessions()] == ["completed"]


def test_an_exit_that_somebody_wrapped_between_two_sessions_is_noted(tmp_path):
    code = """
import sys
from casket import Experiment
model = Experiment.use("runs.json", exp_id="e").model("m")
session = model.session({"way": "first"})
noting = sys.exit
sys.exit = lambda status=None: noting(status)
session.end()
session = model.session({"way": "second"})
sys.exit(3)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, check=False, timeout=PATIENCE)
    assert done.returncode == 3
    assert outcomes(tmp_path, "runs.json")["second"] == ("failed", "SystemExit: 3", 0)
