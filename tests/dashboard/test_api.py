"""The responses of the server: curves, a session, its rows and files, a grid search, notes."""

import base64
import csv
import io
import json
import math
import os
import random
from itertools import pairwise
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import casket
from casket.dashboard.answers import requests
from casket.dashboard.live.files import WatchedFile
from casket.reading.metrics import facts_of
from tests.dashboard.asking import (
    Listener,
    curves,
    filled,
    new_model,
    only_key,
    overview,
    refusal,
    rows,
    wait_for,
)

NAN, INF = math.nan, math.inf


@pytest.fixture
def log(ask, tmp_path):
    """Write a session by a function; return a client to a server of its file."""

    def write(fill, **options):
        path = tmp_path / "runs.json"
        with new_model(path).session({"seed": 0}) as session:
            fill(session)
        return ask(path, **options)

    return write


def logs(epochs):
    """Return a function that logs values as epochs from 1."""

    def fill(session):
        for epoch, values in enumerate(epochs, start=1):
            session.add_epoch(epoch, values)

    return fill


# Curves.


def test_a_short_curve_comes_whole(log):
    (curve,) = curves(log(logs([{"loss": 3.0}, {"loss": 2.0}, {"loss": 1.0}])), ["loss"])
    assert (curve["xs"], curve["y"]) == ([1, 2, 3], [3, 2, 1])
    assert [curve[name] for name in ("metric", "count", "shown", "left_out", "seen")] == [
        "loss", 3, 3, 0, 3,
    ]  # fmt: skip


def test_whole_numbers_that_a_browser_would_round_come_as_text(ask, tmp_path):
    seeds = [2**53, 2**53 + 1, -(2**60) - 1, 2**128 + 1]
    with new_model(tmp_path / "runs.json").session({"seeds": seeds}) as session:
        session.add_meta({"seed": seeds[1]})
        session.add_result({"seed": seeds[2]})
    client = ask(tmp_path / "runs.json")
    texts = [2**53, *map(str, seeds[1:])]
    (row,) = overview(client)["sessions"]
    details = client.get(f"/api/session/{row['key']}").json()
    for shown in (row, details):
        assert shown["params"]["seeds"] == texts
        assert shown["meta"]["seed"] == texts[1]
    assert details["last"]["seed"] == texts[2]
    assert details["results"][0]["result"]["seed"] == texts[2]


def test_the_overview_and_events_have_what_the_name_of_each_metric_implies(ask, tmp_path):
    model = new_model(tmp_path / "runs.json")
    with model.session({"seed": 0}) as session:
        session.add_epoch(1, {"val_loss": 0.5, "speed": 3})
    client = ask(tmp_path / "runs.json")
    first = overview(client)
    assert first["metrics"] == {name: facts_of(name) for name in ("val_loss", "speed")}
    listener = Listener(client, first["cursor"])
    try:
        with model.session({"seed": 1}) as session:
            session.add_epoch(1, {"val_loss": 0.5, "test_acc": 0.9})
            event = listener.until(lambda event: event.kind == "sessions" and event.data["metrics"])
    finally:
        listener.stop()
    assert event.data["metrics"] == {"test_acc": facts_of("test_acc")}


def test_curves_over_the_same_numbers_share_them(ask, tmp_path):
    client = ask(filled(tmp_path / "runs.json", sessions=3, epochs=5))
    answer = client.post(
        "/api/curves",
        json={"metrics": ["loss"], "sessions": [r["key"] for r in rows(client).values()]},
    ).json()
    assert answer["xs"] == [{"steps": [1, 1, 1, 1, 1]}]
    assert [curve["x"] for curve in answer["curves"]] == [0, 0, 0]


def test_nan_infinities_and_gaps_are_told_apart(log):
    epochs = [{"a": NAN, "b": 1}, {"a": INF}, {"a": -INF, "b": 2}]
    a, b = curves(log(logs(epochs)), ["a", "b"])
    assert a["y"] == ["NaN", "Infinity", "-Infinity"]
    assert b["y"] == [1, None, 2]
    assert (a["count"], b["count"]) == (3, 2)


def test_a_metric_of_nan_only_is_a_curve(log):
    (curve,) = curves(log(logs([{"a": NAN}] * 50)), ["a"], points=10)
    assert set(curve["y"]) == {"NaN"}
    assert curve["count"] == 50


