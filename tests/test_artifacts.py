"""Artifacts: storable values, their names, and reading them."""

import hashlib
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
from click.testing import CliRunner

import casket
from casket import Experiment, StoreUnavailable, UnstorableValue
from casket.cli.app import app
from casket.format.artifacts import ArtifactFolder
from casket.maintenance.merging import FileCarrier
from casket.system import origin
from tests.checksums import without_checksums
from tests.waiting import eventually

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def keep(model):
    """Add an artifact to a store of every kind; return a reader's view of it."""

    def keep(name, source):
        with model.session(ensure_unique=False) as session:
            session.add_artifact(name, source)
        return model.sessions()[-1].artifacts[name]

    return keep


@pytest.fixture
def files(model):
    """The files kept beside the store."""

    def files():
        folder = model.backend.files.path
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    return files


@pytest.fixture
def figure():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2, 3])
    return figure


@pytest.fixture
def chart():
    graph_objects = pytest.importorskip("plotly.graph_objects")
    return graph_objects.Figure(graph_objects.Scatter(y=[1, 2, 3]))


# Files and bytes.


@pytest.mark.parametrize("path_type", [Path, str])
def test_a_file_is_copied(keep, tmp_path, path_type):
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights")
    artifact = keep("best", path_type(source))
    source.write_bytes(b"later")
    assert artifact.path.read_bytes() == artifact.load() == b"weights"
    assert artifact.path.suffix == ".onnx"
    assert artifact.path != source


def test_artifacts_of_a_store_in_memory_are_removed_by_its_own_process(run_python, tmp_path):
    code = """
    import os, sys, tempfile
    from pathlib import Path
    from casket import Experiment
    model = Experiment.use(":memory:", exp_id="exp").model("net")
    folder = Path(tempfile.gettempdir())
    with model.session({}) as session:
        session.add_epoch(1, {"loss": 0.5})
        assert not list(folder.iterdir())
        session.add_artifact("a.txt", b"a")
    (kept,) = folder.iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    if os.fork() == 0:
        sys.exit()
    os.wait()
    assert model.sessions()[0].artifacts["a.txt"].load() == b"a"
    """
    run_python(code, TMPDIR=str(tmp_path), CASKET_CAPTURE="")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_bytes_are_kept(keep, make):
    assert keep("raw.bin", make(b"\0\xff")).load() == b"\0\xff"


def test_an_artifact_tells_what_it_is(keep):
    artifact = keep("report.html", b"<html>")
    assert artifact.name == "report.html"
    assert artifact.size == 6
    assert artifact.sha256 == hashlib.sha256(b"<html>").hexdigest()
    assert artifact.media_type == "text/html"
    assert artifact.serializer is None
    assert artifact.path.suffix == ".html"


def test_an_artifact_of_no_known_type_is_a_stream_of_bytes(keep):
    assert keep("weights.xyzzy", b"1").media_type == "application/octet-stream"


def test_the_same_content_is_one_file(keep, files, tmp_path):
    (tmp_path / "copy.txt").write_bytes(b"same")
    paths = {keep("a.txt", b"same").path, keep("b.txt", tmp_path / "copy.txt").path}
    assert len(paths) == len(files()) == 1


def test_content_that_is_there_is_not_written_again(keep):
    artifact = keep("a.txt", b"same")
    before = artifact.path.stat().st_ino
    assert keep("a.txt", b"same").path.stat().st_ino == before


def test_a_large_file_is_kept_whole(keep, tmp_path):
    content = np.random.default_rng(0).bytes(5 << 20)
    (tmp_path / "large.bin").write_bytes(content)
    artifact = keep("large.bin", tmp_path / "large.bin")
    assert artifact.load() == content
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()


def test_an_empty_file_is_kept(keep):
    assert keep("empty.txt", b"").load() == b""


def test_a_name_used_again_shows_the_last(model, files):
    with model.session() as session:
        session.add_artifact("best.txt", b"first")
        session.add_artifact("best.txt", b"second")
    (view,) = model.sessions()
    assert list(view.artifacts) == ["best.txt"]
    assert view.artifacts["best.txt"].load() == b"second"
    assert len(files()) == 2


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/etc/passwd",
        "a/b.png",
        "..",
        ".hidden",
        "",
        "no suffix",
        "x" * 5000,
        "x." + "y" * 5000,
        "grün 🎉.txt",
        "a.b c",
        "a.b:c",
        "nul\0.t\0t",
        "C:\\x.txt",
        "line\nbreak",
    ],
)
def test_a_name_is_only_a_label(keep, files, tmp_path, name):
    before = set(tmp_path.rglob("*"))
    assert keep(name, b"content").load() == b"content"
    assert len(files()) == 1
    made = {path.name for path in set(tmp_path.rglob("*")) - before}
    assert made <= {"runs.json", "runs.sqlite", "runs.sqlite-wal", "runs.sqlite-shm", *files()} | {
        "runs.json.files",
        "runs.sqlite.files",
    }


