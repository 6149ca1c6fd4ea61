"""Artifacts of each kind, read back; folders, steps, and the history that is kept."""

import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression

import casket
from casket import CasketError, Experiment, StoreUnavailable, UnstorableValue
from casket.cli.app import app
from casket.maintenance.doctor import examine
from casket.stores.location import Location
from tests.checksums import without_checksums
from tests.waiting import eventually

STORES = ["runs.json", "runs.sqlite"]
FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.1, 0.2]})
INDEXED = FRAME.set_index(pd.MultiIndex.from_tuples([("r", 1), ("s", 2)], names=["k", "n"]))
STRUCTURE = {"lr": 0.1, "sizes": [1, 2], "größe": {"nan": None}, "$key": "ü"}


def same_frame(one, other):
    pd.testing.assert_frame_equal(one, other)
    return True


KINDS = {
    "text.md": ({"text": "größe\n"}, "text/markdown", "größe\n"),
    "frame.csv": (FRAME, "text/csv", lambda it: same_frame(it, FRAME)),
    "indexed.csv": (INDEXED, "text/csv", lambda it: same_frame(it, INDEXED)),
    "frame.parquet": (
        INDEXED,
        "application/vnd.apache.parquet",
        lambda it: same_frame(it, INDEXED),
    ),
    "polars.csv": (pl.from_pandas(FRAME), "text/csv", pl.from_pandas(FRAME).equals),
    "polars.parquet": (
        pl.from_pandas(FRAME),
        "application/vnd.apache.parquet",
        pl.from_pandas(FRAME).equals,
    ),
    "dict.json": (STRUCTURE, "application/json", STRUCTURE),
    "list.json": ([1, np.float32(0.1), (2,)], "application/json", [1, 0.1, [2]]),
    "dict.yaml": (STRUCTURE, "application/yaml", STRUCTURE),
    "config.yml": (SimpleNamespace(lr=0.1), "application/yaml", {"lr": 0.1}),
    "arrays.npz": (
        {"a": np.arange(3)},
        "application/octet-stream",
        lambda it: it["a"].tolist() == [0, 1, 2],
    ),
    "array.npy": (np.eye(2), "application/octet-stream", lambda it: np.array_equal(it, np.eye(2))),
    "stream": (lambda: io.BytesIO(b"\0bytes"), "application/octet-stream", b"\0bytes"),
    "estimator.skops": (
        LogisticRegression(C=3).fit([[0], [1]], [0, 1]),
        "application/octet-stream",
        lambda it: it.predict([[0], [1]]).tolist() == [0, 1],
    ),
    "estimator": (
        LogisticRegression(C=3),
        "application/octet-stream",
        lambda it: it.get_params()["C"] == 3,
    ),
}


@pytest.fixture(scope="module", params=STORES)
def kinds(request, tmp_path_factory):
    """The view of a session with an artifact of each kind, and the location of its store."""
    path = tmp_path_factory.mktemp("kinds") / request.param
    model = Experiment.use(path, exp_id="exp").model("net")
    with model.session() as session:
        for name, (source, _, _) in KINDS.items():
            if name == "text.md":
                session.add_artifact(name, **source)
            else:
                session.add_artifact(name, source() if callable(source) else source)
    return model.sessions()[0], path


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_read_back(kinds, name):
    artifact = kinds[0].artifacts[name]
    _, media_type, expected = KINDS[name]
    assert artifact.media_type == media_type
    loaded = artifact.load()
    assert expected(loaded) if callable(expected) else loaded == expected


def test_the_files_are_those_of_other_programs(kinds):
    artifacts = kinds[0].artifacts
    assert artifacts["text.md"].path.read_text(encoding="utf-8") == "größe\n"
    assert pd.read_csv(artifacts["indexed.csv"].path)["k"].tolist() == ["r", "s"]
    assert pl.read_parquet(artifacts["polars.parquet"].path)["a"].to_list() == [1, 2]
    assert yaml.safe_load(artifacts["config.yml"].path.read_text()) == {"lr": 0.1}
    assert json.loads(artifacts["list.json"].path.read_text()) == [1, 0.1, [2]]
    assert np.load(artifacts["arrays.npz"].path)["a"].tolist() == [0, 1, 2]


