"""`casket show`, `diff`, `tag`, `untag`, `note` and `sync`."""

import re
from itertools import pairwise

import pytest

import casket
from casket import EditableCasket, Experiment


def plain(text):
    return re.sub(r"\x1b\[\d*m", "", text)


def test_a_session_is_shown_with_all_that_is_known(run, filled, tmp_path):
    model = Experiment.use(filled, exp_id="digits").model("net")
    with model.session({"lr": 7.0, "layers": [8, 8]}) as session:
        session.add_epoch(1, {"loss": 0.5, "val_loss": 0.6})
        session.add_epoch(2, {"loss": 0.4, "val_loss": 0.7})
        session.add_meta({"gpu": "A100"})
        session.add_result({"acc": 0.9}, index_by="test")
        session.add_artifact("notes.txt", b"hello")
    shown = run("show", "@last", filled)
    for line in (
        rf"session {session.id}  {session.name}  completed",
        r"experiment digits, model net",
        r"started .* UTC, took \d",
        r"tags thesis",
        r"  lr +7",
        r"  layers +\[8, 8\]",
        r"  units +64",
        r"  gpu +A100",
        r"  notes.txt +5 bytes, text/plain, runs\.\w+\.files/",
        r"results test\n  acc=0.9",
        r"loss 0.4, val_loss 0.7 \(best 0.6\)",
    ):
        assert re.search(line, shown), line
    assert "⠀" in shown  # a curve of braille dots


def test_a_failed_session_shows_its_error(run, filled):
    assert "ValueError: diverged" in run("show", "@last", filled)


def test_plots_stand_side_by_side_in_a_wide_terminal(filled, terminal):
    with casket.open(filled) as runs:
        first = runs.sessions()[0].id
    wide, narrow = (
        plain(terminal("show", first, filled, columns=n)[1]).splitlines() for n in (170, 100)
    )

    def plots_in(line):
        return line.count("(loss)") + line.count("(val_acc)")

    assert max(map(plots_in, wide)) == 2
    assert max(map(plots_in, narrow)) == 1
    assert max(map(len, wide)) <= 170


def test_diff_draws_the_curves_of_both_sessions_in_one_plot(run, filled):
    with casket.open(filled) as runs:
        first, second = (view.id for view in runs.sessions()[:2])
    shown = run("diff", first, second, filled, "--curves", code=1)
    assert re.search(rf"loss of {first[:8]} 0.5, loss of {second[:8]} 0.25", shown)
    assert shown.count("(loss of") == 1
    assert "(loss of" not in run("diff", first, second, filled, code=1)
    groups = run("diff", "params.lr == 0.1", "params.lr == 0.01", filled, "--curves", code=1)
    assert groups.count("loss of") == 4  # three sessions, and the label of the axis


def test_only_the_curves_asked_for_are_drawn(run, filled):
    with casket.open(filled) as runs:
        first = runs.sessions()[0].id
    shown = run("show", first, filled, "--metrics", "loss")
    assert "(loss)" in shown
    assert "(val_acc)" not in shown


def test_curves_of_batches_where_there_are_no_epochs(run, tmp_path):
    with Experiment.use(tmp_path / "a.json", exp_id="x").model("m").session() as session:
        for step in range(20):
            session.add_batch(step, {"loss": 1 / (step + 1)}, epoch=1)
    shown = run("show", "@last", tmp_path / "a.json")
    assert "(batch)" in shown
    assert "loss 0.05" in shown


def test_the_curve_of_batches_numbered_anew_in_each_epoch_has_every_epoch(run, tmp_path):
    with Experiment.use(tmp_path / "a.json", exp_id="x").model("m").session() as session:
        for epoch in range(10):
            for batch in range(5):
                session.add_batch(batch, {"loss": 100 - 10 * epoch - batch}, epoch=epoch)
    shown = run("show", "@last", tmp_path / "a.json", "--metrics", "loss")
    lines = shown.splitlines()
    [axis] = [i for i, line in enumerate(lines) if "(batch)" in line]
    first, *_, last = map(float, lines[axis + 1].split("|")[1].split())
    assert (first, last) == (0, 50)
    assert "⠀" in shown