@pytest.mark.parametrize("name", [5, None, b"x", Path("x")])
def test_a_name_that_is_no_text_is_refused(model, files, name):
    with model.session() as session, pytest.raises(UnstorableValue, match="name"):
        session.add_artifact(name, b"")
    assert files() == []


def test_a_name_that_is_not_unicode_is_refused(model, files):
    with model.session() as session:
        for options in ({}, {"keep": "last"}):
            with pytest.raises(UnstorableValue, match="name"):
                session.add_artifact("\ud800", b"", **options)
    assert files() == []


# Refused artifacts.


@pytest.mark.parametrize("source", ["missing.txt", "x" * 5000, "nul\0", "some text\nwith lines"])
def test_a_source_that_does_not_exist_is_named(model, files, source):
    with model.session() as session, pytest.raises(StoreUnavailable) as refused:
        session.add_artifact("a", source)
    assert source[:100] in str(refused.value)  # a message is never longer than 2,000 characters
    assert "bytes" in str(refused.value)
    assert isinstance(refused.value, OSError)
    assert files() == []
    assert model.sessions()[0].artifacts == {}


class Stubborn:
    def __reduce__(self):
        raise RuntimeError("not me")


@pytest.mark.parametrize(
    "source",
    [lambda: 1, threading.Lock(), (i for i in "a"), Stubborn(), sys],
    ids=lambda source: type(source).__name__,
)
def test_an_object_that_cannot_be_pickled_is_refused_by_name(model, files, source):
    with model.session() as session, pytest.raises(UnstorableValue, match=r"my\.thing"):
        session.add_artifact("my.thing", source)
    assert files() == []
    assert model.sessions()[0].artifacts == {}


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    (tmp_path / "runs.json.files").write_text("in the way")
    with model.session() as session, pytest.raises(StoreUnavailable, match=r"runs\.json\.files"):
        session.add_artifact("a", b"1")


# Figures and pictures.


def start_of(artifact):
    return artifact.path.read_bytes()[:200]


@pytest.mark.parametrize(
    ("name", "suffix", "start"),
    [
        ("curve", ".png", PNG),
        ("curve.png", ".png", PNG),
        ("curve.PNG", ".png", PNG),
        ("curve.svg", ".svg", b"<?xml"),
        ("curve.pdf", ".pdf", b"%PDF"),
        ("curve of lr_0.01", ".png", PNG),
    ],
)
def test_a_matplotlib_figure_is_a_picture_of_the_kind_its_name_says(
    memory_keep, figure, name, suffix, start
):
    artifact = memory_keep(name, figure)
    assert artifact.path.suffix == suffix
    assert start_of(artifact).startswith(start)
    assert artifact.load() == artifact.path.read_bytes()


def test_a_matplotlib_figure_of_pyplot_is_kept(keep):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    plt.plot([1, 2])
    assert keep("curve.png", plt.gcf()).media_type == "image/png"
    plt.close()


@pytest.fixture
def memory_keep(memory):
    def keep(name, source):
        with memory.session(ensure_unique=False) as session:
            session.add_artifact(name, source)
        return memory.sessions()[-1].artifacts[name]

    return keep


@pytest.mark.parametrize("name", ["chart", "chart.html", "chart of lr_0.01"])
def test_a_plotly_figure_is_a_page_that_needs_no_network(memory_keep, chart, name):
    artifact = memory_keep(name, chart)
    page = artifact.path.read_text(encoding="utf-8")
    assert artifact.path.suffix == ".html"
    assert artifact.media_type == "text/html"
    assert "<script src=" not in page
    assert "Plotly.newPlot" in page
    assert len(page) > 1_000_000


def test_a_plotly_figure_named_json_is_json(memory_keep, chart):
    assert memory_keep("chart.json", chart).path.read_bytes().startswith(b'{"data":[{')


