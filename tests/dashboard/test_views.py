"""The views beside the table, driven in a browser: comparison, exploration, a session's page."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from casket import Experiment
from tests.dashboard.asking import settle

expect = pytest.importorskip("playwright.sync_api").expect

HOSTILE = "<img src=x onerror=alert(1)>"
CHART = """async (title) => {
  const echarts = await import("echarts");
  const element = document.querySelector(`section[aria-labelledby=${title}] .echart`);
  return element ? echarts.getInstanceByDom(element) : undefined;  // not drawn yet
}"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "runs.json"


@pytest.fixture
def model(file):
    return Experiment.use(str(file), exp_id="digits").model("net", model_config={"units": 64})


@pytest.fixture
def runs(model):
    """Twelve sessions: the lower lr the better; two seeds each; ids in the order they ran."""
    ids = []
    for lr in (0.1, 0.01, 0.001):
        for opt in ("adam", "sgd"):
            for seed in (0, 1):
                with model.session({"lr": lr, "opt": {"name": opt}, "seed": seed}) as session:
                    for epoch in range(1, 4):
                        acc = 0.5 - math.log10(lr) / 10 + seed / 100 + epoch / 100
                        session.add_epoch(epoch, {"loss": 1 - acc, "acc": acc})
                ids.append(session.id)
    return ids


def selecting(ids):
    return ",".join(f"0.{one}" for one in ids)


def center_of(page, title):
    page.wait_for_function(f"async () => (await ({CHART})('{title}')) !== undefined")
    page.locator(f"section[aria-labelledby={title}] canvas").first.scroll_into_view_if_needed()
    return page.locator(f"section[aria-labelledby={title}] canvas").first.bounding_box()


def pixel_of(page, title, finder, value):
    """Where a value of a chart is on the screen."""
    box = center_of(page, title)
    x, y = page.evaluate(
        f"async ([title, finder, value]) => (await ({CHART})(title)).convertToPixel(finder, value)",
        [title, finder, value],
    )
    return box["x"] + x, box["y"] + y


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=4)
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def row_of(page, name):
    return page.locator("table.side-by-side tr", has=page.get_by_role("rowheader", name=name))


def test_comparison_shows_what_differs_and_marks_the_best(serve, page, file, runs):
    page.goto(f"{serve(file)}#view=compare&selected={selecting([runs[0], runs[8]])}")
    lr = row_of(page, re.compile("^lr$")).first
    expect(lr.get_by_role("cell")).to_have_text(["0.1", "0.001"])
    loss = row_of(page, re.compile("^loss$")).first
    expect(loss.get_by_role("cell").nth(1)).to_contain_text("best")
    expect(loss.get_by_role("cell").nth(0)).not_to_contain_text("best")
    expect(row_of(page, re.compile("^seed$"))).to_have_count(0)
    expect(page.locator(".compare figure.chart figcaption strong")).to_have_text(["acc", "loss"])
    page.get_by_label("Show equal rows").check()
    expect(row_of(page, re.compile("^seed$")).get_by_role("cell")).to_have_text(["0", "0"])
    expect(page).to_have_url(re.compile("explore.all=true"))


def test_nan_is_compared_as_the_number_that_it_is(serve, page, file, model, runs):
    with model.session({"lr": 9}) as session:
        session.add_epoch(1, {"loss": math.nan})
    page.goto(f"{serve(file)}#view=compare&selected={selecting([runs[0], session.id, runs[8]])}")
    cells = row_of(page, re.compile("^loss$")).first.get_by_role("cell")
    expect(cells.nth(1)).to_have_text("NaN")
    expect(cells.nth(1)).to_have_class("number")
    expect(cells.nth(0)).to_have_class("number")
    expect(cells.nth(2)).to_contain_text("best")


def test_a_session_can_be_left_out_of_a_comparison(serve, page, file, runs):
    page.goto(f"{serve(file)}#view=compare&selected={selecting(runs[:3])}")
    expect(page.locator(".side-by-side thead a")).to_have_count(3)
    page.get_by_role("button", name=f"Leave out {runs[1]}").click()
    expect(page.locator(".side-by-side thead a")).to_have_count(2)


