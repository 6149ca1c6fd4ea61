"""Exports of Neptune, in the documented schema of `neptune-exporter`.

Neptune's servers are gone, and its exporter reads only from them: the files are written here.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

import casket
from casket.imports import load
from tests.imports.sources import in_order, points, sessions

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

START = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
LOSSES = [0.9, float("nan"), float("inf"), 1e-7]


def schema():
    time = pyarrow.timestamp("ms", tz="UTC")
    doubles = pyarrow.list_(pyarrow.float64())
    histogram = [("type", pyarrow.string()), ("edges", doubles), ("values", doubles)]
    return pyarrow.schema(
        [
            ("project_id", pyarrow.string()),
            ("run_id", pyarrow.string()),
            ("attribute_path", pyarrow.string()),
            ("attribute_type", pyarrow.string()),
            ("step", pyarrow.decimal128(18, 6)),
            ("timestamp", time),
            ("int_value", pyarrow.int64()),
            ("float_value", pyarrow.float64()),
            ("string_value", pyarrow.string()),
            ("bool_value", pyarrow.bool_()),
            ("datetime_value", time),
            ("string_set_value", pyarrow.list_(pyarrow.string())),
            ("file_value", pyarrow.struct([("path", pyarrow.string())])),
            ("histogram_value", pyarrow.struct(histogram)),
        ]
    )


def attribute(path, kind, value, step=None, after=0, run="RUN-1"):
    """Return a row of a run, `after` seconds from its start."""
    column = {"float_series": "float", "string_series": "string"}.get(kind, kind)
    is_series = step is not None
    return {
        "project_id": "team/digits",
        "run_id": run,
        "attribute_path": path,
        "attribute_type": kind,
        "step": Decimal(str(step)) if is_series else None,
        "timestamp": START + timedelta(seconds=after) if is_series else None,
        f"{column}_value": value,
    }


STATIC = [
    attribute("sys/name", "string", "svm"),
    attribute("sys/creation_time", "datetime", START),
    attribute("sys/tags", "string_set", ["a", "b"]),
    attribute("sys/description", "string", "a note"),
    attribute("sys/owner", "string", "someone"),
    attribute("parameters/lr", "float", 0.1),
    attribute("parameters/opt/name", "string", "adam"),
    attribute("parameters/layers", "int", 3),
    attribute("flag", "bool", True),
    attribute("data/train", "file", {"path": "digits/RUN-1/train.csv"}),
    attribute("data/lost", "file", {"path": "digits/RUN-1/lost.csv"}),
]
SERIES = [
    *(attribute("metrics/loss", "float_series", x, i * 10, i) for i, x in enumerate(LOSSES)),
    attribute("metrics/acc", "float_series", 0.5, 0, 60),
    attribute("log", "string_series", "started", 0, 1),
    attribute("odd", "float_series", 1.0, 0.5, 2),
    attribute("odd", "float_series", 2.0, 1.5, 3),
    attribute("weights", "histogram_series", None, 0, 1),
]
OTHER = [
    attribute("sys/failed", "bool", True, run="RUN-2"),
    attribute("sys/forking/parent", "string", "RUN-1", run="RUN-2"),
    attribute("parameters/lr", "float", 0.2, run="RUN-2"),
    attribute("metrics/loss", "float_series", 3.5, 0, 5, run="RUN-2"),
]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    names = schema().names
    whole = [{name: row.get(name) for name in names} for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(whole, schema=schema()), path)


@pytest.fixture
def exports(tmp_path):
    project = tmp_path / "exports" / "data" / "digits_1a2b"
    write(project / "RUN-1_part_0.parquet", [*STATIC, *SERIES[:2]])
    write(project / "RUN-1_part_1.parquet", SERIES[2:])
    write(project / "RUN-2_part_0.parquet", OTHER)
    train = tmp_path / "exports" / "files" / "digits" / "RUN-1" / "train.csv"
    train.parent.mkdir(parents=True)
    train.write_text("1,2\n")
    return tmp_path / "exports"


@pytest.fixture
def runs(exports, target):
    load(exports, target)
    return {session.meta["run_id"]: session for session in sessions(target)}


def test_params_names_tags_and_times(exports, target):
    load(exports, target)
    first, second = sorted(sessions(target), key=lambda session: session.params["parameters"]["lr"])
    assert first.params == {
        "parameters": {"lr": 0.1, "opt": {"name": "adam"}, "layers": 3},
        "flag": True,
    }
    assert (first.experiment, first.model, second.model) == ("team/digits", "svm", "RUN-2")
    assert (first.tags, first.note, first.meta["user"]) == (("a", "b"), "a note", "someone")
    assert first.started == START
    assert first.ended == START + timedelta(seconds=60)
    assert (first.status, second.status) == ("completed", "failed")
    assert (second.meta["forked_from"], second.parent) == (first.id, None)


def test_series(runs):
    losses = [("metrics/loss", i * 10, value) for i, value in enumerate(LOSSES)]
    others = [("metrics/acc", 0, 0.5), ("odd", 0, 1.0), ("odd", 1, 2.0)]
    assert points(runs["RUN-1"]) == in_order([*losses, *others])
    assert runs["RUN-1"].results("log") == [{"step": 0.0, "text": "started"}]


def test_each_value_keeps_its_time(runs):
    times = {
        name: datetime.fromisoformat(epoch["timestamp"])
        for epoch in runs["RUN-1"].epochs
        for name in epoch
    }
    assert times["metrics/acc"] == START + timedelta(seconds=60)
    assert times["metrics/loss"] == START + timedelta(seconds=3)


def test_files_beside_the_data_are_artifacts(exports, target):
    report = load(exports, target)
    (first,) = [session for session in sessions(target) if session.model == "svm"]
    assert first.named == "svm"
    assert first.artifacts["data/train"].load() == b"1,2\n"
    assert report.left_out == {"files": 1, "histogram_series": 1}
    (problem,) = report.problems
    assert problem.what == "odd"


def test_twice_adds_nothing(exports, target):
    load(exports, target)
    assert not load(exports, target).counts.added


def test_a_torn_file_is_reported(exports, target):
    (part,) = exports.rglob("RUN-2_part_0.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    report = load(exports, target)
    assert str(part) in [problem.what for problem in report.problems]
    assert report.runs == 1


def test_without_pyarrow_the_extra_is_named(exports, target, run_python):
    code = """
        import sys, casket
        from casket.imports import load
        try:
            load(sys.argv[1], sys.argv[2])
        except casket.MissingDependency as error:
            print(error)
        """
    said = run_python(code, exports, target, without=("pyarrow",))
    assert said == "pyarrow is not installed: pip install 'casket[neptune]'"
    assert issubclass(casket.MissingDependency, ImportError)
