"""`casket watch`: every event is reported once, by terminal, webhook, command or service."""

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

import casket
from casket import Experiment
from casket.cli import watch as module
from casket.cli.notify import Webhook
from casket.cli.watch import Outbox
from casket.reading.events import EVENT_KINDS, EventReader, has_diverged, silence_limit
from tests.stores.files import is_root, mounted
from tests.waiting import PATIENCE, eventually


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(module, "PAUSE", 0.0)
    return tmp_path / "state"


@pytest.fixture
def model(file_url):
    return Experiment.use(file_url, exp_id="exp").model("net")


class Hook(ThreadingHTTPServer):
    """A webhook on this machine.

    Attributes:
        answers: the codes of the next answers; 200 afterwards.
        events: the JSON of each request that was accepted.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answering)
        self.answers, self.events, self.requests = [], [], 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/secret"


class Answering(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        code = self.server.answers.pop(0) if self.server.answers else 200
        if code == 200:
            assert self.headers["Content-Type"] == "application/json"
            self.server.events.append(json.loads(body))
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hook():
    server = Hook()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fail(model, error="ValueError: bad", **params):
    session = model.session(params)
    session.end("failed", error=error)
    return session


def killed(file_url):
    """Log a session in a process that is killed; return its id."""
    code = """
import os, signal, sys
from casket import Experiment
session = Experiment.use(sys.argv[1], exp_id="exp").model("net").session({"k": 1})
session.add_epoch(1, {"loss": 0.5})
print(session.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, file_url], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    return done.stdout.strip()


def test_every_kind_of_event_is_reported_once(run, model, file_url):
    failed = fail(model, i=1)
    gone = killed(file_url)
    running = model.session({"i": 2})
    for epoch, loss in enumerate([1.0, 0.9, 0.8, 0.7, 99.0, 98.0, 97.0]):
        running.add_epoch(epoch, {"loss": loss, "grad": float("inf")})
    running.alert("look", "at this", level="info")
    events = [json.loads(line) for line in run("watch", file_url, "--once", "--json").splitlines()]
    assert {(each["event"], each["session"], each["title"], each["text"]) for each in events} == {
        ("failed", failed.id, "failed", "ValueError: bad"),
        ("killed", gone, "killed", ""),
        ("nan", running.id, "grad is inf", "at epoch 0"),
        ("diverged", running.id, "loss has diverged to 97 from 0.85", "at epoch 6"),
        ("alert", running.id, "look", "at this"),
    }
    assert all(
        (each["experiment"], each["model"], each["file"]) == ("exp", "net", file_url)
        for each in events
    )
    assert run("watch", file_url, "--once") == ""
    running.end("failed", error="KeyError: x")
    (line,) = run("watch", file_url, "--once").splitlines()
    assert line.endswith(f"{running.id[:8]} net failed KeyError: x")


def test_on_chooses_the_events(run, model, file_url):
    session = fail(model)
    model.session({"i": 1}).alert("look", level="error")
    lines = run("watch", file_url, "--once", "--on", "alert").splitlines()
    assert [line.rpartition(" net ")[2] for line in lines] == ["error look"]
    (line,) = run("watch", file_url, "--once", "--on", "failed,killed").splitlines()
    assert session.id[:8] in line
    assert "give some of nan,diverged" in run.error("watch", file_url, "--on", "faild")


def test_new_skips_what_happened_before(run, model, file_url):
    fail(model, i=1)
    assert run("watch", file_url, "--once", "--new") == ""
    assert run("watch", file_url, "--once") == ""
    fail(model, i=2)
    assert len(run("watch", file_url, "--once").splitlines()) == 1


def test_a_session_that_fails_again_is_an_event_again(run, model, file_url):
    fail(model)
    assert len(run("watch", file_url, "--once").splitlines()) == 1
    model.session(ensure_unique=False).end("failed", error="again")
    assert "again" in run("watch", file_url, "--once")