def test_what_is_no_number_is_left_out_and_counted(log):
    values = [1, "diverged", True, None, 2.5, [1, 2]]
    (curve,) = curves(log(logs([{"a": value} for value in values])), ["a"])
    assert curve["y"] == [1, None, None, None, 2.5, None]
    assert (curve["count"], curve["left_out"]) == (2, 3)


def test_a_number_too_large_for_json_is_one_all_the_same(log):
    (curve,) = curves(log(logs([{"a": 10**30}, {"a": 10**400}])), ["a"])
    assert curve["y"] == [1e30, "Infinity"]


def test_down_sampling_keeps_the_lowest_and_the_highest_of_every_part(log):
    numbers = random.Random(1)
    values = [round(numbers.random(), 6) for _ in range(1000)]
    values[333], values[777] = 50.0, -50.0
    client = log(logs([{"a": value} for value in values]))
    (curve,) = curves(client, ["a"], points=40)
    assert (curve["count"], curve["shown"]) == (1000, len(curve["y"]))
    assert len(curve["y"]) <= 40
    assert curve["xs"] == sorted(set(curve["xs"]))
    assert all(values[x - 1] == y for x, y in zip(curve["xs"], curve["y"], strict=True))
    edges = [1 + 999 * i / 20 for i in range(21)]
    for start, end in pairwise(edges):
        part = [v for x, v in enumerate(values, 1) if start <= x < end or x == end == 1000]
        shown = [
            y for x, y in zip(curve["xs"], curve["y"], strict=True)
            if start <= x < end or x == end == 1000
        ]  # fmt: skip
        assert {min(part), max(part)} == set(shown)


def test_curves_have_the_digits_of_single_precision_and_fewer_if_down_sampled(log):
    client = log(logs([{"a": 1 / 3}, {"a": 1e-30 / 3}, {"a": 2**0.5 * 1e12}] * 2))
    (curve,) = curves(client, ["a"], points=4)
    assert set(curve["y"]) == {3.33333e-31, 1414210000000.0}
    (curve,) = curves(client, ["a"])
    assert curve["y"] == [0.333333333, 3.33333333e-31, 1414213560000.0] * 2


def test_curves_of_one_answer_are_cut_into_the_same_parts(ask, tmp_path):
    path = tmp_path / "runs.json"
    for seed, first in ((0, 1), (1, 501)):
        with new_model(path).session({"seed": seed}) as session:
            for epoch in range(first, first + 500):
                session.add_epoch(epoch, {"a": float(epoch)})
    low, high = curves(ask(path), ["a"], points=20)
    # Ten parts of 99.9 epochs: a rising line shows the first and the last of each.
    assert low["xs"] == [1, 100, 101, 200, 201, 300, 301, 400, 401, 500]
    assert high["xs"] == [501, 600, 601, 700, 701, 800, 801, 900, 901, 1000]


def test_a_part_with_a_value_that_is_not_finite_shows_one(log):
    epochs = [{"a": float(i)} for i in range(300)]
    epochs[100] = {"a": NAN}
    epochs[200] = {"a": -INF}
    (curve,) = curves(log(logs(epochs)), ["a"], points=30)
    assert len(curve["y"]) <= 30
    shown = dict(zip(curve["xs"], curve["y"], strict=True))
    assert (shown[101], shown[201]) == ("NaN", "-Infinity")
    assert {0.0, 299.0} <= set(curve["y"])


def test_a_metric_logged_now_and_then_is_not_down_sampled(log):
    epochs = [{"a": 1.0, **({"b": float(i)} if i % 50 == 0 else {})} for i in range(500)]
    (curve,) = curves(log(logs(epochs)), ["b"], points=20)
    assert curve["y"] == [float(i) for i in range(0, 500, 50)]
    assert curve["count"] == curve["shown"] == 10


def test_a_range_comes_in_detail_with_a_point_on_each_side(log):
    client = log(logs([{"a": float(i)} for i in range(1, 1001)]))
    (curve,) = curves(client, ["a"], points=100, range=[200, 210])
    assert curve["xs"] == list(range(199, 212))
    assert (curve["count"], curve["shown"]) == (11, 11)


def test_a_range_without_values_has_the_points_around_it(log):
    client = log(logs([{"a": 1.0}, {"a": 2.0}]))
    (curve,) = curves(client, ["a"], range=[1.2, 1.8])
    assert (curve["xs"], curve["count"], curve["shown"]) == ([1, 2], 0, 0)