def test_a_curve_of_one_value_and_of_none_that_is_finite_is_no_trouble(run, tmp_path):
    with Experiment.use(tmp_path / "a.json", exp_id="x").model("m").session() as session:
        for epoch in range(3):
            session.add_epoch(epoch, {"same": 1.0, "nan": float("nan"), "word": "a"})
    assert "same 1" in run("show", "@last", tmp_path / "a.json")


def test_show_as_json_has_every_row(run, filled):
    with casket.open(filled) as runs:
        first = runs.sessions()[0]
    described = run.json("show", first.id[:12], filled)
    assert described["epoch_rows"] == first.epochs
    assert described["results"] == [{"index": "test", "result": {"acc": 0.5}}]
    assert described["config"] == {"units": 64}
    assert described["meta"]["host"] == first.meta["host"]
    assert (described["artifacts"], described["batch_rows"]) == ([], [])


def test_in_a_terminal_lines_are_cut_to_its_width(terminal, tmp_path):
    path = tmp_path / "runs.json"
    Experiment.use(path, exp_id="x").model("m").add_result({"text": "long " * 100})
    _, shown = terminal("show", "@last", path, columns=70)
    assert max(map(len, plain(shown).splitlines())) <= 70


def test_diff_shows_what_differs_and_exits_with_1(run, filled):
    with casket.open(filled) as runs:
        one, other = (session.id for session in runs.sessions()[:2])
    shown = run("diff", one, other[:8], filled, code=1)
    assert re.search(r"params +\w{8} [a-z-]+ +\w{8} [a-z-]+\nlr +0.1 +0.01\n", shown)
    assert re.search(r"loss +0.5 +0.25", shown)
    assert "seed" not in shown
    assert "pid" not in shown
    assert re.search(r"seed +0 +0", run("diff", one, other, filled, "--all", code=1))
    differences = run.json("diff", one, other, filled, code=1)
    assert differences["params"] == {"lr": {"a": 0.1, "b": 0.01}}
    assert differences["metrics"]["loss"] == {"a": 0.5, "b": 0.25}
    assert (differences["a"], differences["b"]) == ([one], [other])


def test_diff_of_a_session_with_itself_finds_nothing(run, filled):
    assert "no difference" in run("diff", "@last", "@last", filled)


def test_diff_of_groups_compares_means(run, filled):
    shown = run("diff", "params.lr == 0.1", "params.lr < 0.05", filled, code=1)
    assert re.search(r"sessions +1 +2", shown)
    assert re.search(r"seed +0 +0, 1", shown)
    assert "0.30 ± 0.64" in shown
    said = run.error("diff", "params.lr > 99", "@last", filled, code=1)
    assert f"no session of {filled} matches 'params.lr > 99'" in said


def test_tags_come_and_go(run, filled):
    run("tag", "@last", "bad", "look again", "-f", filled)
    assert run.json("show", "@last", filled)["tags"] == ["thesis", "bad", "look again"]
    run("untag", "@last", "bad", "never there", "-f", filled)
    assert run.json("show", "@last", filled)["tags"] == ["thesis", "look again"]
    assert len(run.json("ls", filled, "--tag", "look again")) == 1
    run("tag", "digits", "paper", "-f", filled)
    assert len(run.json("ls", filled, "--tag", "paper")) == 4
    run("untag", "digits", "thesis", "-f", filled)
    assert run.json("ls", filled, "--tag", "thesis", code=1) == []


def test_a_note_is_replaced_and_changes_nothing_else(run, filled):
    before = run.json("show", "@last", filled)
    run("note", "@last", "diverged", "-f", filled)
    run("note", "@last", "diverged: the schedule was wrong", "-f", filled)
    after = run.json("show", "@last", filled)
    assert after["note"] == "diverged: the schedule was wrong"
    assert {**after, "note": "", "age": 0} == {**before, "age": 0}
    assert len(run.json("ls", filled, "--where", "'schedule' in note")) == 1
    assert "note diverged: the schedule" in run("show", "@last", filled)
    run("note", "@last", "", "-f", filled)
    assert run.json("show", "@last", filled)["note"] == ""
    run("note", "digits", "for the thesis", "-f", filled)
    with casket.open(filled) as runs:
        assert runs.experiments[0].note == "for the thesis"


