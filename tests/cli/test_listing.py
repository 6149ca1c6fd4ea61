"""`casket ls` and `casket best`."""

import csv
import io
import json
import re

import pytest

import casket
from casket import Experiment


def test_a_listing_shows_what_differs_and_the_last_and_best_metrics(run, filled):
    title, header, *rows = run("ls", filled).splitlines()
    assert title == "experiment digits, model net"
    assert header.split() == [
        "session", "name", "status", "tags", "lr", "seed", "opt.name", "val_acc", "test.acc",
        "loss", "epochs", "age", "duration",
    ]  # fmt: skip
    assert len(rows) == 4
    assert re.search(r"completed  thesis  0.1 +0 +adam +0.8333 +0.5 +0.5 +3", rows[0])
    assert "failed" in rows[3]
    assert "NaN" in rows[3]


def test_a_best_value_that_is_not_the_last_stands_in_brackets(run, tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="x").model("m")
    with model.session() as session:
        for epoch, loss in enumerate((0.5, 0.2, 0.3)):
            session.add_epoch(epoch, {"val_loss": loss, "acc": 1 - loss, "size": loss})
    assert re.search(r"0.3 \(0.2\) +0.7 \(0.8\) +0.3 +3", run("ls", tmp_path / "runs.json"))


def test_json_has_stable_keys(run, filled):
    first, *_, last = run.json("ls", filled)
    assert first.keys() == {
        "id", "parent", "experiment", "model", "status", "started", "ended", "duration", "age",
        "epochs", "tags", "note", "error", "params", "last", "best", "name", "group",
    }  # fmt: skip
    assert first["params"] == {"lr": 0.1, "seed": 0, "opt": {"name": "adam"}}
    assert first["last"] == {"loss": 0.5, "val_acc": 1 - 0.5 / 3, "test.acc": 0.5}
    assert first["best"] == {"loss": 0.5, "val_acc": 1 - 0.5 / 3, "test.acc": 0.5}
    assert first["epochs"] == 3
    assert (first["tags"], first["error"]) == (["thesis"], None)
    assert last["error"] == "ValueError: diverged"
    assert last["last"]["loss"] == "NaN"
    assert last["best"] == {"val_acc": 0.1}


HUGE = 3**60


@pytest.fixture
def with_huge(file_url):
    """A file with a session of whole numbers of more than 64 bits."""
    with (
        Experiment.use(file_url, exp_id="x").model("m").session({"n": HUGE, "é": -HUGE}) as session
    ):
        session.add_epoch(1, {"count": HUGE, "loss": float("nan")})
        session.add_result({"counts": [HUGE]})
    return file_url


def test_whole_numbers_of_more_than_64_bits_are_written_as_json_in_full(run, with_huge):
    (listed,) = run.json("ls", with_huge)
    assert listed["params"] == {"n": HUGE, "é": -HUGE}
    assert listed["last"] == {"count": HUGE, "loss": "NaN", "counts": [HUGE]}
    assert '"é"' in run("ls", with_huge, "--json")
    (best,) = run.json("best", "count", with_huge, "--mode", "max")
    assert best["value"] == HUGE
    shown = run.json("show", "@last", with_huge)
    assert shown["epoch_rows"][0]["count"] == HUGE
    assert shown["results"] == [{"index": None, "result": {"counts": [HUGE]}}]


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "html", "markdown"])
def test_whole_numbers_of_more_than_64_bits_are_exported(form, run, with_huge):
    shown = run("export", with_huge, "--format", form)
    assert (str(float(HUGE)) if form == "html" else str(HUGE)) in shown
    assert str(HUGE) in run("export", with_huge, "--format", "csv", "--table", "results")


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "--json"], ["show", "@last"]])
def test_whole_numbers_of_any_length_are_shown(arguments, terminal, tmp_path):
    path = tmp_path / "runs.json"
    with Experiment.use(path, exp_id="x").model("m").session({"n": 10**5000}) as session:
        session.add_epoch(1, {"count": 10**5000})
    code, shown = terminal(*arguments, path)
    assert code == 0, shown
    assert "10000000000" in shown


def test_nothing_found_is_exit_code_1_and_an_empty_list(run, filled):
    assert run.json("ls", filled, "--where", "loss > 99", code=1) == []
    assert "no session matches" in run.error("ls", filled, "--tag", "none", code=1)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--where", "params.lr < 0.05 and loss < 0.3"], 1),
        (["--where", "'thesis' in tags and params.opt.name == 'adam'"], 3),
        (["--status", "failed"], 1),
        (["--status", "running"], 0),
        (["--tag", "thesis"], 4),
        (["--limit", "2"], 2),
        (["--limit", "0"], 4),
    ],
)
def test_it_shows_those_that_fit(run, filled, arguments, count):
    assert len(run.json("ls", filled, *arguments, code=0 if count else 1)) == count