def test_an_epoch_that_was_logged_again_counts_once_with_its_last_values(log):
    def fill(session):
        for epoch, values in ((1, {"a": 1}), (2, {"a": 2}), (1, {"a": 10}), (2, {"late": 5})):
            session.add_epoch(epoch, values)

    a, late = curves(log(fill), ["a", "late"])
    assert (a["xs"], a["y"]) == ([1, 2], [10, 2])
    assert late["y"] == [None, 5]


@pytest.mark.parametrize(("x", "least"), [("time", 0), ("wall", 1_700_000_000)])
def test_curves_run_over_time_too(x, least, log):
    (curve,) = curves(log(logs([{"a": 1.0}, {"a": 2.0}, {"a": 3.0}])), ["a"], x=x)
    assert curve["y"] == [1, 2, 3]
    assert least <= curve["xs"][0] <= curve["xs"][1] <= curve["xs"][2] < least + 1e9


def test_what_was_logged_without_a_time_has_no_place_on_an_axis_of_time(log):
    def fill(session):
        session.add_epoch(1, {"a": 1.0}, timestamp=False)
        session.add_epoch(2, {"a": 2.0})

    client = log(fill)
    assert curves(client, ["a"], x="time")[0]["y"] == [2]
    assert curves(client, ["a"])[0]["y"] == [1, 2]


def test_batches_have_curves_of_their_own(log):
    (curve,) = curves(
        log(lambda session: [session.add_batch(i, {"a": i}, epoch=1) for i in range(3)]),
        ["a"], kind="batch",
    )  # fmt: skip
    assert curve["xs"] == [0, 1, 2]


EPOCHS, BATCHES = 3, 4


def add_batches(session, order):
    for epoch, batch in order:
        session.add_batch(batch, {"a": 10 * epoch + batch}, epoch=epoch)


@pytest.mark.parametrize("x", ["number", "time", "wall"])
@pytest.mark.parametrize("order", ["as trained", "epoch 2 first", "last batch twice"])
def test_batches_numbered_anew_in_each_epoch_are_drawn_in_their_order(order, x, log):
    pairs = [(epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)]
    logged = {
        "as trained": pairs,
        "epoch 2 first": pairs[8:] + pairs[:8],
        "last batch twice": [*pairs, pairs[-1]],
    }[order]
    client = log(lambda session: add_batches(session, logged))
    (curve,) = curves(client, ["a"], kind="batch", x=x)
    expected = [10 * epoch + batch for epoch, batch in pairs]
    if x == "number":
        assert curve["xs"] == list(range(1, len(pairs) + 1))
    elif order == "epoch 2 first":
        expected = expected[8:] + expected[:8]
    assert curve["y"] == expected
    assert curve["xs"] == sorted(curve["xs"])


def test_batches_that_begin_anew_come_as_a_whole_to_who_has_the_first_epoch(ask, tmp_path):
    path = tmp_path / "runs.json"
    session = new_model(path).session({"seed": 0})
    add_batches(session, [(0, 0), (0, 1)])
    client = ask(path)
    (first,) = curves(client, ["a"], kind="batch")
    assert first["xs"] == [0, 1]
    add_batches(session, [(1, 0), (1, 1)])
    wait_for(lambda: rows(client)[0]["counts"]["batch"] == 4)
    (whole,) = curves(client, ["a"], kind="batch", since={first["session"]: 2})
    assert (whole["xs"], whole["y"], "continues" in whole) == ([1, 2, 3, 4], [0, 1, 10, 11], False)
    session.end()


def test_only_what_is_new_comes_to_who_says_what_it_has(ask, tmp_path):
    path = tmp_path / "runs.json"
    session = new_model(path).session({"seed": 0})
    session.add_epoch(1, {"a": 1.0})
    client = ask(path)
    (curve,) = curves(client, ["a"])
    assert curve["seen"] == 1
    session.add_epoch(2, {"a": 2.0})
    wait_for(lambda: rows(client)[0]["counts"]["epoch"] == 2)
    since = {curve["session"]: 1}
    (more,) = curves(client, ["a"], since=since)
    assert (more["xs"], more["y"], more["seen"], more["continues"]) == ([2], [2], 2, True)
    session.add_epoch(1, {"a": 9.0})
    wait_for(lambda: rows(client)[0]["counts"]["epoch"] == 3)
    (whole,) = curves(client, ["a"], since={curve["session"]: 2})
    assert (whole["y"], "continues" in whole) == ([9, 2], False)
    session.end()