def test_tagging_needs_something_to_tag(run, filled):
    said = run.error("tag", "abcz", "x", "-f", filled, code=1)
    assert f"no session of {filled} matches 'abcz'" in said
    assert "Missing argument" in run.error("tag", "@last", "-f", filled)


def test_a_file_that_goes_away_before_it_is_tagged_is_not_made_anew(
    run, filled, tmp_path, monkeypatch
):
    def found_and_removed(runs, what):
        session = runs[what]
        for path in tmp_path.glob("runs.*"):
            path.unlink()
        return session

    monkeypatch.setattr(EditableCasket, "target", found_and_removed)
    assert "it was moved or deleted meanwhile" in run.error("tag", "@last", "bad", "-f", filled)
    assert not list(tmp_path.glob("runs.*"))


def test_a_file_is_not_taken_for_a_tag(run, filled):
    assert f"give the file as `-f {filled}`" in run.error(
        "tag", "@last", "bad", filled, "-f", filled
    )
    assert "bad" not in run.json("show", "@last", filled)["tags"]


@pytest.mark.parametrize("arguments", [["sync"], ["sync", "--status"]])
def test_sync_has_nothing_to_ship(run, arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert "no pending records" in run(*arguments)
    assert run.json(*arguments) == []


@pytest.mark.parametrize("epochs", [2, 3, 10, 37, 250])
@pytest.mark.parametrize("scale", [1.0, 1e-5, 3e4])
def test_curves_have_round_ticks_whole_epochs_and_no_axis_below_zero(epochs, scale, run, tmp_path):
    path = tmp_path / "runs.json"
    with Experiment.use(path, exp_id="x").model("m").session() as session:
        for epoch in range(1, epochs + 1):
            session.add_epoch(epoch, {"loss": scale / epoch})
    plot = run("show", "@last", path).partition("(loss)")[2].splitlines()
    ticks = [float(match[1]) for line in plot if (match := re.match(r" *([\d.e-]+) \|", line))]
    assert min(ticks) >= 0
    steps = {round((a - b) / scale, 9) for a, b in pairwise(ticks)}
    assert len(steps) == 1
    assert all(len(f"{tick:.7g}".replace("0", "").replace(".", "")) <= 6 for tick in ticks)
    numbers = plot[-1].replace("|", "").split()
    assert numbers == [str(int(number)) for number in numbers]
    assert len(set(numbers)) == len(numbers) > 1


def test_show_has_tables_of_epochs_batches_and_results(run, terminal, tmp_path):
    path = tmp_path / "runs.json"
    with Experiment.use(path, exp_id="x").model("m").session() as session:
        for epoch in (1, 2):
            session.add_epoch(epoch, {"loss": 1 / epoch, **{f"long_name_{i}": i for i in range(9)}})
            session.add_batch(1, {"loss": 0.75}, epoch=epoch)
        session.add_result({"acc": 0.5, "by": {"a": 1}}, index_by="test")
    header, first, second = run("show", "@last", path, "--epochs", "--metrics", "loss").splitlines()
    assert (header.split(), first.split(), second.split()) == (
        ["epoch_num", "loss"], ["1", "1"], ["2", "0.5"],
    )  # fmt: skip
    batches = run("show", "@last", path, "--batches", "--metrics", "loss").splitlines()
    assert [line.split() for line in batches[1:]] == [["1", "1", "0.75"], ["1", "2", "0.75"]]
    results = run("show", path, "--results").splitlines()
    assert results[0].split()[:3] == ["index", "acc", "by.a"]
    assert results[1].split()[:3] == ["test", "0.5", "1"]
    shown = terminal("show", path, "--epochs", columns=60)[1].splitlines()
    assert max(map(len, shown[:3])) <= 60
    paged = terminal("show", path, "--epochs", "--page", columns=60, PAGER="cat")[1]
    assert "long_name_8" in paged.splitlines()[0]
