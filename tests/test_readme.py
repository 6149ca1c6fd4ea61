"""The README's code runs as it stands, in order, in an empty folder."""

import re
from pathlib import Path

import pytest

import casket

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


def test_the_readmes_code_runs_in_an_empty_folder(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert len(BLOCKS) >= 5
    assert "completed {'C': 10, 'gamma': 0.001} 0.9225" in capsys.readouterr().out
    assert len(names["frame"]) == 3
    (curve,) = names["chart"].lines
    assert list(curve.get_ydata()) == [0.62, 0.44, 0.31]
    assert (tmp_path / "curve.png").stat().st_size > 1000
    with casket.open("runs.json") as runs:
        assert [s.status for s in runs.sessions()] == ["completed"] * 5
        grid = runs.sessions(experiment="digits", model="SVM")[1]
        assert grid.indexes == ["precision", "recall"]
        assert len(grid.results("recall")) == 13
        search = runs.sessions(model="SVM search")[0]
        assert len(search.results("accuracy")) == 5
        assert len(search.batches) == 4 * 5
        network = runs.sessions(model="network")[0]
        assert len(network.epochs) == 5
        assert len(network.batches) == 5 * 22
        assert network.artifacts["network.joblib"].load().loss_ == network.last["loss"]


def test_every_file_the_readme_and_the_guide_name_is_there():
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text()
        named = set(re.findall(r"`((?:tests|examples|docs|casket)/[\w/.]+)`", text))
        missing = [name for name in named if not (ROOT / name).exists()]
        assert missing == []
