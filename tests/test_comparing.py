"""Groups, rankings and differences in Python, as the command line shows them."""

import json
import math
import pickle

import pytest
from click.testing import CliRunner

import casket
from casket import BadExpression, BadLocation, Experiment, NoSuchSession, UnknownMode
from casket.cli.app import app

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")


@pytest.fixture(scope="module", params=["runs.json", "runs.sqlite"])
def path(request, tmp_path_factory):
    """Sessions of three rates with two seeds; one failed, one of another model, and children."""
    path = tmp_path_factory.mktemp("comparing") / request.param
    exp = Experiment.use(path, exp_id="digits")
    model = exp.model("net", {"units": 64})
    for lr, seed, loss in ((0.1, 0, 0.5), (0.1, 1, 0.75), (0.01, 0, 0.25), (0.01, 1, 0.375)):
        with model.session({"lr": lr, "seed": seed}) as session:
            for epoch in (1, 2):
                session.add_epoch(epoch, {"loss": loss * (3 - epoch), "speed": epoch})
            session.add_result({"acc": 1 - loss}, index_by="test")
            with session.child({"fold": 0}) as child:
                child.add_epoch(1, {"loss": 0.0001})
    with pytest.raises(ValueError, match="diverged"), model.session({"lr": 10.0, "seed": 0}):
        raise ValueError("diverged")
    with exp.model("tree").session({"depth": 3}) as session:
        session.add_result({"size": 7})
    exp.close()
    return str(path)


@pytest.fixture
def runs(path):
    with casket.open(path) as runs:
        yield runs