def test_a_plotly_picture_without_kaleido_says_what_to_do(run_python):
    pytest.importorskip("plotly")
    message = run_python(
        """
        import plotly.graph_objects as go
        import casket
        model = casket.Experiment.use("runs.json", exp_id="exp").model("net")
        with model.session() as session:
            try:
                session.add_artifact("chart.png", go.Figure())
            except casket.CasketError as error:
                print(error)
        """,
        without=("kaleido",),
    )
    assert "chart.png" in message
    assert "pip install kaleido" in message
    assert ".html" in message


@pytest.mark.parametrize(
    ("name", "suffix", "start"),
    [
        ("picture", ".png", PNG),
        ("picture.jpg", ".jpg", b"\xff\xd8"),
        ("picture.lr_0.1", ".png", PNG),
    ],
)
def test_a_pillow_image_is_a_picture_of_the_kind_its_name_says(memory_keep, name, suffix, start):
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 3), "red")
    artifact = memory_keep(name, image)
    assert artifact.path.suffix == suffix
    assert start_of(artifact).startswith(start)


def test_a_picture_its_format_cannot_hold_is_refused_by_name(memory_keep):
    image = pytest.importorskip("PIL.Image").new("RGBA", (4, 3))
    with pytest.raises(UnstorableValue, match=r"picture\.jpg.*RGBA"):
        memory_keep("picture.jpg", image)


# Arrays and objects.


@pytest.mark.parametrize("name", ["a.npy", "a.NPY"])
def test_an_array_named_npy_is_one_of_numpys_files(keep, name):
    array = np.arange(6, dtype="float32").reshape(2, 3)
    artifact = keep(name, array)
    loaded = artifact.load()
    assert artifact.serializer is None
    assert loaded.dtype == array.dtype
    assert np.array_equal(loaded, array)
    assert np.array_equal(np.load(artifact.path), array)


def test_a_file_named_npy_is_loaded_as_an_array(keep):
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    assert keep("a.npy", buffer.getvalue()).load().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("model.joblib", ".joblib"),
        ("model.pkl", ".pkl"),
        ("model", ".joblib"),
        ("model.v2", ".joblib"),
        ("table.csv", ".joblib"),
    ],
)
def test_an_object_is_kept_by_joblib(keep, name, suffix):
    artifact = keep(name, {"weights": np.arange(3), "name": "svm"})
    assert artifact.serializer == "joblib"
    assert artifact.path.suffix == suffix
    assert artifact.load()["weights"].tolist() == [0, 1, 2]
    assert joblib.load(artifact.path)["name"] == "svm"


@pytest.mark.parametrize("source", [None, 5, [1, 2], np.arange(3), {"a": 1}])
def test_any_object_is_loaded_as_it_was(memory_keep, source):
    assert np.array_equal(memory_keep("thing", source).load(), source)


def test_without_joblib_an_object_is_pickled(run_python, tmp_path):
    script = """
        import casket
        model = casket.Experiment.use("runs.json", exp_id="exp").model("net")
        with model.session() as session:
            session.add_artifact("model", {"a": [1]})
        artifact = model.sessions()[0].artifacts["model"]
        print(artifact.serializer, artifact.path.suffix, artifact.load())
    """
    assert run_python(script, without=("joblib",)) == "pickle .pkl {'a': [1]}"
    with casket.open(tmp_path / "runs.json") as runs:
        artifact = runs.sessions()[0].artifacts["model"]
    assert artifact.load() == pickle.loads(artifact.path.read_bytes()) == {"a": [1]}