def test_curves_as_csv_hold_every_value(log):
    client = log(logs([{"a": 1.0}, {"a": NAN}, {"a": "x"}, {"b": 3.0}]))
    question = {"metrics": ["a"], "sessions": [only_key(client), "0.gone"], "points": 4}
    response = client.post("/api/curves.csv", json=question)
    header, *lines = csv.reader(io.StringIO(response.text))
    assert header == ["session", "metric", "epoch", "time", "value"]
    assert [(line[2], line[4]) for line in lines] == [("1", "1.0"), ("2", "NaN"), ("3", "x")]


def test_sessions_that_are_gone_and_metrics_nobody_logged_have_no_curve(log):
    client = log(logs([{"a": 1.0}]))
    assert curves(client, ["nope"]) == []
    assert curves(client, ["a"], ["0.gone", "7.x", "nonsense"]) == []


@pytest.mark.parametrize(
    ("change", "parameter", "status"),
    [
        ({"points": 99999}, "points", 400),
        ({"points": 0}, "points", 400),
        ({"points": True}, "points", 400),
        ({"points": 1.5}, "points", 400),
        ({"metrics": "loss"}, "metrics", 400),
        ({"metrics": [1]}, "metrics", 400),
        ({"metrics": ["m" * 20_000]}, "metrics", 400),
        ({"metrics": [str(i) for i in range(101)]}, "metrics", 400),
        ({"sessions": None}, "sessions", 400),
        ({"sessions": [str(i) for i in range(10_001)]}, "sessions", 400),
        ({"sessions": [str(i) for i in range(3000)], "metrics": list("abcdefgh")}, "sessions", 400),
        ({"sessions": [str(i) for i in range(1000)], "points": 4000}, "points", 400),
        ({"kind": "result"}, "kind", 400),
        ({"kind": ["epoch"]}, "kind", 400),
        ({"x": "wat"}, "x", 400),
        ({"range": [2, 1]}, "range", 400),
        ({"range": [1]}, "range", 400),
        ({"range": ["a", "b"]}, "range", 400),
        ({"range": [-1e300, 1e300]}, "range", 400),
        ({"since": {"0.a": -1}}, "since", 400),
        ({"since": [1]}, "since", 400),
        ({"unknown": 1}, "unknown", 400),
    ],
)
def test_a_question_out_of_bounds_is_refused_by_the_parameter(change, parameter, status, log):
    client = log(logs([{"a": 1.0}]))
    question = {"metrics": ["a"], "sessions": [only_key(client)], **change}
    assert refusal(client.post("/api/curves", json=question)) == (status, parameter)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 400), (b"NaN", 400), (b" " * (5 << 20), 413)],
)
def test_a_question_that_is_no_json_is_refused(body, status, log):
    client = log(logs([{"a": 1.0}]))
    headers = {"Content-Type": "application/json"}
    response = client.post("/api/curves", content=body, headers=headers)
    assert refusal(response) == (status, "body")


# A session.


def test_a_session_tells_everything_but_its_epochs(log):
    def fill(session):
        logs([{"a": 1.0}])(session)
        session.add_meta({"gpu": "none", "long": "x" * 1000})
        session.add_result({"acc": 0.5}, index_by="test")
        session.add_artifact("net.bin", b"\0\1")

    client = log(fill)
    shown = client.get(f"/api/session/{only_key(client)}").json()
    assert shown["meta"]["long"] == "x" * 1000
    assert shown["config"] == {"units": 64}
    ((result),) = shown["results"]
    assert (result["index"], result["result"]) == ("test", {"acc": 0.5})
    assert result["time"].endswith("Z")
    ((artifact),) = shown["artifacts"]
    assert (artifact["name"], artifact["size"], "image" in artifact) == ("net.bin", 2, False)
    assert "epoch_rows" not in shown
    assert shown["counts"] == {"epoch": 1, "batch": 0, "result": 1}