def test_the_kinds_survive_a_merge_and_a_backup(kinds, tmp_path):
    for command, name in [("backup", f"backup{kinds[1].suffix}"), ("merge", "merged.json")]:
        target = tmp_path / name
        done = CliRunner().invoke(app, [command, str(kinds[1]), "-o", str(target)])
        assert done.exit_code == 0, done.output
        with casket.open(target) as runs:
            artifacts = runs.sessions()[0].artifacts
            assert artifacts["dict.yaml"].load() == STRUCTURE
            assert same_frame(artifacts["indexed.csv"].load(), INDEXED)


def test_weights_are_kept_as_safetensors_and_other_objects_of_torch_as_pt(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    net = torch.nn.Linear(2, 2)
    with model.session() as session:
        session.add_artifact("weights", net.state_dict())
        session.add_artifact("named.safetensors", net.state_dict())
        session.add_artifact("checkpoint.pt", {"net": net.state_dict(), "epoch": 3})
        session.add_artifact("module.pt", net)
    artifacts = model.sessions()[0].artifacts
    assert artifacts["weights"].path == artifacts["named.safetensors"].path
    assert artifacts["weights"].path.suffix == ".safetensors"
    for weights in (artifacts["weights"].load(), artifacts["checkpoint.pt"].load()["net"]):
        assert weights.keys() == net.state_dict().keys()
        assert all(torch.equal(weights[name], net.state_dict()[name]) for name in weights)
    assert torch.equal(artifacts["module.pt"].load().weight, net.weight)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "of another machine"))
    assert artifacts["checkpoint.pt"].load()["epoch"] == 3
    with pytest.raises(casket.UntrustedArtifact):
        artifacts["module.pt"].load()
    assert torch.equal(artifacts["module.pt"].load(trusted=True).weight, net.weight)


class Mine(LogisticRegression):
    """An estimator that skops does not know."""


def test_an_estimator_of_ones_own_is_loaded_by_skops_where_it_is_trusted(tmp_path, monkeypatch):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact("mine.skops", Mine(C=2))
    artifact = model.sessions()[0].artifacts["mine.skops"]
    assert artifact.load().C == 2
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "of another machine"))
    with pytest.raises(casket.UntrustedArtifact):
        artifact.load()
    assert artifact.load(trusted=True).C == 2


def test_images_and_figures_are_loaded_again(tmp_path):
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 3), "red")
    figure = pytest.importorskip("plotly.graph_objects").Figure({"data": [{"y": [1, 2]}]})
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact("picture.png", image)
        session.add_artifact("figure.json", figure)
    artifacts = model.sessions()[0].artifacts
    assert artifacts["picture.png"].load().getpixel((0, 0)) == (255, 0, 0)
    assert artifacts["figure.json"].load().data[0].y == (1, 2)


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [
        (".png", "image/png"),
        (".webp", "image/webp"),
        (".SVG", "image/svg+xml"),
        (".wav", "audio/wav"),
        (".mp3", "audio/mpeg"),
        (".flac", "audio/flac"),
        (".mp4", "video/mp4"),
        (".webm", "video/webm"),
        (".txt", "text/plain"),
        (".log", "text/plain"),
        (".html", "text/html"),
        (".csv", "text/csv"),
    ],
)
def test_media_types_are_those_of_the_suffix(memory, suffix, media_type):
    with memory.session() as session:
        session.add_artifact(f"file{suffix}", b"1")
    assert memory.sessions()[0].artifacts[f"file{suffix}"].media_type == media_type