def command(*arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout


def ids(sessions):
    return [session.id for session in sessions]


def test_a_session_is_found_by_its_id_and_its_beginning(runs):
    first, *others = runs.sessions()
    length = next(n for n in range(1, 17) if not any(o.id[:n] == first.id[:n] for o in others))
    assert runs[first.id] is first
    assert runs[first.children[0].id] is first.children[0]
    assert runs["@last"].model == "tree"
    assert runs.sessions()[0].id.startswith(first.id[:length])


def test_a_session_that_is_not_there_and_an_ambiguous_one_are_refused(runs, path):
    with pytest.raises(NoSuchSession, match="matches 'zz'") as error:
        runs["zz"]
    assert isinstance(error.value, KeyError)
    assert error.value.matching == []
    assert path in str(error.value)
    with pytest.raises(NoSuchSession, match="ambiguous") as error:
        runs[""]
    assert set(error.value.matching) == set(ids(runs.sessions(children=True)))
    assert error.value.matching[0] in str(error.value)
    assert pickle.loads(pickle.dumps(error.value)).matching == error.value.matching


@pytest.mark.parametrize("frame", ["to_pandas", "to_polars"])
def test_frames_take_the_filters_of_sessions(frame, runs):
    def sessions(table="sessions", **filters):
        return sorted(set(getattr(runs, frame)(table, **filters)["session"]))

    assert sessions(where="params.lr == 0.1") == sorted(
        ids(runs.sessions(where="params.lr == 0.1"))
    )
    assert sessions(status="failed") == ids(runs.sessions(status="failed"))
    assert sessions(model="tree", experiment="digits") == ids(runs.sessions(model="tree"))
    assert sessions(experiment="other") == []
    assert len(sessions()) == 6
    assert len(sessions(children=True)) == 10
    assert len(sessions("epochs", where="seed == 1")) == 2
    with pytest.raises(BadLocation):
        sessions(status="done")


@pytest.mark.parametrize("table", ["sessions", "epochs", "batches", "results"])
def test_frames_name_the_parent(table, runs):
    parents = {view.id: view.parent_id for view in runs.sessions(children=True)}
    for frame in (runs.to_pandas(table, children=True), runs.to_polars(table, children=True)):
        pairs = zip(frame["session"], frame["parent"], strict=True)
        assert all(parents[s] == (None if pd.isna(parent) else parent) for s, parent in pairs)
    assert runs.to_pandas(table)["parent"].isna().all()


def test_groups_are_those_of_the_command_line(runs, path):
    listed = json.loads(command("ls", path, "--group-by", "params.lr,params.seed", "--json"))
    groups = runs.group_by("params.lr", "params.seed")
    assert [group.as_json() for group in groups] == listed
    assert groups[0].values == {"params.lr": 0.1, "params.seed": 0}


def test_a_group_has_n_mean_and_interval(runs):
    high, low, failed, tree = runs.group_by("params.lr")
    assert [group.n for group in (high, low, failed, tree)] == [2, 2, 0, 1]
    assert (high.mean("loss"), low.mean("loss")) == (0.625, 0.3125)
    assert low.interval("loss").margin == pytest.approx(12.706 * 0.0625, rel=1e-3)
    assert low.mean("test.acc") == low.mean("acc") == 0.6875
    assert math.isnan(failed.mean("loss"))
    assert math.isnan(tree.mean("loss"))
    assert ids(failed.others) == ids(runs.sessions(status="failed"))
    with pytest.raises(BadExpression, match="did you mean loss"):
        failed.mean("los")
    for frame in (low.to_pandas(), low.to_polars()):
        assert list(frame["params.seed"]) == [0, 1]
    assert len(low.to_pandas("epochs")) == 4


def test_the_mean_of_all_groups_is_that_of_the_command_line(runs, path):
    means = runs.group_by("params.lr").mean("loss")
    rows = command("ls", path, "--group-by", "params.lr", "--json")
    assert [(each.values, each.mean, each.n) for each in means if each.n] == [
        (row["group"], row["metrics"]["loss"]["mean"], row["metrics"]["loss"]["n"])
        for row in json.loads(rows)
        if "loss" in row["metrics"]
    ]
    for frame in (means.to_pandas(), means.to_polars()):
        assert list(frame.columns) == ["params.lr", "mean", "margin", "n"]
        assert list(frame["mean"])[:2] == [0.625, 0.3125]
    with pytest.raises(BadExpression, match="did you mean loss"):
        runs.group_by("params.lr").mean("los")


def test_groups_take_filters_and_are_frames(runs, path):
    (group,) = runs.group_by("params.lr", status="failed", model="net", where="lr > 1")
    assert (group.n, list(group.others)) == (1, [])
    assert runs.group_by("params.lr", experiment="other") == []
    assert [group.n for group in runs.group_by("params.fold", children=True)] == [5, 4]
    frame = runs.group_by("params.lr").to_pandas()
    header = command("ls", path, "--group-by", "params.lr", "--csv").splitlines()[0]
    assert list(frame.columns) == header.split(",")
    assert list(frame["loss.mean"])[:2] == [0.625, 0.3125]
    with pytest.raises(BadExpression, match=r"no session has params\.rate"):
        runs.group_by("params.rate")


def test_the_best_sessions_are_those_of_the_command_line(runs, path):
    listed = json.loads(command("best", "loss", path, "--json"))
    ranking = runs.best("loss")
    assert [(each.value, each.session.id) for each in ranking] == [
        (row["value"], row["id"]) for row in listed
    ]
    assert [each.value for each in ranking] == [0.25, 0.375, 0.5, 0.75]
    assert [each.epoch for each in ranking] == [2] * 4
    assert (ranking.metric, ranking.mode) == ("loss", "min")
    for frame in (ranking.to_pandas(), ranking.to_polars()):
        assert list(frame["value"]) == [0.25, 0.375, 0.5, 0.75]
        assert list(frame["params.lr"]) == [0.01, 0.01, 0.1, 0.1]


def test_best_takes_a_mode_a_condition_and_a_number(runs):
    assert [each.value for each in runs.best("loss", "max", top=2)] == [1.5, 1.0]
    assert [each.value for each in runs.best("loss", where="seed == 1")] == [0.375, 0.75]
    assert [each.value for each in runs.best("acc", top=1)] == [0.75]
    assert [each.epoch for each in runs.best("acc", top=1)] == [None]
    assert runs.best("loss", where="lr > 1") == []
    assert {each.value for each in runs.best("loss", children=True, top=4)} == {0.0001}
    with pytest.raises(UnknownMode, match="'speed' does not imply"):
        runs.best("speed")
    with pytest.raises(BadExpression, match="did you mean loss"):
        runs.best("los")


def test_a_difference_is_that_of_the_command_line(runs, path):
    one, other = runs.sessions()[:2]
    difference = runs.diff(one.id, other)
    assert difference.as_json() == json.loads(
        command("diff", one.id, other.id, path, "--json", code=1)
    )
    assert difference.params == {"params": (None, None)} or difference.params == {"seed": (0, 1)}
    assert difference.metrics["loss"] == (0.5, 0.75)
    assert (difference.a.ids, difference.b.ids) == ([one.id], [other.id])
    assert difference
    assert not runs.diff(one, one.id)
    assert runs.diff(one, other, all=True).params == {"lr": (0.1, 0.1), "seed": (0, 1)}


def test_a_difference_of_groups_compares_means(runs, path):
    sides = ("lr == 0.1", "lr == 0.01")
    difference = runs.diff(*sides)
    listed = json.loads(command("diff", *sides, path, "--json", code=1))
    assert difference.as_json() == listed
    assert [each.mean for each in difference.metrics["loss"]] == [0.625, 0.3125]
    lists = runs.diff(runs.sessions(where=sides[0]), lambda each: each.params.get("lr") == 0.01)
    assert lists.as_json() == listed
    for frame in (difference.to_pandas(), difference.to_polars()):
        assert list(frame.columns) == ["part", "name", "a", "b", "a.margin", "b.margin"]
    rows = difference.to_pandas().set_index("name")
    assert (rows.loc["loss", "a"], rows.loc["loss", "part"]) == (0.625, "metrics")
    with pytest.raises(NoSuchSession, match="lr == 7"):
        runs.diff("lr == 7", "@last")
    with pytest.raises(NoSuchSession):
        runs.diff("zz", "@last")
    assert len(runs.diff("fold == 0", "@last", children=True).a.ids) == 4


def test_ls_lists_children_under_their_parents(runs, path):
    def listed(*options):
        return [row["id"] for row in json.loads(command("ls", path, "--json", *options))]

    assert listed() == ids(runs.sessions())
    under = [each for view in runs.sessions() for each in (view, *view.children)]
    assert listed("--children") == ids(under)
    lines = command("ls", path, "--children", "--columns", "session,params.lr").splitlines()[1:]
    assert [line.startswith("└ ") for line in lines] == [view.parent is not None for view in under]
    assert all(one["parent"] is None for one in json.loads(command("ls", path, "--json")))
    best = json.loads(command("best", "loss", path, "--children", "--top", 1, "--json"))
    assert best[0]["parent"] in ids(runs.sessions())


def test_show_lists_the_children(runs, path):
    parent = runs.sessions()[0]
    shown = command("show", parent.id, path)
    line = next(line for line in shown.splitlines() if parent.children[0].id[:8] in line)
    assert "completed" in line
    assert "fold=0" in line
    assert "loss=0.0001" in line
    (child,) = json.loads(command("show", parent.id, path, "--json"))["children"]
    assert (child["id"], child["status"]) == (parent.children[0].id, "completed")
    assert parent.id[:8] in command("show", child["id"][:12], path)


def test_exports_have_children_on_request(path):
    counts = [
        len(command("export", path, "--format", "jsonl", *options).splitlines())
        for options in ((), ("--children",))
    ]
    assert counts == [6, 10]


def test_a_report_has_the_children_of_its_sessions(runs, path):
    for options in ((), ("--children",)):
        report = command("export", path, "--format", "html", "--where", "seed == 1", *options)
        held = [view.id for view in runs.sessions(children=True) if view.id in report]
        wanted = runs.sessions(where="seed == 1")
        assert set(held) == {each.id for view in wanted for each in (view, *view.children)}


def test_a_session_is_found_by_its_name_unless_several_have_it(tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="digits").model("net")
    with (
        model.session({"lr": 1}, name="warm start") as session,
        session.child({"fold": 0}, name="first fold"),
    ):
        session.add_result({"acc": 1.0})
    model.session({"lr": 2}, name="twice").end()
    model.session({"lr": 3}).end()
    with casket.open(tmp_path / "runs.json", writing=True) as runs:
        last = runs["@last"]
        assert runs["warm start"].id == session.id
        assert runs["first fold"] is runs["warm start"].children[0]
        assert runs[last.name] is last
        assert runs.diff("warm start", "twice").params == {"lr": (1, 2)}
        runs.rename(last, "twice")
        with pytest.raises(NoSuchSession, match="ambiguous") as error:
            runs["twice"]
        assert error.value.matching == [view.id for view in runs.sessions()[1:]]
        runs.rename("first fold", "")
        assert runs["warm start"].children[0].named is None


def test_a_value_named_as_a_count_is_kept(tmp_path):
    model = Experiment.use(str(tmp_path / "n.json"), exp_id="exp").model("net")
    for n in (10, 20):
        with model.session({"n": n, "mean": "x"}) as session:
            session.log({"loss": n / 10})
    groups = casket.open(tmp_path / "n.json").group_by("n", "mean")
    frame = groups.to_pandas()
    assert (list(frame["params.n"]), list(frame["n"]), list(frame["mean"])) == (
        [10, 20],
        [1, 1],
        ["x", "x"],
    )
    means = groups.mean("loss").to_pandas()
    assert (list(means["params.n"]), list(means["n"])) == ([10, 20], [1, 1])
    assert (list(means["params.mean"]), list(means["mean"])) == (["x", "x"], [1.0, 2.0])
    table = command("ls", str(tmp_path / "n.json"), "--group-by", "n").splitlines()
    assert table[0].split()[:2] == ["params.n", "n"]
    assert [line.split()[:2] for line in table[1:]] == [["10", "1"], ["20", "1"]]


def test_a_group_does_not_differ_from_itself(runs):
    condition = "lr == 0.1 and seed == 1"
    assert math.isnan(runs.diff(condition, condition, all=True).metrics["loss"][0].margin)
    assert not runs.diff(condition, condition, all=True)


def test_a_session_is_not_given_as_a_number(runs):
    with pytest.raises(TypeError, match="5: give an id"):
        runs[5]
    with pytest.raises(TypeError, match="5: give a session"):
        runs.diff(runs.sessions()[0], 5)


def test_the_epochs_of_the_best_are_in_the_json(runs, path):
    listed = json.loads(command("best", "loss", path, "--json"))
    assert [each["epoch"] for each in listed] == [each.epoch for each in runs.best("loss")]
    assert listed[0]["epoch"] == 2