def test_rows_are_cut_where_they_are_long_and_say_so(log, ask, tmp_path):
    path = tmp_path / "runs.json"
    params = {"text": "x" * 1000, **{f"p{i}": i for i in range(10_000)}}
    with new_model(path).session(params) as session:
        session.add_result({"y_pred": list(range(1000)), "acc": 0.5})
    client = ask(path)
    (row,) = overview(client)["sessions"]
    assert row["params"]["text"] == "x" * 500 + "…"
    assert len(row["params"]) == 2000
    assert row["partial"] == ["params"]
    assert row["last"] == {"acc": 0.5}
    assert len(client.get(f"/api/session/{row['key']}").json()["params"]) == 10_001


@pytest.mark.parametrize("shape", [(64, 64, 3), (300, 300, 3), (400, 400, 4)])
def test_images_arrays_and_tables_inside_results_are_told_as_such(shape, log):
    pixels = np.zeros(shape, dtype="uint8")
    pixels[:, :32, 0] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"

    def fill(session):
        session.add_result({
            "pixels": pixels,
            "url": url,
            "fake": "data:image/png;base64,PHNjcmlwdD4=",
            "weights": np.linspace(0, 1, 100_000),
            "long": list(range(1000)),
            "short": [1, 2, 3],
            "frame": pd.DataFrame({"k": [1, 2], "v": ["a", "b"]}),
            "rows": [{"k": 1}, {"k": 2, "v": NAN}],
            "deep": {"x": {"y": [True, None]}},
        })  # fmt: skip

    client = log(fill)
    (row,) = overview(client)["sessions"]
    assert row["images"] is True
    shown = client.get(f"/api/session/{row['key']}").json()["results"][0]["result"]
    assert shown["url"] == {"casket": "image", "src": url}
    assert shown["fake"].startswith("data:")
    decoded = base64.b64decode(shown["pixels"]["src"].partition(",")[2])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(decoded))), pixels)
    weights = shown["weights"]
    assert (weights["shape"], weights["min"], weights["max"]) == ([100_000], 0, 1)
    assert weights["mean"] == pytest.approx(0.5)
    assert shown["long"] == {
        "casket": "array", "shape": [1000], "dtype": "int", "min": 0, "max": 999, "mean": 499.5,
    }  # fmt: skip
    assert shown["short"] == [1, 2, 3]
    assert shown["frame"] == {
        "casket": "table", "columns": ["k", "v"], "rows": [[1, "a"], [2, "b"]], "count": 2,
    }  # fmt: skip
    assert shown["rows"]["rows"] == [[1, None], [2, "NaN"]]
    assert shown["deep"] == {"x": {"y": [True, None]}}


def test_a_grid_of_hyperparameters_is_no_table(ask, tmp_path):
    path = tmp_path / "runs.json"
    params = {"grid": {"C": [1, 10], "gamma": [0.1, 0.01]}, "stages": [{"n": 1}, {"n": 2}]}
    new_model(path).session(params).end()
    client = ask(path)
    assert client.get(f"/api/session/{only_key(client)}").json()["params"] == params


def test_an_array_whose_file_is_gone_is_still_named(log, ask, tmp_path):
    client = log(lambda session: session.add_result({"w": np.arange(100_000.0)}))
    for file in (tmp_path / "runs.json.files").iterdir():
        file.unlink()
    (row,) = overview(client)["sessions"]
    shown = client.get(f"/api/session/{row['key']}").json()["results"][0]["result"]
    assert shown["w"] == {
        "casket": "array", "shape": [100_000], "dtype": "float64",
        "min": None, "max": None, "mean": None,
    }  # fmt: skip


def test_rows_come_in_pages_and_all_of_them_as_csv(log):
    client = log(logs([{"a": float(i)} for i in range(500)]))
    address = f"/api/session/{only_key(client)}"
    page = client.get(f"{address}/rows", params={"from": 490, "limit": 20}).json()
    assert ([row["a"] for row in page["rows"]], page["count"]) == (list(range(490, 500)), 500)
    assert page["rows"][0]["epoch_num"] == 491
    lines = list(csv.DictReader(io.StringIO(client.get(f"{address}/rows.csv").text)))
    assert [float(line["a"]) for line in lines] == list(range(500))


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": "99999"}, "limit"),
        ({"limit": "0"}, "limit"),
        ({"from": "-1"}, "from"),
        ({"from": "9" * 400}, "from"),
        ({"from": "x"}, "from"),
        ({"kind": "meta"}, "kind"),
    ],
)
def test_rows_out_of_bounds_are_refused_by_the_parameter(query, parameter, log):
    client = log(logs([{"a": 1.0}]))
    response = client.get(f"/api/session/{only_key(client)}/rows", params=query)
    assert refusal(response) == (400, parameter)