@pytest.mark.parametrize(("name", "library"), [("a.yaml", "yaml"), ("a.skops", "skops")])
def test_a_library_that_is_not_installed_is_named(run_python, name, library):
    message = run_python(
        f"""
        import casket
        with casket.Experiment.use(":memory:").model("net").session() as session:
            try:
                session.add_artifact({name!r}, {{"a": 1}})
            except casket.UnstorableValue as error:
                print(error)
        """,
        without=(library,),
    )
    assert f"{name} cannot be stored" in message
    assert f"pip install {'pyyaml' if library == 'yaml' else library}" in message


# Text and open files.


def test_a_str_is_a_path_and_a_missing_one_is_refused_with_advice(memory, tmp_path):
    (tmp_path / "a.txt").write_text("content")
    with memory.session() as session:
        session.add_artifact("a", str(tmp_path / "a.txt"))
        with pytest.raises(StoreUnavailable, match=r"some text.*text is given by text="):
            session.add_artifact("b", "some text")
    assert memory.sessions()[0].artifacts.keys() == {"a"}


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "neither a source nor text="), ({"source": b"1", "text": "1"}, "a source and text=")],
)
def test_either_a_source_or_text_is_given(memory, given, message):
    with memory.session() as session, pytest.raises(UnstorableValue, match=f"'a'.*{message}"):
        session.add_artifact("a", **given)


@pytest.mark.parametrize("text", [5, b"1", "\ud800"])
def test_text_that_is_no_text_is_refused(memory, text):
    with memory.session() as session, pytest.raises(UnstorableValue, match=r"^a\.txt cannot"):
        session.add_artifact("a.txt", text=text)