def test_fifty_sessions_stand_side_by_side(serve, page, file, model):
    ids = []
    for number in range(50):
        with model.session({"number": number}) as session:
            session.add_epoch(1, {"loss": number})
        ids.append(session.id)
    page.goto(f"{serve(file)}#view=compare&selected={selecting(ids)}")
    number = row_of(page, re.compile("^number$"))
    expect(number.get_by_role("cell")).to_have_text([str(n) for n in range(50)])
    heads = page.locator(".side-by-side tbody th[scope=row]").first
    left = heads.bounding_box()["x"]
    page.locator(".compare .scroll").evaluate("element => element.scrollTo(2000, 0)")
    assert heads.bounding_box()["x"] == left


@pytest.mark.parametrize("count", [0, 1])
def test_a_comparison_of_fewer_than_two_says_what_to_do(serve, page, file, runs, count):
    page.goto(f"{serve(file)}#view=compare&selected={selecting(runs[:count])}")
    expect(page.get_by_text("Select two sessions or more")).to_be_visible()
    page.get_by_role("button", name="To the sessions").click()
    expect(page).not_to_have_url(re.compile("view=compare"))


def test_groups_are_compared_by_mean_and_interval(serve, page, file, runs):
    page.goto(f"{serve(file)}#view=compare&group=params.lr")
    heads = page.locator(".side-by-side thead th")
    expect(heads.nth(1)).to_contain_text("lr = 0.1")
    expect(heads.nth(3)).to_contain_text("lr = 0.001")
    expect(heads.nth(1)).to_contain_text("4 sessions")
    acc = row_of(page, re.compile("^acc$")).first.get_by_role("cell")
    expect(acc.nth(2)).to_have_text(re.compile(r"0\.8350 ± 0\.0092 \(n=4\)"))
    expect(row_of(page, re.compile("^seed$"))).to_have_count(0)


def test_importance_ranks_the_params_and_puts_one_on_the_scatter(serve, page, file, runs):
    page.goto(f"{serve(file)}#view=explore&explore.metric=acc")
    params = page.locator(".importance button")
    expect(params.first).to_contain_text("lr")
    expect(params.first).to_contain_text("↘")
    page.get_by_role("button", name=re.compile("seed")).first.click()
    expect(page.get_by_role("heading", name="acc against params.seed")).to_be_visible()
    expect(page).to_have_url(re.compile("explore.x=params.seed"))


def test_a_chart_says_which_sessions_it_leaves_out_and_why(serve, page, file, model, runs):
    with model.session({"lr": 0, "opt": {"name": "adam"}}) as session:
        session.add_epoch(1, {"acc": 0.5})
    with model.session({"lr": 0.5}) as session:
        session.add_epoch(1, {"acc": math.nan})
    with model.session({"opt": {"name": "sgd"}}) as session:
        session.add_epoch(1, {"acc": 0.5})
    state = "explore.x=params.lr&explore.y=acc&explore.logX=true&explore.metric=acc"
    page.goto(f"{serve(file)}#view=explore&{state}")
    scatter = page.locator("section[aria-labelledby=scatter-title]")
    expect(scatter).to_contain_text("12 of 15 sessions shown")
    expect(scatter).to_contain_text("1 with acc NaN")
    expect(scatter).to_contain_text("1 with params.lr ≤ 0, not on a log axis")
    expect(scatter).to_contain_text("1 without params.lr")
    page.get_by_label("logarithmic axis for params.lr").uncheck()
    expect(scatter).to_contain_text("13 of 15 sessions shown")


def test_the_points_of_a_scatter_are_a_table_too_and_open_their_session(serve, page, file, runs):
    page.goto(f"{serve(file)}#view=explore&explore.x=params.lr")
    page.get_by_text("The same as a table").click()
    table = page.get_by_label("The points as a table")
    expect(table.get_by_role("row")).to_have_count(13)
    table.locator(f"a[title^='{runs[0]}']").click()
    expect(page.get_by_role("article", name=f"Session {runs[0]}")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name=re.compile("against params.lr"))).to_be_visible()


def test_a_click_on_a_point_opens_its_session(serve, page, file, runs):
    page.goto(f"{serve(file)}#view=explore&explore.x=params.seed&explore.y=params.lr")
    page.get_by_label("logarithmic axis for params.lr").uncheck()
    settle(page)
    page.mouse.click(*pixel_of(page, "scatter-title", {"gridIndex": 0}, [1, 0.1]))
    expect(page.get_by_role("article")).to_have_attribute(
        "aria-label", re.compile(f"Session ({runs[1]}|{runs[3]})")
    )


