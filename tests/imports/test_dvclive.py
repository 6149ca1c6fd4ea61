"""DVCLive's folder, as `dvclive` itself reads it."""

import pytest

from casket.imports import load
from tests.imports.sources import in_order, points, sessions


@pytest.fixture
def run(imported, expected):
    (session,) = imported("dvclive")
    return session, expected["dvclive"]


def test_params_keep_their_types(run):
    session, said = run
    assert session.params == said["params"]
    assert (session.experiment, session.model, session.status) == ("dvclive", "net", "completed")


def test_metrics(run):
    session, said = run
    assert points(session) == in_order(
        (name, int(row["step"]), float(row[name.rpartition("/")[2]]))
        for name, rows in said["history"].items()
        for row in rows
    )


def test_metrics_without_a_plot_are_a_result(run):
    assert run[0].results() == [{"final": 0.5}]


def test_times_are_those_of_the_tables(run):
    session, said = run
    times = [int(row["timestamp"]) for row in said["history"]["train/loss"]]
    assert round(session.started.timestamp() * 1000) == times[0]


def test_rows_and_params_that_are_damaged_are_reported(data, target):
    folder = data / "dvclive" / "net"
    with (folder / "plots/metrics/acc.tsv").open("a") as file:
        file.write("x\t0.5\n")
    (folder / "params.yaml").write_text("a: [")
    report = load(folder, target)
    assert len(report.problems) == 2
    assert sessions(target)[0].params == {}
