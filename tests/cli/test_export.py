"""`casket export`: tables and documents for other tools and for papers."""

import csv
import io
import json
import math
import os
import re

import pytest

import casket
from casket import Experiment


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("table", ["sessions", "epochs", "results"])
def test_csv_holds_what_pandas_gets(run, filled, tmp_path, table):
    pd = pytest.importorskip("pandas")
    out = tmp_path / "out.csv"
    run("export", filled, "-o", out, "--table", table)
    with casket.open(filled) as runs:
        wanted = runs.to_pandas(table)
    rows = read_csv(out.read_text())
    assert list(rows[0]) == list(wanted.columns)
    assert len(rows) == len(wanted)
    for row, (_, expected) in zip(rows, wanted.iterrows(), strict=True):
        for name, value in expected.items():
            if isinstance(value, float) and not math.isnan(value):
                assert float(row[name]) == value
            elif isinstance(value, str):
                assert row[name] == value
            elif value is pd.NaT or value is None:
                assert row[name] == ""


def test_csv_of_chosen_columns(run, filled):
    shown = run("export", filled, "--format", "csv", "--columns", "params.lr,last.loss")
    assert shown.splitlines() == [
        "params.lr,last.loss",
        "0.1,0.5",
        "0.01,0.25",
        "0.01,0.35",
        "10.0,NaN",
    ]


def test_parquet_is_the_polars_frame(run, filled, tmp_path):
    pl = pytest.importorskip("polars")
    run("export", filled, "-o", tmp_path / "epochs.parquet", "--table", "epochs")
    with casket.open(filled) as runs:
        assert pl.read_parquet(tmp_path / "epochs.parquet").equals(
            runs.to_polars("epochs"), null_equal=True
        )


def test_jsonl_has_a_session_a_line(run, filled, tmp_path):
    run("export", filled, "-o", tmp_path / "all.jsonl", "--where", "status == 'completed'")
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [line["params"]["lr"] for line in lines] == [0.1, 0.01, 0.01]
    assert len(lines[0]["epoch_rows"]) == 3


def test_nested_json_is_read_back_as_the_first_caskets(run, filled, tmp_path):
    out = tmp_path / "nested.json"
    run("export", filled, "-o", out)
    (document,) = json.loads(out.read_text())["_default"].values()
    assert (document["id"], document["tags"]) == ("digits", ["thesis"])
    assert document["models"][0]["modelId"] == "net"
    with casket.open(out) as nested, casket.open(filled) as runs:
        for copy, session in zip(nested.sessions(), runs.sessions(), strict=True):
            assert copy.params == session.params
            assert copy.config == session.config
            assert copy.results("test") == session.results("test")
            assert [row["epoch_num"] for row in copy.epochs] == [
                row["epoch_num"] for row in session.epochs
            ]
            assert copy.meta["status"] == session.status
            if session.status == "completed":
                assert copy.epochs == session.epochs


def test_a_markdown_table(run, filled):
    shown = run(
        "export",
        filled,
        "--format",
        "markdown",
        "--columns",
        "params.lr,loss",
        "--where",
        "loss > 0",
    )
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in shown.splitlines()]
    assert cells == [
        ["lr", "loss"], ["-" * 6, "-" * 8], ["0.1", "0.5"], ["0.01", "0.25"], ["0.01", "0.35"],
    ]  # fmt: skip


def test_a_latex_table_of_groups_for_a_paper(run, filled, tmp_path):
    out = tmp_path / "table.tex"
    run(
        "export",
        filled,
        "-o",
        out,
        "--group-by",
        "params.lr",
        "--columns",
        "loss,val_acc",
        "--where",
        "loss > 0",
    )
    lines = out.read_text().splitlines()
    assert lines[0] == r"\begin{tabular}{llll}"
    assert lines[2].split() == ["lr", "&", "n", "&", "loss", "&", r"val\_acc", r"\\"]
    assert lines[5].split()[:8] == ["0.01", "&", "2", "&", "0.30", r"$\pm$", "0.64", "&"]
    assert r"\bottomrule" in lines


def test_nothing_is_left_half_written(run, filled, tmp_path):
    (tmp_path / "there.csv").write_text("as it was")
    run.error("export", filled, "-o", tmp_path / "no folder" / "a.csv")
    run.error("export", filled, "-o", tmp_path / "there.csv", "--columns", "nothing")
    assert (tmp_path / "there.csv").read_text() == "as it was"
    assert not list(tmp_path.glob("*.tmp"))


def test_parquet_without_polars_names_the_extra(run_python, filled, tmp_path):
    code = """
    import sys
    from casket.cli.app import app
    try:
        app(["export", sys.argv[1], "-o", "out.parquet"])
    except SystemExit as left:
        assert left.code == 2
    """
    run_python(code, filled, without=("polars",))


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "html"])
def test_an_anonymous_export_tells_nothing_of_who_ran_it_and_where(
    form, run, tmp_path, monkeypatch
):
    folder = tmp_path / "home-of-alice-dupont"
    folder.mkdir()
    path = folder / "runs.json"
    monkeypatch.setattr("casket.writing.provenance.host_name", lambda: "secret-host-17")
    monkeypatch.setattr("getpass.getuser", lambda: "alice-dupont")
    monkeypatch.setattr("sys.orig_argv", ["python", "/train-of-dupont.py"])
    with Experiment.use(path, exp_id="x").model("m").session({"a": 1}) as session:
        session.add_epoch(1, {"loss": 0.5})
        session.add_meta({"gpu": "A100"})
        session.add_meta({"checkpoints": {"loss": {"best_model_path": str(folder / "x.ckpt")}}})
        session.add_artifact("weights.bin", b"weights")
    where = ["--where", "meta.user == 'alice-dupont'"]
    told = run("export", path, "--format", form, *where)
    assert all(word in told for word in ("secret-host-17", "alice-dupont", "train-of-dupont"))
    shown = run("export", path, "--format", form, "--anonymous", *where)
    assert not re.search("secret-host-17|alice|dupont", shown)
    assert "A100" in shown
    assert str(os.getpid()) in told
    assert not re.search(rf"\b{os.getpid()}\b", shown.partition('id="casket-data"')[2] or shown)