def test_limit_takes_the_newest_or_the_first_of_what_is_sorted(run, filled):
    assert run.json("ls", filled, "--limit", "1")[0]["params"]["lr"] == 10
    (best,) = run.json("ls", filled, "--sort", "loss", "--limit", "1")
    assert best["last"]["loss"] == 0.25


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("params.lr", [0.01, 0.01, 0.1, 10.0]),
        ("-params.lr", [10.0, 0.1, 0.01, 0.01]),
        ("best.loss", [0.01, 0.01, 0.1, 10.0]),  # sessions without a number come last
        ("-best.loss", [0.1, 0.01, 0.01, 10.0]),
        ("status", [0.1, 0.01, 0.01, 10.0]),
        ("-status", [10.0, 0.1, 0.01, 0.01]),
        ("epochs", [10.0, 0.1, 0.01, 0.01]),
        ("lr", [0.01, 0.01, 0.1, 10.0]),
    ],
)
def test_sorting(run, filled, key, order):
    listed = run.json("ls", filled, "--sort", key)
    assert [session["params"]["lr"] for session in listed] == order


def test_columns_are_those_asked_for(run, filled):
    shown = run("ls", filled, "--columns", "id,params.opt.name,best.loss,meta.python,started")
    header, first, *_ = shown.splitlines()
    assert header.split() == ["id", "params.opt.name", "best.loss", "meta.python", "started"]
    assert first.split()[1:3] == ["adam", "0.5"]


def test_csv_has_every_value(run, filled):
    rows = list(csv.DictReader(io.StringIO(run("ls", filled, "--csv"))))
    assert [float(row["params.lr"]) for row in rows] == [0.1, 0.01, 0.01, 10.0]
    assert float(rows[0]["last.loss"]) == 0.5
    assert rows[0]["params.opt.name"] == "adam"
    assert rows[3]["params.opt.name"] == ""


def test_groups_have_means_with_their_interval_and_how_many(run, filled):
    header, *rows = run("ls", filled, "--group-by", "params.lr").splitlines()
    assert header.split() == ["params.lr", "n", "failed", "val_acc", "test.acc", "loss"]
    assert rows[1].split()[:2] == ["0.01", "2"]
    assert rows[2].split() == ["10", "0", "1"]
    assert "0.30 ± 0.64" in rows[1]  # 12.706 * 0.0707 / sqrt(2)
    groups = run.json("ls", filled, "--group-by", "params.lr,status")
    assert groups[1]["group"] == {"params.lr": 0.01, "status": "completed"}
    assert groups[1]["metrics"]["loss"]["mean"] == pytest.approx(0.3)
    assert groups[1]["metrics"]["loss"]["margin"] == pytest.approx(12.7062 * 0.05, rel=1e-4)
    assert groups[0]["metrics"]["loss"] == {"mean": 0.5, "margin": None, "n": 1}
    assert (groups[1]["n"], len(groups[1]["sessions"])) == (2, 2)
    rows = list(csv.DictReader(io.StringIO(run("ls", filled, "--group-by", "params.lr", "--csv"))))
    assert float(rows[1]["loss.mean"]) == pytest.approx(0.3)


@pytest.mark.parametrize("command", [("ls",), ("export", "--format", "markdown")])
def test_groups_are_of_completed_sessions_with_the_others_counted_beside(command, run, tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="x").model("m")
    for seed, (status, loss) in enumerate([("completed", 1), ("completed", 1), ("failed", 99)]):
        session = model.session({"lr": 0.1, "seed": seed})
        session.add_epoch(1, {"loss": loss})
        session.end(status)
    running = model.session({"lr": 0.1, "seed": 3})
    running.add_epoch(1, {"loss": 50})
    head, *options = command
    shown = run(head, tmp_path / "runs.json", *options, "--group-by", "params.lr")
    cells = [line.replace("|", " ").split() for line in shown.splitlines()]
    assert cells[0] in (["params.lr", "n", "failed", "running", "loss"], ["lr", *cells[0][1:]])
    assert cells[-1] == ["0.1", "2", "1", "1", "1", "±", "0"]
    if head == "ls":
        [group] = run.json("ls", tmp_path / "runs.json", "--group-by", "params.lr")
        assert (group["n"], group["failed"], group["running"]) == (2, 1, 1)
        assert group["metrics"]["loss"] == {"mean": 1, "margin": 0, "n": 2}
        failed = run.json(
            "ls", tmp_path / "runs.json", "--group-by", "params.lr", "--status", "failed"
        )
        assert failed[0]["metrics"]["loss"]["mean"] == 99
    running.end()