def colors_of_points(page):
    """The colors of a scatter's points, by session."""
    center_of(page, "scatter-title")
    return page.evaluate(
        f"""async () => {{
          const data = (await ({CHART})("scatter-title")).getModel().getSeriesByIndex(0).getData();
          const color = (i) => data.getItemVisual(i, "style").fill;
          return Object.fromEntries(data.mapArray((i) => [data.getRawDataItem(i).key, color(i)]));
        }}"""
    )


def ends_of_colors(page, title):
    """The texts at the ends of a chart's bar of colors."""
    text = f"async (title) => (await ({CHART})(title))?.getOption()?.visualMap?.[0].text"
    return page.wait_for_function(text, arg=title).json_value()


def test_points_are_colored_by_a_third_fact(serve, page, file, model, runs):
    with model.session({"lr": 0.1, "opt": {"name": "sgd"}}) as session:
        session.add_epoch(1, {"loss": 0.5, "acc": 0.5})
    address = serve(file)
    page.goto(f"{address}#view=explore&explore.x=params.lr&explore.color=params.seed")
    expect(page.get_by_text("In gray: 1 without a params.seed")).to_be_visible()
    by_seed = colors_of_points(page)
    assert by_seed[f"0.{runs[0]}"] == by_seed[f"0.{runs[2]}"] != by_seed[f"0.{runs[1]}"]
    assert by_seed[f"0.{session.id}"] not in {by_seed[f"0.{run}"] for run in runs}
    assert ends_of_colors(page, "scatter-title") == ["params.seed\n1", "0"]
    assert ends_of_colors(page, "parallel-title") == ["0.84", "0.63"]
    page.get_by_label(re.compile("^color")).select_option("params.opt.name")
    settle(page)
    by_name = colors_of_points(page)
    assert by_name[f"0.{runs[0]}"] == by_name[f"0.{runs[1]}"] != by_name[f"0.{runs[2]}"]


def test_drawing_a_box_selects_the_sessions_in_it(serve, page, file, runs):
    page.goto(f"{serve(file)}#view=explore&explore.x=params.lr&explore.y=acc&explore.logX=true")
    page.get_by_role("button", name="Select by drawing").click()
    settle(page)
    start = pixel_of(page, "scatter-title", {"gridIndex": 0}, [0.05, 0.7])
    end = pixel_of(page, "scatter-title", {"gridIndex": 0}, [0.099, 0.6])
    corner = pixel_of(page, "scatter-title", {"gridIndex": 0}, [0.1, 0.6])
    drag(page, start, (corner[0] + (corner[0] - end[0]) + 4, corner[1]))
    expect(page).to_have_url(re.compile("selected="))
    expect(page.get_by_role("link", name="Compare 4")).to_be_visible()


def test_brushing_an_axis_filters_the_sessions_by_a_condition(serve, page, file, runs):
    page.goto(f"{serve(file)}#view=explore&where=params.seed+%3D%3D+0&explore.metric=acc")
    expect(page.get_by_text("Over the 6 sessions")).to_be_visible()
    box = center_of(page, "parallel-title")
    settle(page)
    x = box["x"] + 24
    drag(page, (x, box["y"] + 110), (x, box["y"] + 50))
    kept = page.locator("section[aria-labelledby=parallel-title] code")
    expect(kept).to_have_text(re.compile(r"^[\d.]+ <= params\.lr <= 0\.1\d*$"))
    expect(page.get_by_text("Over the 2 sessions")).to_be_visible()
    expect(page).to_have_url(re.compile(r"where=params\.seed\+%3D%3D\+0\+and\+"))
    page.get_by_role("navigation").get_by_role("link", name="Sessions").click()
    expect(page.locator("#where")).to_have_value(re.compile("^params.seed == 0 and "))
    page.go_back()
    page.get_by_role("button", name="Keep all again").click()
    expect(page.get_by_text("Over the 6 sessions")).to_be_visible()


def test_best_so_far_lists_the_improvements(serve, page, file, runs):
    page.goto(f"{serve(file)}#view=explore&explore.metric=loss")
    card = page.locator("section[aria-labelledby=best-title]")
    expect(card).to_contain_text("Lowest: 0.16, session")
    card.get_by_text("as a list").click()
    expect(card.get_by_role("listitem")).to_have_count(6)