def test_a_webhook_gets_each_event_once_and_again_after_a_failure(run, model, file_url, hook):
    session = fail(model)
    hook.answers = [500, 503]
    run("watch", file_url, "--once", "--webhook", hook.url)
    assert hook.requests == 3
    assert [(each["event"], each["session"]) for each in hook.events] == [("failed", session.id)]
    run("watch", file_url, "--once", "--webhook", hook.url)
    assert hook.requests == 3


@pytest.mark.parametrize(
    ("code", "reason"), [(500, "500 Internal"), (302, "302 Found"), (404, "404")]
)
def test_a_webhook_that_refuses_is_named_without_its_secret(
    run, model, file_url, hook, code, reason
):
    fail(model)
    hook.answers = [code] * 3
    said = run.warned("watch", file_url, "--once", "--webhook", hook.url, code=1)
    assert said.count(f"warning: webhook 127.0.0.1: answered {reason}") == 1
    assert "1 event waiting" in said
    assert "secret" not in said
    run("watch", file_url, "--once", "--webhook", hook.url)
    assert len(hook.events) == 1


def test_a_webhook_that_is_not_there(run, model, file_url, hook):
    fail(model)
    said = run.warned("watch", file_url, "--once", "--webhook", "http://127.0.0.1:9/x", code=1)
    assert "Connection refused" in said
    assert "http://" in run.error("watch", file_url, "--webhook", "file:///etc/passwd")


def test_a_command_gets_the_event_and_no_shell_reads_it(run, model, file_url, tmp_path):
    fail(model, error="$(touch pwned); `touch pwned` ' \" \x00\x1b | x")
    script = tmp_path / "a script.py"
    script.write_text(
        "import json, os, sys\n"
        "event = json.load(sys.stdin)\n"
        "named = {k: v for k, v in os.environ.items() if k.startswith('CASKET_EVENT')}\n"
        "json.dump([event, named, sys.argv[1:]], open(sys.argv[1], 'w'))\n"
    )
    out = tmp_path / "out.json"
    command = f"{sys.executable} '{script}' {out} '$HOME'"
    run("watch", file_url, "--once", "--command", command)
    event, named, arguments = json.loads(out.read_text())
    assert event["text"] == "$(touch pwned); `touch pwned` ' \" ␀␛ | x"
    assert named.pop("CASKET_EVENT") == "failed"
    assert {name.removeprefix("CASKET_EVENT_").lower(): text for name, text in named.items()} == {
        name: text for name, text in event.items() if name != "event"
    }
    assert arguments == [str(out), "$HOME"]
    out.unlink()
    run("watch", file_url, "--once", "--command", command)
    assert not out.exists()


def test_a_command_that_fails_is_said_and_run_again(run, model, file_url):
    fail(model)
    said = run.warned("watch", file_url, "--once", "--command", "false", code=1)
    assert said.count("command false: exited with code 1") == 1
    said = run.warned("watch", file_url, "--once", "--command", "/no/such/thing", code=1)
    assert "No such file" in said
    assert "No closing quotation" in run.error("watch", file_url, "--command", "a 'b")
    assert "give a command" in run.error("watch", file_url, "--command", " ")


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
def test_apprise_sends_each_event_once(run, model, file_url, hook):
    pytest.importorskip("apprise")
    session = fail(model)
    service = hook.url.replace("http", "json")
    for _ in range(2):
        run("watch", file_url, "--once", "--apprise", service)
    (event,) = hook.events
    assert event["title"] == "failed: failed"
    assert event["message"] == f"ValueError: bad\nexp / net {session.id[:8]}"
    assert event["type"] == "failure"
    assert "does not know" in run.error("watch", file_url, "--apprise", "nosuch://x")


def test_apprise_has_an_extra(run_python, model, file_url):
    fail(model)
    code = """
        import sys
        from click.testing import CliRunner
        from casket.cli.app import app
        arguments = ["watch", sys.argv[1], "--once", "--apprise", "json://127.0.0.1"]
        result = CliRunner().invoke(app, arguments)
        print(result.exit_code, result.stderr.strip())
    """
    assert run_python(code, file_url, without=("apprise",)) == (
        "2 Error: apprise is not installed: pip install 'casket[watch]'"
    )