def test_a_terminal_shows_the_newest_fifty_and_as_many_columns_as_fit(terminal, run, tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="x").model("m")
    for seed in range(60):
        with model.session({"seed": seed}) as session:
            session.add_epoch(1, {f"metric_number_{i}": i / 7 for i in range(9)})
    code, shown = terminal("ls", path, columns=80)
    lines = re.sub(r"\x1b\[\d*m", "", shown).splitlines()
    assert code == 0
    assert len(lines) == 2 + 50 + 2
    assert max(map(len, lines[:52])) <= 80
    assert lines[1].split()[:2] == ["session", "seed"]  # the status is the same in all
    assert "metric_number_0" in lines[1]
    assert lines[-2].startswith("(no room for ")
    assert "10 more sessions are hidden: --limit 0 shows all" in lines[-1]
    assert len(run("ls", path).splitlines()) == 2 + 60 + 1


@pytest.fixture
def mixed(tmp_path):
    """A file of very different experiments: most share a param, some have many of their own."""
    path = tmp_path / "runs.json"
    for number in range(30):
        model = Experiment.use(path, exp_id=f"exp{number // 15}").model("m")
        own = {f"own_setting_{number}_{i}": i for i in range(8)} if number < 3 else {}
        sparse = {"sometimes_set": number} if number % 5 == 0 else {}
        others = {f"option_number_{i}": number for i in range(20)} if number > 14 else {}
        with model.session({**own, **sparse, **others, "lr": number / 10}) as session:
            session.add_epoch(1, {"val_loss": 1 / (number + 1)})
    return path


@pytest.mark.parametrize("is_terminal", [True, False])
def test_of_a_mixed_file_what_most_sessions_have_gets_the_columns(
    is_terminal, run, terminal, mixed
):
    text = terminal("ls", mixed, columns=100)[1] if is_terminal else run("ls", mixed)
    _, header, *rows, no_room, few = re.sub(r"\x1b\[\d*m", "", text).splitlines()
    assert max(map(len, [header, *rows])) <= (100 if is_terminal else 200)
    assert len(rows) == 30
    assert {"session", "experiment", "lr", "val_loss"} <= set(header.split())
    assert not {"status", "epochs"} & set(header.split())  # the same in all
    assert "sometimes_set" not in header
    assert no_room.startswith("(no room for name, status, option_number_")
    assert "own_setting" not in header
    assert few.startswith("(in few sessions: own_setting_0_0, ")
    assert few.endswith(
        " and 18 more: select columns with --columns, or show all with --csv or --json)"
    )


def test_a_column_that_is_named_is_shown_however_rare(run, mixed):
    header, *rows = run("ls", mixed, "--columns", "id,params.own_setting_1_7").splitlines()
    assert header.split() == ["id", "params.own_setting_1_7"]
    assert [row.split()[1:] for row in rows if len(row.split()) > 1] == [["7"]]


@pytest.mark.parametrize("columns", [30, 40, 60, 100])
def test_metrics_named_as_columns_take_no_columns_place(columns, terminal, tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="x").model("m")
    for i in range(4):
        with model.session({"lr": i, **({"wd": i} if i < 2 else {})}) as session:
            metrics = {"params": {"wd": 0.5, "lr": 1.0}} if i < 2 else {"id": 1.0, "status": 3.0}
            session.add_epoch(0, {**metrics, "duration": 5.0, "loss": 0.5})
    _, shown = terminal("ls", path, columns=columns, NO_COLOR="1")
    header, row = (line.split() for line in shown.splitlines()[1:3])
    assert header[0] == "session"
    assert re.fullmatch("[0-9a-f]{8}", row[0])
    assert "lr" in header
    assert "no room for :" not in shown


def test_a_long_value_is_cut_unless_its_column_is_named(terminal, run, tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="x").model("m")
    for text in ("a" * 300, "b"):
        model.add_result({"loss": 1.0}, params={"text": text})
    assert "a" * 300 in run("ls", path, "--columns", "params.text")
    assert max(map(len, run("ls", path).splitlines())) <= 200
    assert "a" * 23 + "…" in terminal("ls", path)[1]