def test_loading_without_joblib_says_what_to_install(run_python, tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact("model", {"a": 1})
    message = run_python(
        """
        import casket
        try:
            casket.open("runs.json").sessions()[0].artifacts["model"].load()
        except casket.MissingDependency as error:
            print(error)
        """,
        without=("joblib",),
    )
    assert "joblib" in message
    assert "pip install 'casket[" in message


@pytest.mark.parametrize(
    ("library", "name", "source"),
    [("joblib", "object", "{}"), ("kaleido", "chart.png", "plotly.graph_objects.Figure()")],
)
def test_a_library_that_is_broken_shows_its_own_error(run_python, tmp_path, library, name, source):
    pytest.importorskip("plotly")
    (tmp_path / f"{library}.py").write_text("import a_part_that_is_missing")
    message = run_python(f"""
        import sys
        sys.path.insert(0, "")
        import plotly.graph_objects
        import casket
        with casket.Experiment.use(":memory:").model("net").session() as session:
            try:
                session.add_artifact({name!r}, {source})
            except ImportError as error:
                print(error)
    """)
    assert message == "No module named 'a_part_that_is_missing'"


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_unpickled_unasked(url, tmp_path):
    touched = tmp_path / "touched"
    experiment = Experiment.use(url, exp_id="exp")
    with experiment.model("net").session() as session:
        session.add_artifact("trap", Marker(touched))
        session.add_artifact("trap.npy", joblib_bytes(Marker(touched)))
    (view,) = experiment.sessions(where="status == 'completed'")
    repr(view), view.summary(), view.last, experiment.to_pandas()
    trap, trap_npy = view.artifacts.values()
    assert trap.path.exists()
    with pytest.raises(ValueError, match="pickle"):
        trap_npy.load()
    assert not touched.exists()
    trap.load()
    assert touched.exists()
    experiment.close()


def joblib_bytes(value):
    buffer = io.BytesIO()
    joblib.dump(value, buffer)
    return buffer.getvalue()


# Later failures.


def test_an_artifact_whose_file_is_gone_is_named(file_url):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact("a.txt", b"1")
    with casket.open(file_url) as runs:
        artifact = runs.sessions()[0].artifacts["a.txt"]
        artifact.path.unlink()
        artifact.folder.path.rmdir()
        (view,) = runs.sessions()
        assert view.artifacts["a.txt"].size == 1
        for use in (artifact.load, lambda: artifact.path):
            with pytest.raises(casket.NotFound) as gone:
                use()
            assert f"{Path(file_url).name}.files" in str(gone.value)
            assert artifact.sha256 in str(gone.value)


def test_a_copy_that_is_interrupted_leaves_no_half_file(tmp_path):
    source = tmp_path / "large.bin"
    with source.open("wb") as file:
        file.truncate(8 << 30)  # holes: no room is taken
    code = """
import sys, casket
model = casket.Experiment.use("runs.json", exp_id="exp").model("net")
with model.session() as session:
    session.add_artifact("large.bin", sys.argv[1])
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(source)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    folder = tmp_path / "runs.json.files"
    try:
        eventually(lambda: any(path.stat().st_size > 1 << 20 for path in folder.glob(".*.tmp")))
        assert child.poll() is None
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert all(path.name.startswith(".") for path in folder.iterdir())
    with casket.open(tmp_path / "runs.json") as runs:
        (view,) = runs.sessions()
        assert view.status == "killed"
        assert view.artifacts == {}


def test_several_processes_keep_the_same_content_at_once(tmp_path):
    code = """
import sys, casket
model = casket.Experiment.use("runs.json", exp_id="exp").model("net")
for number in range(20):
    with model.session({"n": number, "p": sys.argv[1]}) as session:
        session.add_artifact("same.bin", bytes([number]) * 1000)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(i)], cwd=tmp_path, env=environment)
        for i in range(3)
    ]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert len(list((tmp_path / "runs.json.files").iterdir())) == 20
    with casket.open(tmp_path / "runs.json") as runs:
        for view in runs.sessions():
            assert view.artifacts["same.bin"].load() == bytes([view.params["n"]]) * 1000