def test_state_that_cannot_be_written_does_not_end_the_watch(run, model, file_url, state):
    fail(model)
    state.write_text("a file where the folder would be")
    said = run.warned("watch", file_url, "--once")
    assert "events may be reported again" in said
    assert "failed ValueError" in run("watch", file_url, "--once")


@pytest.mark.skipif(not is_root(), reason="only root may mount a small disk")
def test_a_disk_that_is_full_at_the_commit_does_not_end_the_watch(state, hook, capsys):
    state.mkdir()
    long = "x" * 40_000  # it makes the record grow when it is committed
    first, second = (("s", "nan", f"{name}{long}") for name in "ab")
    with mounted(state, "size=1m"):
        outbox = Outbox("runs.json", Webhook(hook.url))
        outbox.note(("s", "failed", ""))
        fill_disk(state, room=24 * 1024)
        for _ in range(2):
            outbox.add([(first, {"event": "first"}), (second, {"event": "second"})])
            assert outbox.deliver()
        assert [event["event"] for event in hook.events] == ["first", "second"]
        assert "full; events may be reported again" in capsys.readouterr().err
        (state / "filling").unlink()
        for _ in range(2):  # the restart is told again, and records it
            restarted = Outbox("runs.json", Webhook(hook.url))
            restarted.add([(first, {"event": "first"})])
            assert restarted.deliver()
            assert len(hook.events) == 3


def fill_disk(disk, room):
    """Leave a number of bytes free."""
    filling = disk / "filling"
    with suppress(OSError), filling.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    os.truncate(filling, filling.stat().st_size - room)


def test_a_damaged_state_is_named(run, model, file_url, state):
    fail(model)
    run("watch", file_url, "--once")
    (path,) = state.rglob("*.sqlite")
    path.write_bytes(b"no database" * 100)
    assert f"{path}: file is not a database; remove the file" in run.error(
        "watch", file_url, code=1
    )


def test_watches_at_once_deliver_each_event_once(file_url, hook):
    notices = [(("session", "failed", str(i)), {"event": "failed"}) for i in range(5)]
    outboxes = [Outbox(file_url, Webhook(hook.url)) for _ in range(4)]
    for outbox in outboxes:
        outbox.add(notices)
    with ThreadPoolExecutor() as pool:
        assert all(pool.map(Outbox.deliver, outboxes))
    assert len(hook.events) == 5