def test_what_is_written_meanwhile_is_no_trouble(run, filled):
    experiment = Experiment.use(filled, exp_id="digits")
    with experiment.model("net").session({"lr": 5.0}) as session:
        session.add_epoch(1, {"loss": 9.0})
        assert run.json("ls", filled, "--status", "running")[0]["id"] == session.id


def test_best_lists_the_sessions_from_the_best(run, filled):
    listed = run.json("best", "loss", filled)
    assert [session["value"] for session in listed] == [0.25, 0.35, 0.5]
    shown = run("best", "val_acc", filled, "--top", "2").splitlines()
    assert shown[0].split()[:3] == ["val_acc", "epoch", "session"]
    assert shown[1].split()[:2] == ["0.9167", "3"]
    assert len(shown) == 3


def test_best_goes_the_way_it_is_told(run, filled):
    assert run.json("best", "loss", filled, "--mode", "max")[0]["value"] == 1.5
    assert run.json("best", "loss", filled, "--where", "params.seed == 1")[0]["value"] == 0.35


def test_best_of_an_unknown_metric_names_those_there_are(run, filled):
    said = run.error("best", "vall_acc", filled, code=2)
    assert "no session has vall_acc; did you mean val_acc?" in said
    said = run.error("best", "unlike", filled, code=2)
    assert "there are loss, val_acc" in said
    said = run.error("best", "val_acc", filled, "--where", "params.lr > 100", code=1)
    assert "no matching session has numbers named 'val_acc'" in said


def test_best_asks_for_the_mode_of_a_metric_whose_name_implies_none(run, tmp_path):
    path = tmp_path / "runs.json"
    with Experiment.use(path, exp_id="x").model("m").session() as session:
        for epoch, speed in enumerate((1, 3, 2)):
            session.add_epoch(epoch, {"speed": speed})
    said = run.error("best", "speed", path)
    assert "does not imply whether higher is better: give the mode, 'min' or 'max'" in said
    assert run.json("best", "speed", path, "--mode", "max")[0]["value"] == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "--where", "vall_acc > 0"),
        ("ls", "--sort", "vall_acc"),
        ("ls", "--sort", "-vall_acc"),
        ("ls", "--group-by", "vall_acc"),
        ("ls", "--group-by", "params.lr,vall_acc", "--json"),
        ("ls", "--columns", "id,vall_acc"),
        ("export", "--format", "csv", "--where", "vall_acc > 0"),
        ("export", "--format", "csv", "--columns", "vall_acc"),
        ("export", "--format", "markdown", "--columns", "vall_acc"),
        ("export", "--format", "latex", "--group-by", "vall_acc"),
        ("export", "--format", "latex", "--group-by", "params.lr", "--columns", "vall_acc"),
    ],
)
def test_a_name_that_no_session_has_is_refused_with_the_nearest(run, filled, arguments):
    command, *options = arguments
    said = run.error(command, filled, *options, code=2)
    assert "no session has vall_acc; did you mean" in said
    assert "val_acc" in said.partition("did you mean")[2]


def test_show_best_and_diff_refuse_a_name_that_no_session_has(run, filled):
    said = run.error("best", "loss", filled, "--where", "vall_acc > 0", code=2)
    assert "no session has vall_acc; did you mean val_acc" in said
    said = run.error("show", "@last", filled, "--metrics", "los", code=2)
    assert "no session has los; did you mean loss?" in said
    said = run.error("diff", "param.lr == 0.1", "params.lr == 10", filled, code=2)
    assert "did you mean params.lr?" in said


def test_names_with_a_slash_stand_alone_without_backquotes(run, tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="x").model("m")
    for acc in (0.5, 0.9):
        model.add_result({"val/acc": acc}, params={"max depth": acc})
    for name in ("val/acc", "`val/acc`", 'last["val/acc"]'):
        first, _ = run.json("ls", path, "--sort", f"-{name}")
        assert first["last"]["val/acc"] == 0.9
    text = run("ls", path, "--columns", "val/acc,params.max depth")
    assert text.split()[-4:] == ["0.5", "0.5", "0.9", "0.9"]
    assert len(run.json("ls", path, "--where", "`val/acc` > 0.6 and `max depth` > 0.6")) == 1
    assert "did you mean `val/acc`?" in run.error("ls", path, "--where", "val/acc > 0.6", code=2)


