"""How values and tables are shown."""

import math

import click
import pytest

from casket.cli import tables


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""), (True, "True"), (3, "3"), (10**20, "1" + "0" * 20), (0.1, "0.1"),
        (1 / 3, "0.3333333"), (1e-7, "1e-7"), (123456.0, "123456"), (2e20, "2e+20"),
        (math.nan, "NaN"), (-math.inf, "-Infinity"), ("a b", "a b"),
    ],
)  # fmt: skip
def test_values(value, shown):
    assert tables.text(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown", "ago"),
    [
        (-1, "0.0 s", "0.0 s"),
        (0.26, "0.3 s", "0.3 s"),
        (9.96, "10 s", "10 s"),
        (59.6, "1 min", "1 min"),
        (61, "1 min 1 s", "1 min"),
        (3600, "1 h", "1 h"),
        (7500, "2 h 5 min", "2 h"),
        (90061, "1 d 1 h", "1 d"),
    ],
)
def test_spans_of_time(seconds, shown, ago):
    assert tables.span(seconds) == shown
    assert tables.ago(seconds) == ago


@pytest.fixture
def in_terminal(monkeypatch):
    """Let tables believe that they stand in a terminal of some width."""

    def pretend(columns):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))
        return click.Context(click.Command("ls"))

    return pretend


ROWS = [{"id": "a1", "lr": "0.1", "loss": "0.25", "age": "2 h"}]


def test_columns_go_from_the_right_until_the_rest_fits_but_some_stay(in_terminal):
    with in_terminal(16):
        shown = tables.table(ROWS, ["id", "lr", "loss", "age"], keep=("id", "age"))
    header, row, hint = shown.splitlines()
    assert header.split() == ["id", "lr", "age"]
    assert row.split() == ["a1", "0.1", "2", "h"]
    assert hint.startswith("(no room for loss: ")


def test_colors_take_no_room(in_terminal):
    row = {"id": "a1", "status": click.style("failed", fg="red")}
    with in_terminal(14):
        assert "status" in tables.table([row], ["id", "status"])


def test_a_column_may_have_another_title(in_terminal):
    with in_terminal(80):
        shown = tables.table([{"params.lr": "0.1"}], ["params.lr"], headers={"params.lr": "lr"})
    assert shown.splitlines()[0].strip() == "lr"