def test_a_watch_follows_a_file_until_it_is_ended(model, file_url, hook, tmp_path):
    """What happens while it runs is reported, also a kill; it survives a hook that is down."""
    model.session({"first": 1})
    hook.answers = [500]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "casket.cli.app", "watch", file_url, "--every", "0.1"),
            *("--webhook", hook.url, "--json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        fail(model, i=1)
        assert json.loads(process.stdout.readline())["event"] == "failed"
        gone = killed(file_url)
        assert json.loads(process.stdout.readline())["session"] == gone
        eventually(lambda: len(hook.events) == 2)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM
    assert "answered 500" in said
    assert [each["event"] for each in hook.events] == ["failed", "killed"]


def events_of(model, kinds=EVENT_KINDS, now=None):
    with casket.open(str(model.backend.location)) as runs:
        return [(e.kind, e.title) for e in EventReader(runs.reader, kinds).read_on(now)]


def test_a_running_session_is_stalled_after_ten_times_its_usual_interval(file_url):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    session = model.session()
    began = datetime.now(UTC)

    def logged(minutes, count):
        start = (began - timedelta(minutes=minutes * count)).timestamp()
        session.add_batches(
            (n, {"loss": 1.0}, None, start + n * 60 * minutes) for n in range(count)
        )

    logged(2, 5)
    (view,) = model.sessions()
    assert silence_limit(view) == timedelta(minutes=20)
    later = view.last_seen + timedelta(minutes=19)
    assert events_of(model, now=later) == []
    later = view.last_seen + timedelta(minutes=21)
    assert events_of(model, now=later) == [("stalled", "stalled")]
    assert events_of(model, kinds=["failed"], now=later) == []
    session.end()
    assert events_of(model, now=later) == []


def test_short_intervals_have_ten_minutes_and_unknown_ones_no_limit(memory):
    session = memory.session()
    session.add_epoch(1, {"loss": 1.0})
    assert silence_limit(memory.sessions()[0]) is None
    session.add_epoch(2, {"loss": 1.0})
    assert silence_limit(memory.sessions()[0]) == timedelta(minutes=10)
    session.end()


@pytest.mark.parametrize(
    ("recent", "earlier", "expected"),
    [
        ([11, 12, 13], [1, 1, 1], True),
        ([9, 10, 10], [1, 1, 1], False),
        ([100, 1, 1], [1, 1, 1], False),  # a single spike
        ([1e-4, 1e-4, 1e-4], [2.0**-n for n in range(20)], False),  # noise at the end of a descent
        ([50, 60, 70], [2.0**-n for n in range(20)], True),
        ([11, 12, 13], [1, 1], False),
        ([11, 12, float("nan")], [1, 1, 1], False),
        ([-1, -1, -1], [-100, -100, -100], False),
    ],
)
def test_a_metric_has_diverged_far_above_its_median(recent, earlier, expected):
    assert has_diverged(recent, earlier) is expected


def test_only_metrics_that_fall_diverge_and_any_metric_may_be_nan(memory, file_url):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    with model.session() as session:
        for epoch, value in enumerate([1.0, 1.0, 1.0, 50.0, 50.0, 50.0]):
            session.add_epoch(epoch, {"accuracy": value, "step": value, "val_loss": value})
        session.add_batch(1, {"x": float("nan"), "y": 1})
        session.add_result({"z": -float("inf")}, index_by="test")
    assert events_of(model) == [
        ("diverged", "val_loss has diverged to 50 from 1"),
        ("nan", "x is nan"),
        ("nan", "z is -inf"),
    ]


def test_only_sessions_with_new_records_are_looked_at(memory, monkeypatch, file_url):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    for i in range(3):
        fail(model, i=i)
    with casket.open(file_url) as runs:
        events = EventReader(runs.reader, EVENT_KINDS)
        assert len(events.read_on()) == 3
        assert events.read_on() == []
        fail(model, i=3)
        assert len(events.read_on()) == 1


def test_a_refused_event_does_not_hold_up_the_others(model, file_url, hook):
    for i in range(3):
        fail(model, f"ValueError: {i}", i=i)
    hook.answers = [503, 500]
    receiver = module.Webhook(hook.url)
    with casket.open(file_url) as runs:
        outbox = module.Outbox(file_url, receiver)
        outbox.add(module._notices(EventReader(runs.reader, EVENT_KINDS).read_on(), file_url))
    assert not outbox.deliver()
    assert (hook.events, hook.requests) == ([], 1)
    assert not outbox.deliver()
    assert [event["text"] for event in hook.events] == ["ValueError: 1", "ValueError: 2"]
    assert outbox.deliver()
    assert hook.events[-1]["text"] == "ValueError: 0"


@pytest.mark.parametrize(
    "option", [("--webhook", "http://[bad"), ("--every", "nan"), ("--every", "inf")]
)
def test_options_that_cannot_be_used_are_refused(file_url, option):
    done = CliRunner().invoke(module.watch, [file_url, *option])
    assert done.exit_code == 2
    assert option[0] in done.output


def test_long_names_are_cut(file_url):
    fail(Experiment.use(file_url, exp_id="e" * 5_000).model("m" * 5_000))
    with casket.open(file_url) as runs:
        ((_, notice),) = module._notices(EventReader(runs.reader, EVENT_KINDS).read_on(), file_url)
    assert max(map(len, notice.values())) <= module.LONGEST_TITLE