def test_a_forged_record_reads_no_file_elsewhere(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact("a.txt", b"1")
    text = (tmp_path / "runs.json").read_text()
    (file,) = (tmp_path / "runs.json.files").iterdir()
    (tmp_path / "runs.json").write_text(without_checksums(text.replace(file.name, "../secret.txt")))
    with casket.open(tmp_path / "runs.json") as runs, pytest.raises(casket.NotFound):
        runs.sessions()[0].artifacts["a.txt"].load()


# Foreign files in the folder.


@pytest.fixture
def stored(tmp_path):
    """A session with an artifact and a large array; their folder, and a file elsewhere."""
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact("a.txt", b"kept")
        session.add_result({"array": np.zeros(100_000)})
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    return model, tmp_path / "runs.json.files", secret


def by_link(path, secret):
    path.symlink_to(secret)


def by_pipe(path, secret):
    os.mkfifo(path)


@pytest.mark.parametrize("replace", [by_link, by_pipe])
def test_what_replaces_a_stored_file_is_never_opened(stored, tmp_path, replace):
    model, folder, secret = stored
    for path in list(folder.iterdir()):
        path.unlink()
        replace(path, secret)
    (view,) = model.sessions()
    with pytest.raises(casket.NotFound, match="put the stored file there again"):
        _ = view.artifacts["a.txt"].path
    with pytest.raises(casket.NotFound):
        view.artifacts["a.txt"].load()
    with pytest.raises(casket.NotFound):
        view.results()
    carry = FileCarrier(model.backend.files, ArtifactFolder(tmp_path / "merged.files"))
    for _, record in model.backend.store.records():
        carry(record)
    assert sorted(carry.problems) == sorted(path.name for path in folder.iterdir())
    assert not (tmp_path / "merged.files").exists()
    diagnosis = CliRunner().invoke(app, ["doctor", str(tmp_path / "runs.json")])
    assert diagnosis.exit_code == 1
    assert diagnosis.output.count("not followed" if replace is by_link else "missing") >= 2


def test_changed_content_is_not_loaded(stored):
    model, folder, _ = stored
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    (view,) = model.sessions()
    with pytest.raises(casket.StoreUnavailable, match="has changed"):
        view.artifacts["a.txt"].load()
    with pytest.raises(casket.StoreUnavailable, match="has changed"):
        view.results()


def test_a_link_of_the_name_of_an_artifact_is_replaced_by_its_content(stored):
    model, folder, secret = stored
    path = next(path for path in folder.iterdir() if path.suffix == ".txt")
    path.unlink()
    secret.write_text("kept")
    path.symlink_to(secret)
    with model.session({"again": 1}) as session:
        session.add_artifact("a.txt", b"kept")
    assert not path.is_symlink()
    assert path.read_bytes() == b"kept"


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_content_that_is_stored_is_hashed_and_not_copied(tmp_path, size):
    folder = ArtifactFolder(tmp_path / "files")
    source = tmp_path / "weights.bin"
    source.write_bytes(bytes(size))
    first = folder.put("a.bin", source)
    before = folder.path.stat().st_mtime_ns
    assert folder.put("b.bin", source)["file"] == first["file"]
    assert folder.put("b.bin", bytes(size))["file"] == first["file"]
    # A copy would have created a temporary file.
    assert folder.path.stat().st_mtime_ns == before
    assert folder.put("b.bin", b"x" * size)["file"] != first["file"]


# Pickles of others.


@pytest.mark.parametrize("name", ["model.joblib", "model.pkl", "model"])
def test_a_pickle_of_another_machine_is_loaded_on_request_only(
    file_url, tmp_path, monkeypatch, name
):
    model = Experiment.use(file_url, exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact(name, {"weights": [1, 2]})
        session.add_artifact("a.npy", np.arange(3))
        session.add_artifact("a.txt", b"text")
    assert model.sessions()[0].artifacts[name].load() == {"weights": [1, 2]}
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "of another machine"))
    artifacts = model.sessions()[0].artifacts
    with pytest.raises(casket.UntrustedArtifact, match=r"load\(trusted=True\)") as refused:
        artifacts[name].load()
    assert str(artifacts[name].path) in str(refused.value)
    assert isinstance(refused.value, ValueError)
    assert artifacts[name].load(trusted=True) == {"weights": [1, 2]}
    assert artifacts["a.npy"].load().tolist() == [0, 1, 2]
    assert artifacts["a.txt"].load() == b"text"


def test_a_signature_holds_for_its_own_content_only(tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact("mine", {"weights": [1, 2]})
    touched = tmp_path / "touched"
    trap = pickle.dumps(Marker(touched))
    digest = hashlib.sha256(trap).hexdigest()
    text = (tmp_path / "runs.json").read_text()
    (file,) = (tmp_path / "runs.json.files").iterdir()
    (file.parent / f"{digest}{file.suffix}").write_bytes(trap)
    (tmp_path / "runs.json").write_text(without_checksums(text.replace(file.stem, digest)))
    with casket.open(tmp_path / "runs.json") as runs, pytest.raises(casket.UntrustedArtifact):
        runs.sessions()[0].artifacts["mine"].load()
    assert not touched.exists()


def test_the_key_of_a_user_is_made_once_and_for_them_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        signatures = set(pool.map(origin.sign, ["0" * 64] * 32))
    assert len(signatures) == 1
    assert [path.name for path in (tmp_path / "casket").iterdir()] == ["key"]
    assert (tmp_path / "casket" / "key").stat().st_mode & 0o777 == 0o600


def test_without_a_place_for_the_key_pickles_are_stored_and_nothing_is_trusted(
    tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact("model", {"weights": [1, 2]})
    artifact = model.sessions()[0].artifacts["model"]
    with pytest.raises(casket.UntrustedArtifact):
        artifact.load()
    assert artifact.load(trusted=True) == {"weights": [1, 2]}