@pytest.fixture
def search(model):
    """The log of a grid search over three params."""
    with model.session({"search": "grid"}) as session:
        for c in (1, 10):
            for gamma in (0.1, 0.01, 0.001):
                for kernel in ("rbf", "poly"):
                    params = {"C": c, "gamma": gamma, "kernel": kernel}
                    mean = 0.5 + c / 100 + gamma + (0.1 if kernel == "rbf" else 0)
                    scores = {"mean": mean, "std": 0.01, "splits": [mean]}
                    session.add_result(
                        {"grid_search_params": params, "dev_scores": scores}, index_by="accuracy"
                    )
    return session.id


def test_a_grid_search_is_a_map_of_its_best_scores_with_slices(serve, page, file, search):
    page.goto(f"{serve(file)}#view=session&session=0.{search}")
    cells = page.locator("table.heat td")
    expect(cells).to_have_count(6)
    expect(page.locator("table.heat")).to_contain_text("0.8 ± 0.01")
    best = cells.filter(has_text="best")
    expect(best).to_have_count(1)
    expect(best).to_contain_text("0.8")
    page.get_by_label(re.compile("^kernel")).select_option("poly")
    expect(best).to_contain_text("0.7")
    page.get_by_label(re.compile("^down")).select_option("kernel")
    expect(page.locator("table.heat caption")).to_contain_text("kernel down")


def test_a_grid_search_is_among_the_charts(serve, page, file, runs, search):
    page.goto(f"{serve(file)}#view=explore")
    expect(page.locator("table.heat td")).to_have_count(6)


@pytest.fixture
def rich(model):
    """A session with something of everything."""
    with model.session({"lr": 0.1, "opt": {"name": "adam", "betas": [0.9, 0.999]}}) as session:
        for epoch in range(1, 121):
            session.add_epoch(epoch, {"loss": 1 / epoch})
        session.add_result({"acc": 0.9, "deep": {"a": {"b": "inside"}}}, index_by="test")
        session.add_result({"frame": [{"x": 1, "y": "one"}, {"x": 2, "y": "two"}]}, index_by="t")
        session.add_result({"weights": np.arange(2000.0).reshape(20, 100)})
        session.add_result({"picture": np.zeros((16, 16, 3), dtype=np.uint8)})
        session.add_artifact("notes.txt", b"x" * 2500)
    return session.id


def test_the_page_of_a_session_shows_what_was_logged_as_what_it_is(serve, page, file, rich):
    page.goto(f"{serve(file)}#view=session&session=0.{rich}")
    params = page.get_by_label("Params")
    expect(params).to_contain_text("adam")
    expect(params).to_contain_text("[0.9, 0.999]")
    results = page.get_by_label("Results")
    expect(results).to_contain_text("inside")
    expect(results.get_by_role("cell", name="two")).to_be_visible()
    expect(results).to_contain_text("Array of 20 × 100")  # noqa: RUF001
    expect(results).to_contain_text("from 0 to 1999, mean 999.5")
    results.get_by_role("button", name="picture: show large").click()
    page.wait_for_function("() => document.querySelector('.picture img').naturalWidth === 16")
    expect(page.get_by_label("Code and machine")).to_contain_text("host")


def test_artifacts_are_downloaded_with_what_was_stored(serve, page, file, rich):
    page.goto(f"{serve(file)}#view=session&session=0.{rich}")
    row = page.get_by_role("row", name=re.compile("notes.txt"))
    expect(row).to_contain_text("2.5 kB")
    with page.expect_download() as download:
        row.get_by_role("link").click()
    assert download.value.suggested_filename == "notes.txt"
    assert download.value.path().read_bytes() == b"x" * 2500


def test_epochs_are_turned_by_pages_and_downloaded_as_a_whole(serve, page, file, rich):
    page.goto(f"{serve(file)}#view=session&session=0.{rich}")
    page.get_by_role("heading", name=re.compile("Epochs")).click()
    epochs = page.get_by_role("region", name="Epochs").get_by_role("row")
    expect(epochs).to_have_count(51)
    page.get_by_role("button", name="Later").click()
    expect(page.get_by_text("51 to 100 of 120")).to_be_visible()
    page.get_by_role("button", name="Later").click()
    expect(epochs).to_have_count(21)
    expect(page.get_by_role("button", name="Later")).to_be_disabled()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all as CSV").click()
    assert len(download.value.path().read_text().splitlines()) == 121