def test_numbers_are_told_apart_and_never_rounded_before_the_point(run, tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="x").model("m")
    for seed, loss in ((20260101123456, 12345.678), (20260101123457, 12345.671)):
        model.add_result({"loss": loss, "same": 0.1}, params={"seed": seed})
    text = run("ls", path)
    assert "20260101123456" in text
    assert "20260101123457" in text
    assert "12345.68" in text
    assert "12345.67" in text
    grouped = run("ls", path, "--group-by", "experiment")
    assert "0.1 ± 0" in grouped
    assert run.json("ls", path)[0]["last"]["loss"] == 12345.678
    assert "loss=12345.678" in run("show", "@last", path).replace("12345.671", "12345.678")


def test_statistics_never_raise(run, tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="x").model("m")
    for i, loss in enumerate((0.5, 1e200, 10**400, float("nan"), -float("inf"))):
        with model.session({"i": i}) as session:
            session.add_epoch(1, {"loss": loss, "big": 1e308 * (-1) ** i})
            session.add_epoch(2, {"loss": 0.25, "big": loss})
    for arguments in (
        ("ls", path), ("ls", path, "--group-by", "experiment"), ("best", "loss", path),
        ("ls", path, "--group-by", "experiment", "--json"), ("show", "@last", path),
        ("ls", path, "--group-by", "params.i", "--csv"), ("ls", path, "--sort", "best.loss"),
        ("export", path, "--format", "latex", "--group-by", "experiment"),
    ):  # fmt: skip
        run(*arguments)


def test_every_kind_of_value_is_json(run, tmp_path):
    np = pytest.importorskip("numpy")
    path = tmp_path / "runs.json"
    with Experiment.use(path, exp_id="x").model("m").session({"betas": (0.9, 0.99)}) as session:
        session.add_result({"confusion": np.eye(2), "inf": float("inf"), "none": None})
    (shown,) = run.json("ls", path)
    assert shown["params"] == {"betas": [0.9, 0.99]}
    assert shown["last"] == {
        "confusion": [[1.0, 0.0], [0.0, 1.0]],
        "inf": "Infinity",
        "none": None,
    }
    with casket.open(path) as runs:
        assert json.loads(run("ls", path, "--json"))[0]["id"] == runs.sessions()[0].id


@pytest.mark.parametrize("columns", [40, 60, 100, 200])
def test_a_narrow_terminal_keeps_a_param_and_a_metric(columns, terminal, tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(path, exp_id="x", tags=("a-tag", "another-tag")).model("m")
    for lr in (0.1, 0.01, 0.001):
        with model.session({"lr": lr, "batch_size": 64}) as session:
            for epoch in range(int(lr * 1000)):
                session.add_epoch(epoch, {"val_loss": lr / (epoch + 1), "val_acc": 1 - lr})
    _, shown = terminal("ls", path, columns=columns, NO_COLOR="1")
    _, header, *rows = shown.splitlines()[:5]
    names = header.split()
    assert max(map(len, [header, *rows])) <= columns
    assert {"session", "lr", "val_loss"} <= set(names)
    # Made from ids: name. Constant: status and tags.
    order = ["name", "status", "tags", "age", "duration", "epochs", "val_acc"]
    hidden = [name for name in order if name not in names]
    assert hidden == order[: len(hidden)]
    assert (columns >= 100) == (hidden in ([], ["name"]))


def test_offset_skips_sessions(run, filled):
    every = [each["id"] for each in run.json("ls", filled)]
    assert [
        each["id"] for each in run.json("ls", filled, "--limit", "2", "--offset", "1")
    ] == every[1:3]
    assert [each["id"] for each in run.json("ls", filled, "--offset", "3")] == every[:1]
    ordered = [each["id"] for each in run.json("ls", filled, "--sort", "loss")]
    page = run.json("ls", filled, "--sort", "loss", "--limit", "2", "--offset", "1")
    assert [each["id"] for each in page] == ordered[1:3]
    assert run.json("ls", filled, "--offset", "9") == []


def test_ls_csv_and_export_agree(run, filled):
    assert run("ls", filled, "--csv") == run("export", filled, "--format", "csv")
    named = ("--columns", "session,params.lr,best.loss,epochs", "--sort", "-params.lr")
    text = run("ls", filled, "--csv", *named)
    assert text == run("export", filled, "--format", "csv", *named)
    assert text.splitlines()[0] == "session,params.lr,best.loss,epochs"
    assert [line.split(",")[1] for line in text.splitlines()[1:]] == ["10.0", "0.1", "0.01", "0.01"]