def test_open_files_are_kept_whole_and_stay_as_they_are(memory, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")
    written = io.BytesIO()
    written.write(b"written")
    with path.open("rb") as file, tempfile.NamedTemporaryFile() as named, memory.session() as it:
        file.seek(5)
        named.write(b"named")
        for name, source in [("open", file), ("written", written), ("named", named)]:
            it.add_artifact(name, source)
        assert (file.tell(), written.tell(), named.tell()) == (5, 7, 5)
        assert file.read() == b"56789"
        with gzip.open(tmp_path / "a.gz", "wb") as packed:
            packed.write(b"packed")
        with gzip.open(tmp_path / "a.gz") as packed:
            it.add_artifact("packed", packed)
        reading, writing = os.pipe()
        os.write(writing, b"piped")
        os.close(writing)
        with open(reading, "rb") as pipe:
            it.add_artifact("piped", pipe)
    artifacts = memory.sessions()[0].artifacts
    loaded = {name: artifact.load() for name, artifact in artifacts.items()}
    assert loaded.pop("open") == b"0123456789"
    assert loaded == {name: name.encode() for name in ("written", "named", "packed", "piped")}


def test_files_that_are_open_as_text_or_closed_are_refused(memory, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with memory.session() as session:
        with (
            (tmp_path / "a.txt").open(encoding="utf-8") as file,
            pytest.raises(UnstorableValue, match="'rb'"),
        ):
            session.add_artifact("a", file)
        with (tmp_path / "a.txt").open("rb") as file:
            pass
        with pytest.raises(UnstorableValue, match="closed"):
            session.add_artifact("a", file)


# Folders.


@pytest.fixture
def folder(tmp_path):
    """A folder with subfolders, links to a file and a folder outside of it, and a hidden file."""
    root, outside = tmp_path / "code", tmp_path / "outside"
    for path in (root / "sub" / "deep", outside / "inner", root / "empty"):
        path.mkdir(parents=True)
    (root / "a.py").write_text("a")
    (root / "sub" / "same.py").write_text("a")
    (root / "sub" / "deep" / "b.md").write_text("b")
    (root / ".hidden").write_text("hidden")
    (outside / "inner" / "c.txt").write_text("c")
    (root / "link.txt").symlink_to(outside / "inner" / "c.txt")
    (root / "linked").symlink_to(outside)
    return root


def test_a_folder_becomes_an_artifact_a_file(model, folder):
    with model.session() as session:
        session.add_artifact("src", folder, step=3)
    artifacts = model.sessions()[0].artifacts
    assert {name: artifact.load() for name, artifact in artifacts.items()} == {
        "src/.hidden": b"hidden",
        "src/a.py": b"a",
        "src/link.txt": b"c",
        "src/linked/inner/c.txt": b"c",
        "src/sub/deep/b.md": b"b",
        "src/sub/same.py": b"a",
    }
    assert {artifact.step for artifact in artifacts.values()} == {3}
    assert artifacts["src/a.py"].path == artifacts["src/sub/same.py"].path
    assert artifacts["src/sub/deep/b.md"].media_type == "text/markdown"


def test_a_folder_of_1000_files_is_one_append(model, tmp_path, monkeypatch):
    (tmp_path / "many").mkdir()
    for number in range(1000):
        (tmp_path / "many" / str(number)).write_bytes(b"%d" % (number % 7))
    appends = []
    append = type(model.backend.store).append
    monkeypatch.setattr(
        type(model.backend.store),
        "append",
        lambda *args, **more: (appends.append(len(args[1])), append(*args, **more))[1],
    )
    with model.session() as session:
        appends.clear()
        session.add_artifact("many", tmp_path / "many")
        assert [count for count in appends if count > 1] == [1000]
    assert len(model.sessions()[0].artifacts) == 1000
    assert len(list(model.backend.files.path.iterdir())) == 7


def by_loop(folder):
    (folder / "sub" / "loop").symlink_to(folder)


def by_pipe(folder):
    os.mkfifo(folder / "pipe")


def by_dangling_link(folder):
    (folder / "dangling").symlink_to(folder / "nothing")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (by_loop, r"loop leads to one of its own parents"),
        (by_pipe, r"pipe is neither a file nor a folder"),
        (by_dangling_link, r"code.*No such file"),
    ],
)
def test_a_folder_that_cannot_be_copied_whole_is_refused(model, folder, spoil, message):
    spoil(folder)
    with model.session() as session, pytest.raises(CasketError, match=message):
        session.add_artifact("src", folder)
    assert model.sessions()[0].artifacts == {}
    assert list(model.backend.files.path.glob("*")) == []


def test_an_empty_folder_is_refused(memory, tmp_path):
    with memory.session() as session, pytest.raises(CasketError, match="contains no files"):
        session.add_artifact("src", tmp_path)