def test_the_answer_that_refuses_says_the_bound(log):
    client = log(logs([{"a": 1.0}]))
    response = client.get(f"/api/session/{only_key(client)}/rows?limit=99999")
    assert response.json() == {"error": "limit=99999: at most 1000", "parameter": "limit"}


@pytest.mark.parametrize("key", ["0.nope", "5.x", "x", "-1.x", "0", "999999999999.x", "\uff10.x"])
def test_a_session_that_is_not_there_is_not_found(key, log):
    client = log(logs([{"a": 1.0}]))
    assert refusal(client.get(f"/api/session/{quote(key)}")) == (404, "session")
    assert refusal(client.get("/api/heatmap", params={"session": key})) == (404, "session")


# A grid search.


def test_a_grid_search_is_told_by_params_and_scorers(log):
    def fill(session):
        for scorer in ("precision", "recall"):
            session.add_result({"best_params": {"C": 1}}, index_by=scorer)
            for c in (10, 1):
                for kernel in ("rbf", "linear"):
                    session.add_result(
                        {
                            "grid_search_params": {"C": c, "kernel": kernel},
                            "dev_scores": {"mean": c / 10, "std": NAN, "splits": [1]},
                        },
                        index_by=scorer,
                    )

    client = log(fill)
    shown = client.get("/api/heatmap", params={"session": only_key(client)}).json()
    assert shown["params"] == {"C": [1, 10], "kernel": ["rbf", "linear"]}
    assert shown["scorers"] == ["precision", "recall"]
    assert len(shown["cells"]) == 4
    assert shown["cells"][0] == {
        "params": {"C": 10, "kernel": "rbf"},
        "scores": {scorer: {"mean": 1.0, "std": "NaN"} for scorer in ("precision", "recall")},
    }
    assert shown["left_out"] == 0


def test_a_session_without_a_grid_search_has_none(log):
    client = log(logs([{"a": 1.0}]))
    response = client.get("/api/heatmap", params={"session": only_key(client)})
    assert refusal(response) == (404, "session")


# Notes and tags.


def test_notes_and_tags_are_written_if_the_server_may(log, tmp_path):
    client = log(logs([{"a": 1.0}]), edit=True)
    address = f"/api/session/{only_key(client)}/annotate"
    row = client.post(address, json={"note": "good", "add": ["paper", "x"]}).json()
    assert (row["note"], row["tags"]) == ("good", ["paper", "x"])
    assert client.post(address, json={"remove": ["x"]}).json()["tags"] == ["paper"]
    assert overview(client)["edit"] is True
    with casket.open(tmp_path / "runs.json") as runs:
        assert (runs.sessions()[0].note, runs.sessions()[0].tags) == ("good", ("paper",))


def test_without_edit_nothing_is_written(log, tmp_path):
    client = log(logs([{"a": 1.0}]))
    before = (tmp_path / "runs.json").read_bytes()
    response = client.post(f"/api/session/{only_key(client)}/annotate", json={"note": "x"})
    assert refusal(response) == (403, "edit")
    assert (tmp_path / "runs.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"note": 1}, "note"),
        ({"note": "x" * (requests.MAX_NOTE + 1)}, "note"),
        ({"add": "x"}, "add"),
        ({"add": [str(i) for i in range(101)]}, "add"),
        ({"remove": [None]}, "remove"),
        ({"title": "x"}, "title"),
    ],
)
def test_a_note_out_of_bounds_is_refused_by_the_parameter(change, parameter, log):
    client = log(logs([{"a": 1.0}]), edit=True)
    response = client.post(f"/api/session/{only_key(client)}/annotate", json=change)
    assert refusal(response) == (400, parameter)


def test_nothing_is_written_where_the_file_is_gone(ask, tmp_path):
    path = filled(tmp_path / "runs.json", 1)
    client = ask(path, edit=True)
    address = f"/api/session/{only_key(client)}/annotate"
    path.unlink()
    assert refusal(client.post(address, json={"note": "at once"})) == (503, "session")
    wait_for(lambda: overview(client)["files"][0]["state"] == "lost")
    assert refusal(client.post(address, json={"note": "later"})) == (503, "session")
    assert not path.exists()
    assert len(overview(client)["sessions"]) == 1


