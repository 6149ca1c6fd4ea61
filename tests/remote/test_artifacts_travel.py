"""Artifacts go where the records go, through real servers and a network that fails."""

import base64
import contextlib
import io
import os
import random
import signal
import warnings

import pytest
from click.testing import CliRunner

import casket
from casket import Experiment
from casket.cli.app import app
from casket.errors import CasketWarning
from casket.format.files import CHUNK, Upload
from casket.stores.location import Location
from casket.stores.remote import files
from casket.stores.remote.cache import home
from casket.testing import CONTEXT, NOW, name_of, part_of
from tests.waiting import PATIENCE, eventually

LARGE = 6 * CHUNK + 17
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@contextlib.contextmanager
def another_machine(tmp_path, name="there"):
    """Work where nothing is known of what this machine has kept."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("STATE", "DATA", "CACHE"):
            patch.setenv(f"XDG_{kind}_HOME", str(tmp_path / name / kind))
        yield


def stored(url):
    """Return the names and sizes of the files in the store."""
    with contextlib.closing(Location.of(url).artifacts()) as folder:
        return {file.name: file.size for file in folder.stored.listed()}


def status(url):
    with casket.open(url) as runs:
        return [session.status for session in runs.sessions()]


def sync(url):
    with pytest.raises(SystemExit) as left:
        app(["sync", url])
    return left.value.code


def content(seed, size=LARGE):
    return random.Random(seed).randbytes(size)


def test_artifacts_are_loaded_on_another_machine(far, tmp_path):
    numpy = pytest.importorskip("numpy")
    model = Experiment.use(far.url, exp_id="digits").model("net")
    for seed in (1, 2):
        with model.session({"seed": seed, "grid": numpy.arange(200_000)}) as session:
            session.add_artifact("weights.bin", content("the same"))
            session.add_artifact("config.json", {"seed": seed})
    model.experiment.close()
    assert sorted(stored(far.url).values())[-1:] == [LARGE], "the same content is stored once"
    assert len(stored(far.url)) == 4
    with another_machine(tmp_path):
        with casket.open(far.url) as runs:
            sessions = runs.sessions()
            assert [session.status for session in sessions] == ["completed"] * 2
            assert [each.artifacts["config.json"].load()["seed"] for each in sessions] == [1, 2]
            assert sessions[0].params["grid"].sum() == 199_999 * 100_000
            path = sessions[0].artifacts["weights.bin"].path
        assert path.read_bytes() == content("the same")
        assert str(path).startswith(str(tmp_path / "there" / "CACHE"))
        # From the cache, and no connection is needed.
        assert sessions[1].artifacts["weights.bin"].path == path


def test_transfers_that_are_cut_several_times_go_on(far, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FIRST_PAUSE", 0.02)
    if far.kind == "mongo":  # SecantusDB may never answer the second attempt of a write
        monkeypatch.setattr("casket.stores.mongo.FILE_PATIENCE", 4.0)
    proxy, through = far.proxy()
    model = Experiment.use(through, exp_id="digits", flush_timeout=PATIENCE).model("net")
    with model.session({"seed": 1}) as session:
        session.add_epoch(1, {"loss": 1.0})
        proxy.cut_after(*(random.Random(7).randrange(CHUNK, 2 * CHUNK) for _ in range(4)))
        session.add_artifact("weights.bin", content(1))
    assert proxy.cuts_left == 0
    model.experiment.close()
    assert list(stored(far.url).values()) == [LARGE]
    with another_machine(tmp_path), casket.open(through) as runs:
        [session] = runs.sessions()
        assert session.status == "completed"
        proxy.cut_answers_after(3 * CHUNK)
        assert session.artifacts["weights.bin"].load() == content(1)
        assert proxy.cuts_left == 0


def test_an_end_waits_for_its_files_and_says_so(far, tmp_path):
    proxy, through = far.proxy()
    model = Experiment.use(through, exp_id="digits", flush_timeout=0.5).model("net")
    session = model.session({"seed": 1})
    session.add_epoch(1, {"loss": 1.0})
    proxy.fall_silent()
    session.add_artifact("weights.bin", content(1))
    with pytest.warns(CasketWarning, match="and 1 file wait"):
        session.end()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CasketWarning)
        model.experiment.close()
    proxy.speak()
    proxy.cut()
    assert status(far.url) == ["running"]
    # The thread of the closed handle may be within a request still, and keeps its file until then.
    eventually(lambda: sync(through) == 0)
    with another_machine(tmp_path), casket.open(far.url) as runs:
        [session] = runs.sessions()
        assert session.status == "completed"
        assert session.artifacts["weights.bin"].load() == content(1)


def upload(url):
    model = Experiment.use(url, exp_id="digits", flush_timeout=PATIENCE).model("net")
    with model.session({"seed": 1}) as session:
        session.add_artifact("weights.bin", content(1))


def test_a_process_killed_amid_an_upload_leaves_the_rest_to_the_next(far, tmp_path):
    proxy, through = far.proxy()
    Experiment.use(far.url, exp_id="digits").close()
    child = CONTEXT.Process(target=_in_environment, args=(dict(os.environ), upload, through))
    proxy.hold_after(3 * CHUNK)
    child.start()
    eventually(lambda: proxy.is_silent)
    os.kill(child.pid, signal.SIGKILL)
    child.join(PATIENCE)
    proxy.speak()
    assert all(name.startswith(".") for name in stored(far.url))
    assert sync(through) == 0
    assert list(stored(far.url).values()) == [LARGE]
    with another_machine(tmp_path), casket.open(far.url) as runs:
        [session] = runs.sessions()
        assert session.artifacts["weights.bin"].load() == content(1)


def _in_environment(environment, function, *arguments):
    os.environ.update(environment)
    function(*arguments)


def test_a_checkpoint_that_keeps_the_last_leaves_one_file(far, tmp_path):
    model = Experiment.use(far.url, exp_id="digits").model("net")
    with model.session({"seed": 1}) as session:
        for epoch in range(3):
            session.add_artifact("checkpoint", content(epoch, 1000), keep="last")
    model.experiment.close()
    eventually(lambda: sync(far.url) == 0 and len(stored(far.url)) == 1)
    with another_machine(tmp_path), casket.open(far.url) as runs:
        [artifact] = runs.sessions()[0].artifacts["checkpoint"].history
        assert artifact.load() == content(2, 1000)


def command(*arguments):
    """Run a command; return its exit code and output."""
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


# The contract of files shows that all stores answer alike.
@pytest.mark.parametrize("far", ["sftp", "postgres"], indirect=True)
def test_commands_know_the_files_of_a_far_store(far, tmp_path):
    model = Experiment.use(far.url, exp_id="digits").model("net")
    for seed in (1, 2):
        with model.session({"seed": seed}) as session:
            session.add_artifact("shared.txt", b"shared")
            session.add_artifact("own.txt", b"own of %d" % seed)
    model.experiment.close()
    assert command("doctor", far.url)[0] == 0
    target = tmp_path / "all.json"
    with another_machine(tmp_path):
        code, output = command("merge", far.url, "-o", str(target))
        assert code == 0, output
        assert "was not copied" not in output
        _remove_a_session_and_what_is_unused(far.url)
    with casket.open(target) as runs:
        assert [each.artifacts["own.txt"].load() for each in runs.sessions()] == [
            b"own of 1",
            b"own of 2",
        ]


def _remove_a_session_and_what_is_unused(url):
    code, output = command("rm", "--where", "params.seed == 1", "--yes", url)
    assert code == 0, output
    with casket.open(url) as runs:
        [session] = runs.sessions()
        assert len(stored(url)) == 2, "the shared content stays"
        own = session.artifacts["own.txt"]
        assert own.load() == b"own of 2"
    unused = Upload(name_of(b"unused"), 6, NOW, part_of(b"unused"))
    with contextlib.closing(Location.of(url).artifacts()) as folder:
        folder.stored.put(unused, io.BytesIO(b"unused"))
        assert "1 files are referred to by nothing" in command("doctor", url)[1]
        code, output = command("clean", "--artifacts", "--yes", url)
        assert code == 0, output
        assert unused.name not in stored(url)
        folder.stored.delete(own.file)
    code, output = command("doctor", url)
    assert code == 1
    assert f"artifact 'own.txt' of session {session.id} ({own.file}): it is missing" in output
    assert command("clean", "--cache", "--yes") == (0, "freed 22 bytes\n")
    with casket.open(url) as runs, pytest.raises(casket.NotFound, match="casket sync"):
        runs.sessions()[0].artifacts["own.txt"].load()


@pytest.mark.parametrize("far", ["postgres"], indirect=True)
def test_files_of_a_file_reach_a_far_store_by_merge(far, tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="digits").model("net")
    with model.session({"seed": 1}) as session:
        session.add_artifact("own.txt", b"own")
    assert command("merge", str(tmp_path / "runs.json"), "-o", far.url)[0] == 0
    with another_machine(tmp_path), casket.open(far.url) as runs:
        assert runs.sessions()[0].artifacts["own.txt"].load() == b"own"


def test_artifacts_of_blitzdb_lie_beside_its_folder(tmp_path):
    pytest.importorskip("blitzdb")
    url = f"blitz:{tmp_path / 'runs'}"
    model = Experiment.use(url, exp_id="digits").model("net")
    with model.session({"seed": 1}) as session:
        session.add_artifact("own.txt", b"own")
    model.experiment.close()
    with another_machine(tmp_path), casket.open(url) as runs:
        assert runs.sessions()[0].artifacts["own.txt"].path.parent == tmp_path / "runs.files"


@pytest.mark.parametrize("far", ["sftp"], indirect=True)
def test_the_page_and_the_report_fetch_images_and_nothing_else(far, tmp_path):
    pytest.importorskip("starlette")
    from casket.dashboard.answers.details import details
    from casket.dashboard.report import report

    model = Experiment.use(far.url, exp_id="digits").model("net")
    with model.session({"seed": 1}) as session:
        session.add_artifact("dot.png", PNG)
        session.add_artifact("weights.bin", content(1))
    model.experiment.close()
    with another_machine(tmp_path), casket.open(far.url) as runs:
        sessions = runs.sessions()
        image = base64.b64encode(PNG).decode()
        assert image in report("runs", runs.experiments, sessions, 100).decode()
        shown = details(sessions[0], "s", 0)["artifacts"]
        assert [bool(each.get("image")) for each in shown] == [True, False]
        fetched = list(home().glob("*/*"))
        assert [path.read_bytes() for path in fetched] == [PNG]