def test_the_folder_of_artifacts_is_left_out_of_a_folder_around_it(tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact("first", b"1")
        session.add_artifact("all", tmp_path)
    assert model.sessions()[0].artifacts.keys() == {"first", "all/runs.json"}


# A name used again.


def test_a_name_used_again_has_a_history(model):
    with model.session() as session:
        for step in (1, 2, 2):
            session.add_artifact("sample.txt", b"%d" % step, step=step)
        session.add_artifact("other", b"1", step=np.int64(7))
    artifacts = model.sessions()[0].artifacts
    sample = artifacts["sample.txt"]
    assert (sample.load(), sample.step) == (b"2", 2)
    assert [each.load() for each in sample.history] == [b"1", b"2", b"2"]
    assert [each.step for each in sample.history] == [1, 2, 2]
    assert artifacts["other"].step == artifacts["other"].history[0].step == 7


def stored(model):
    folder = model.backend.files.path
    return sorted(path.read_bytes() for path in folder.iterdir())


def test_keep_last_keeps_one_and_leaves_what_others_share(model):
    with model.session({"other": 1}) as other:
        other.add_artifact("best", b"shared")
        with model.session({"a": 1}) as session:
            session.add_artifact("plain", b"plain")
            for content in (b"shared", b"2", b"3", b"3"):
                session.add_artifact("last", content, keep="last", step=1)
            session.add_artifact("again", b"3", keep="last")
            session.add_artifact("again", b"4", keep="last")
    views = {tuple(view.params): view for view in model.sessions()}
    artifacts = views["a",].artifacts
    assert [each.load() for each in artifacts["last"].history] == [b"3"]
    assert {name: artifact.load() for name, artifact in artifacts.items()} == {
        "plain": b"plain",
        "last": b"3",
        "again": b"4",
    }
    assert views["other",].artifacts["best"].load() == b"shared"
    assert stored(model) == sorted([b"shared", b"plain", b"3", b"4"])


def test_keep_last_goes_on_in_a_session_that_is_continued(model):
    with model.session({"a": 1}) as session:
        session.add_artifact("last", b"first")
        session.add_artifact("last", b"1", keep="last")
    with model.resume(session.id) as session:
        session.add_artifact("last", b"2", keep="last")
        session.add_artifact("last", b"3", keep="last")
        session.add_artifact("last", b"4")
    (view,) = model.sessions()
    assert [each.load() for each in view.artifacts["last"].history] == [b"3", b"4"]
    assert stored(model) == [b"3", b"4", b"first"]


def test_keep_takes_last_only(memory):
    with memory.session() as session, pytest.raises(UnstorableValue, match=r"keep.*'last'"):
        session.add_artifact("a", b"1", keep="best")


@pytest.fixture(params=STORES)
def with_old(request, tmp_path):
    """A store with a session that used a name three times, and one that shares a file of it."""
    path = tmp_path / request.param
    model = Experiment.use(path, exp_id="exp").model("net")
    with model.session({"a": 1}) as session, model.session({"other": 1}) as other:
        for content in (b"shared", b"old", b"new"):
            session.add_artifact("a.txt", content)
        for content in (b"1", b"2"):
            session.add_artifact("last", content, keep="last")
        other.add_artifact("mine.txt", b"shared")
    model.experiment.close()
    return path


def test_clean_old_artifacts_frees_what_nothing_else_needs(with_old):
    def clean(*options):
        return CliRunner().invoke(app, ["clean", str(with_old), "--yes", *options])

    assert clean().exit_code == 1  # nothing to clean: old artifacts are kept unless asked for
    before = with_old.read_bytes() if with_old.suffix == ".json" else None
    planned = clean("--old-artifacts", "--dry-run")
    assert "2 old artifacts\n1 file of 3 bytes" in planned.output
    assert before is None or with_old.read_bytes() == before
    assert clean("--old-artifacts", "--older-than", "1d").exit_code == 1
    done = clean("--old-artifacts")
    assert done.exit_code == 0, done.output
    assert "removed 1 file and 2 old artifacts" in done.output
    with casket.open(with_old) as runs:
        views = {tuple(view.params): view for view in runs.sessions()}
        artifacts = views["a",].artifacts
        assert [each.load() for each in artifacts["a.txt"].history] == [b"new"]
        assert [view.status for view in views.values()] == ["completed"] * 2
        assert views["other",].artifacts["mine.txt"].load() == b"shared"
    assert clean("--old-artifacts").exit_code == 1


def test_freed_artifacts_are_no_damage_and_missing_to_nobody(with_old, tmp_path):
    done = CliRunner().invoke(app, ["clean", str(with_old), "--yes", "--old-artifacts"])
    assert done.exit_code == 0
    report = examine(Location.of(with_old))
    assert report.findings == []
    assert report.artifacts == 3
    for command, target in [("backup", f"backup{with_old.suffix}"), ("merge", "merged.json")]:
        path = tmp_path / target
        done = CliRunner().invoke(app, [command, str(with_old), "-o", str(path)])
        assert (done.exit_code, "not copied" in done.output) == (0, False), done.output
        with casket.open(path) as runs:
            views = {tuple(view.params): view for view in runs.sessions()}
            assert views["a",].artifacts["last"].load() == b"2"
            assert len(views["a",].artifacts["a.txt"].history) == 1


def test_the_files_of_its_own_go_with_the_session(with_old):
    with casket.open(with_old) as runs:
        views = {tuple(view.params): view for view in runs.sessions()}
    done = CliRunner().invoke(app, ["rm", views["a",].id, "-f", str(with_old), "--yes"])
    assert done.exit_code == 0, done.output
    (left,) = with_old.with_name(f"{with_old.name}.files").iterdir()
    assert left.read_bytes() == b"shared"


def test_a_damaged_list_of_freed_artifacts_is_a_damaged_record(with_old):
    if with_old.suffix != ".json":
        pytest.skip("edits the file as text")
    text = with_old.read_text()
    with_old.write_text(without_checksums(text.replace('"freed":[["', '"freed":[[1,"')))
    with (
        pytest.warns(casket.CasketWarning, match="kind 'artifact'"),
        casket.open(with_old) as runs,
    ):
        assert len(runs.sessions()) == 2


# Steps on the command line.


@pytest.mark.parametrize("name", STORES)
def test_show_names_the_step_and_the_number_of_earlier_artifacts(tmp_path, name):
    model = Experiment.use(tmp_path / name, exp_id="exp").model("net")
    with model.session() as session:
        session.add_artifact("sample.png", b"1", step=10)
        session.add_artifact("sample.png", b"22", step=20)
    model.experiment.close()
    shown = CliRunner().invoke(app, ["show", session.id, str(model.backend.location)])
    assert "step 20, 1 earlier" in shown.output
    as_json = CliRunner().invoke(app, ["show", session.id, str(model.backend.location), "--json"])
    (artifact,) = json.loads(as_json.output)["artifacts"]
    assert (artifact["step"], [each["step"] for each in artifact["history"]]) == (20, [10, 20])


# Size and failures.

OF_A_STREAM = """
import resource, sys, casket

class Zeros:
    def __init__(self, size):
        self.left = size
        self.closed = False
    def readable(self): return True
    def seekable(self): return False
    def readinto(self, buffer): raise NotImplementedError
    def read(self, size):
        size = min(size, self.left)
        self.left -= size
        return bytes(size)

model = casket.Experiment.use("runs.json", exp_id="exp").model("net")
with model.session() as session:
    session.add_artifact("warm-up", b"1")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    session.add_artifact("large.bin", Zeros(512 << 20))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_a_large_stream_takes_little_memory(run_python):
    assert int(run_python(OF_A_STREAM)) * 1024 < 16 << 20


def test_a_folder_that_is_interrupted_leaves_nothing_named(tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(8):
        with (tmp_path / "many" / f"{number}.bin").open("wb") as file:
            file.write(b"%d" % number)
            file.truncate(4 << 30)  # holes: no room is taken
    code = """
import casket
model = casket.Experiment.use("runs.json", exp_id="exp").model("net")
with model.session() as session:
    session.add_artifact("first", b"1")
    session.add_artifact("many", "many")
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    try:
        folder = tmp_path / "runs.json.files"
        eventually(lambda: len(list(folder.glob(".*.tmp"))) > 1)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    with casket.open(tmp_path / "runs.json") as runs:
        (view,) = runs.sessions()
        assert view.status == "killed"
        assert view.artifacts.keys() == {"first"}


def test_a_large_array_takes_no_second_copy(run_python):
    code = """
        import resource, numpy as np, casket
        model = casket.Experiment.use("runs.json", exp_id="exp").model("net")
        array = np.ones(64 << 20, "u1")
        with model.session() as session:
            session.add_artifact("a.npy", array[:10])
            session.add_artifact("a", array[:10])
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            session.add_artifact("a.npy", array)
            session.add_artifact("a", {"weights": array})
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
        """
    assert int(run_python(code)) < 40 << 10