def test_a_failed_session_says_why(serve, page, file, model):
    with pytest.raises(ValueError, match="diverged"), model.session({"lr": 9}) as session:
        raise ValueError("diverged <b>")
    page.goto(f"{serve(file)}#view=session&session=0.{session.id}")
    expect(page.get_by_text("ValueError: diverged <b>")).to_be_visible()


def test_the_id_and_the_command_are_copied(serve, page, file, runs):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{serve(file)}#view=session&session=0.{runs[0]}")
    page.get_by_role("button", name="Copy the command").click()
    expect(page.get_by_text("copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"casket show {runs[0]} {file}"


def test_note_and_tags_are_written_where_that_is_allowed(serve, page, file, runs):
    page.goto(f"{serve(file, edit=True)}#view=session&session=0.{runs[0]}")
    page.get_by_label("note", exact=True).fill("best so far <b>")
    page.get_by_role("button", name="Write the note").click()
    expect(page.get_by_text("The note is written.")).to_be_visible()
    page.get_by_label("tag", exact=True).fill("keep")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("button", name="Remove the tag keep")).to_be_visible()
    page.reload()
    expect(page.get_by_label("note", exact=True)).to_have_value("best so far <b>")
    page.get_by_role("button", name="Remove the tag keep").click()
    expect(page.get_by_role("button", name="Remove the tag keep")).to_have_count(0)


def test_nothing_can_be_written_where_that_is_not_allowed(serve, page, file, runs):
    page.goto(f"{serve(file)}#view=session&session=0.{runs[0]}")
    expect(page.get_by_role("article")).to_be_visible()
    expect(page.get_by_role("textbox")).to_have_count(0)


def test_a_running_session_moves_while_one_looks(serve, page, file, model):
    with model.session({"lr": 1}) as session:
        session.add_epoch(1, {"loss": 0.5})
        page.goto(f"{serve(file)}#view=session&session=0.{session.id}")
        metrics = page.get_by_label("Metrics").get_by_role("row", name=re.compile("loss"))
        expect(metrics).to_contain_text("0.5")
        expect(page.get_by_role("article")).to_contain_text("running")
        session.add_epoch(2, {"loss": 0.25})
        expect(metrics).to_contain_text("0.25")
    expect(page.get_by_role("article")).to_contain_text("done")


@pytest.fixture
def hostile(file):
    """Names and values of markup, of JavaScript's own words and of control characters."""
    experiment = Experiment.use(str(file), exp_id=HOSTILE)
    model = experiment.model(HOSTILE, model_config={HOSTILE: HOSTILE})
    ids = []
    for i in range(8):
        odd = {
            HOSTILE: i % 2,
            "__proto__": i % 3,
            "constructor": f"{HOSTILE}{i % 2}",
            "\x00\x1b": i,
        }
        with model.session({**odd, "a.b": {"c.d": i}}) as session:
            session.add_epoch(1, {HOSTILE: i, "__proto__": math.nan, "loss": i})
            session.add_result({HOSTILE: {HOSTILE: [HOSTILE] * 40}}, index_by=HOSTILE)
            session.add_artifact("x.svg", b"<svg><script>alert(1)</script></svg>")
        ids.append(session.id)
    with model.session({f"p{i}": i for i in range(10_000)}) as session:
        session.add_epoch(1, {"loss": 3.0})
    return [*ids, session.id]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_names_are_text_everywhere(serve, page, file, hostile, scheme):
    page.emulate_media(color_scheme=scheme)
    page.on("dialog", lambda dialog: pytest.fail(f"ran: {dialog.message}"))
    address = serve(file)
    page.goto(f"{address}#view=compare&selected={selecting(hostile)}&explore.all=true")
    expect(page.locator(".side-by-side").get_by_text(HOSTILE).first).to_be_visible()
    axes = ["__proto__", "constructor", HOSTILE, "a.b.c.d"]
    chosen = "%5B" + ",".join(f'"params.{name}"' for name in axes) + "%5D"
    page.goto("about:blank")
    page.goto(f"{address}#view=explore&explore.x=params.constructor&explore.axes={chosen}"
              "&explore.color=params.__proto__")  # fmt: skip
    expect(page.locator(".importance")).to_contain_text(HOSTILE)
    center_of(page, "parallel-title")
    page.goto("about:blank")
    page.goto(f"{address}#view=session&session=0.{hostile[0]}")
    expect(page.locator(".session-head .title")).to_contain_text(hostile[0][:6])
    expect(page.locator(".session-head")).to_contain_text(f"{HOSTILE} / {HOSTILE}")
    expect(page.get_by_label("Results")).to_contain_text("40 values")
    assert page.locator("main img").count() == 0
    assert page.evaluate("({}).polluted") is None


def test_ten_thousand_params_are_folded(serve, page, file, hostile):
    page.goto(f"{serve(file)}#view=session&session=0.{hostile[-1]}")
    params = page.get_by_label("Params")
    expect(params).to_contain_text("p29")
    expect(params.locator("dt")).to_have_count(30)
    params.get_by_role("button", name="9970 more").click()
    expect(params.locator("dt")).to_have_count(120)


@pytest.mark.parametrize("view", ["compare", "explore", "session"])
def test_a_phone_shows_the_view_without_moving_sideways(serve, page, file, rich, runs, view):
    page.set_viewport_size({"width": 390, "height": 844})
    state = f"selected={selecting([rich, *runs])}&session=0.{rich}"
    page.goto(f"{serve(file)}#view={view}&{state}")
    region = page.locator(f"main .{view}")
    expect(region).to_be_visible()
    settle(page)
    assert region.evaluate("element => element.scrollWidth - element.clientWidth") <= 0
    assert page.evaluate("document.querySelector('main').scrollWidth") <= 390


def test_charts_take_what_running_sessions_log_after_a_moment(serve, page, file, model, runs):
    page.goto(f"{serve(file)}#view=explore&explore.metric=acc")
    card = page.locator("section[aria-labelledby=best-title]")
    expect(card).to_contain_text("12 of 12 sessions shown")
    for acc in (0.95, 0.96):
        with model.session({"lr": acc}) as session:
            session.add_epoch(1, {"acc": acc})
    expect(card).to_contain_text("14 of 14 sessions shown")
    expect(card).to_contain_text("Highest: 0.96")


BARE_BOXES = """() => [...document.querySelectorAll("body *")].filter((box) => {
  const flows = getComputedStyle(box);
  const [wide, high] = ["overflowX", "overflowY"].map((n) => /auto|scroll/.test(flows[n]));
  const isScrolled = (wide && box.scrollWidth > box.clientWidth + 1) ||
    (high && box.scrollHeight > box.clientHeight + 1);
  const isReached = box.tabIndex >= 0 ||
    [...box.querySelectorAll("*")].some((inner) => inner.tabIndex >= 0);
  return isScrolled && !isReached;
}).map((box) => box.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("view", ["sessions", "compare", "explore", "session"])
def test_on_a_phone_every_box_that_scrolls_is_reached_by_keyboard(
    serve, page, file, rich, runs, search, view
):
    page.set_viewport_size({"width": 390, "height": 844})
    chosen = f"selected={selecting([rich, *runs])}&session=0.{rich}"
    page.goto(f"{serve(file)}#view={view}&{chosen}")
    expect(page.locator(f"main .{view}")).to_be_visible()
    if view == "explore":
        center_of(page, "parallel-title")
        expect(page.get_by_role("region", name="Parallel coordinates")).to_be_visible()
    settle(page)
    assert page.evaluate(BARE_BOXES) == []


ODD_ADDRESSES = [
    "view=explore&explore.x=5",
    "view=explore&explore.y=[1]",
    "view=explore&explore.color={}",
    "view=explore&explore.axes=[1,2]",
    'view=explore&explore.__proto__={"x":5}',
    'view=explore&explore.axes=["__proto__","constructor"]',
    'view=explore&explore.brushed={"constructor":5}&where=5',
    "view=explore&explore.metric=__proto__&explore.mode=constructor",
    "view=compare&group=params.lr,__proto__,constructor",
    "sort=%5B1%5D",
    "sort=__proto__",
    "columns=__proto__",
    "group=constructor",
    "metrics=__proto__",
    "goal=__proto__",
    "range=a,b",
]


@pytest.mark.parametrize("odd", ODD_ADDRESSES)
def test_an_odd_address_leaves_the_view_whole(serve, page, file, runs, odd):
    page.goto(f"{serve(file)}#{odd}")
    view = odd.partition("view=")[2].partition("&")[0] or "sessions"
    expect(page.locator(f"main .{view}")).to_be_visible()
    if view == "explore":
        center_of(page, "scatter-title")
        center_of(page, "parallel-title")
    settle(page)
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("navigation", name="Views")).to_be_visible()


FAILING = """
import { state } from "casket/model/view";

export function Explore() {
  if (state.value.explore.x === "lr") throw new Error("it broke <b>here</b>");
  return "whole again";
}
"""


@pytest.fixture
def failed(serve, page, file, runs, problems):
    """The page at a view that fails as long as the address has an axis of it."""
    script = {"body": FAILING, "content_type": "text/javascript"}
    page.route("**/static/explore/explore.js", lambda route: route.fulfill(**script))
    page.goto(f"{serve(file)}#view=explore&sort=lr&explore.x=lr")
    expect(page.get_by_role("alert")).to_contain_text("it broke <b>here</b>")
    wait = [problem for problem in problems if "it broke" in problem]
    assert len(wait) == len(problems)
    problems.clear()
    return page


def test_a_view_that_fails_says_so_and_begins_anew_without_its_part_of_the_address(failed):
    expect(failed.get_by_role("alert")).to_contain_text("This view failed")
    failed.get_by_role("button", name="Begin this view anew").click()
    expect(failed.get_by_role("main")).to_contain_text("whole again")
    expect(failed).to_have_url(re.compile(r"#view=explore&sort=lr$"))


def test_beside_a_view_that_fails_the_others_can_be_opened(failed):
    failed.get_by_role("navigation").get_by_role("link", name="Sessions").click()
    expect(failed.get_by_role("grid")).to_be_visible()
    expect(failed.get_by_role("alert")).to_have_count(0)


def test_a_fact_that_one_session_lacks_is_missing_there_whatever_its_name(
    serve, page, file, model, runs
):
    with model.session({"constructor": "given"}) as session:
        session.add_epoch(1, {"valueOf": 1.0})
    page.goto(f"{serve(file)}#view=compare&selected={selecting([runs[0], session.id])}")
    lacking = row_of(page, re.compile("^constructor$")).get_by_role("cell")
    expect(lacking).to_have_text(["–", "given"])  # noqa: RUF001
    expect(row_of(page, re.compile("^valueOf$")).first.get_by_role("cell")).to_have_text(["–", "1"])  # noqa: RUF001


def test_a_number_that_one_epoch_lacks_is_missing_there_whatever_its_name(serve, page, file, model):
    with model.session({"lr": 1}) as session:
        session.add_epoch(1, {"loss": 1.0})
        session.add_epoch(2, {"loss": 0.5, "constructor": 7.0})
    page.goto(f"{serve(file)}#view=session&session=0.{session.id}")
    page.get_by_role("heading", name=re.compile("Epochs")).click()
    epochs = page.get_by_role("region", name="Epochs").get_by_role("row")
    expect(epochs).to_have_count(3)
    expect(epochs.nth(2)).to_contain_text("7")
    expect(epochs.nth(1)).not_to_contain_text("function")


def test_names_of_sessions_are_whole_where_there_is_room(serve, page, file, model):
    names = ["wooden-savanna baseline", "short"]
    for name in names:
        with model.session({"name": name}, name=name) as session:
            session.add_epoch(1, {"loss": 0.5})
    page.goto(serve(file))
    expect(page.locator(".row .id")).to_have_count(2)
    cut = "elements => elements.filter(each => each.scrollWidth > each.clientWidth).length"
    assert page.locator(".row .id").evaluate_all(cut) == 0


def test_a_chart_says_which_way_its_metrics_are_better(serve, page, file, model):
    with model.session({"lr": 0.1}) as session:
        for epoch in range(3):
            session.add_epoch(epoch, {"loss": 0.5, "val_loss": 0.6, "acc": 0.9, "speed": epoch})
    page.goto(serve(file))
    captions = page.locator("figure.chart figcaption")
    expect(captions.filter(has_text="val_loss")).to_contain_text("lower is better")
    expect(captions.filter(has_text="acc")).to_contain_text("higher is better")
    expect(captions.filter(has_text="speed")).not_to_contain_text("is better")