@pytest.mark.parametrize("name", ["runs.json", "runs.sqlite"])
def test_a_file_that_goes_away_before_a_note_is_written_is_not_made_anew(
    name, ask, tmp_path, monkeypatch
):
    path = filled(tmp_path / name, 1)
    client = ask(path, edit=True)
    address = f"/api/session/{only_key(client)}/annotate"
    monkeypatch.setattr(WatchedFile, "obstacle", property(lambda file: file.location.path.unlink()))
    response = client.post(address, json={"note": "too late"})
    assert refusal(response) == (503, "session")
    assert f"{path} does not exist: it was moved or deleted" in response.json()["error"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["range", "metrics", "kind", "points", "since"])
def test_a_question_however_deep_is_refused_by_what_is_wrong(name, log):
    question = json.dumps({"metrics": ["loss"], "sessions": [], name: None})
    question = question.replace("null", "[" * 1000 + "]" * 1000)
    headers = {"Content-Type": "application/json"}
    response = log(logs([])).post("/api/curves", content=question, headers=headers)
    assert refusal(response) == (400, name)


@pytest.mark.parametrize("name", ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1"])
def test_csv_holds_nothing_that_a_spreadsheet_would_run(name, log):
    values = {name: name, "inside": f"a{name}", "loss": -math.inf, "number": "-5"}
    client = log(lambda session: session.add_epoch(1, values))
    text = client.get(f"/api/session/{only_key(client)}/rows.csv").text
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row[f"'{name}"] == f"'{name}"
    assert (row["inside"], row["loss"], row["number"]) == (f"a{name}", "-Infinity", "-5")


@pytest.mark.parametrize("damaged", ["empty", "pipe"])
def test_an_array_whose_file_is_damaged_is_still_named(damaged, log, ask, tmp_path):
    log(lambda session: session.add_result({"a": np.arange(300_000)}))
    (file,) = (tmp_path / "runs.json.files").iterdir()
    file.unlink()
    file.touch() if damaged == "empty" else os.mkfifo(file)
    client = ask(tmp_path / "runs.json")
    (result,) = client.get(f"/api/session/{only_key(client)}").json()["results"]
    assert result["result"]["a"]["shape"] == [300_000]


def test_an_artifact_that_is_a_pipe_holds_nobody_up(log, ask, tmp_path):
    log(lambda session: session.add_artifact("a.png", b"a"))
    (file,) = (tmp_path / "runs.json.files").iterdir()
    file.unlink()
    os.mkfifo(file)
    client = ask(tmp_path / "runs.json")
    (artifact,) = client.get(f"/api/session/{only_key(client)}").json()["artifacts"]
    assert "image" not in artifact


# Sweeps.


def test_sweeps_are_sent_with_their_workers_and_their_best(ask, tmp_path):
    path = tmp_path / "runs.json"
    sweep = new_model(path).sweep({"n": range(3)})
    for _ in range(2):
        with next(sweep) as done:
            done.add_epoch(1, {"loss": 1 / (done.params["n"] + 1)})
    running = next(sweep)
    [sent] = ask(path).get("/api/sweeps").json()
    assert (sent["file"], sent["size"], sent["done"], sent["failed"]) == (0, 3, 2, 0)
    [worker] = sent["workers"]
    assert (worker["pid"], worker["session"]) == (os.getpid(), running.id)
    assert sent["best"] == {"metric": "loss", "value": 0.5, "session": done.id}
    assert sent["importance"] == {}
    sweep.close()


def test_a_file_without_sweeps_has_none(log):
    assert log(logs([{"loss": 1}])).get("/api/sweeps").json() == []


# The best of a metric whose name does not say which way is better.


@pytest.mark.parametrize(("mode", "best"), [("min", -2), ("max", 5)])
def test_the_best_of_any_metric_is_sent_for_the_direction_that_is_asked_for(log, mode, best):
    client = log(logs([{"energy": 5}, {"energy": -2}, {"energy": 1}]))
    answer = client.get("/api/best", params={"metric": "energy", "mode": mode}).json()
    assert list(answer.values()) == [best]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"mode": "min"}, "metric"),
        ({"metric": "x"}, "mode"),
        ({"metric": "x", "mode": "up"}, "mode"),
    ],
)
def test_a_best_that_is_not_said_of_what_is_refused(log, query, parameter):
    response = log(logs([{"loss": 1}])).get("/api/best", params=query)
    assert refusal(response) == (400, parameter)
