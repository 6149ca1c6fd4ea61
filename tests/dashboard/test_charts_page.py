"""A stranger's first sight of the charts, in a real browser."""

import math

import pytest

from casket import Experiment
from tests.dashboard.test_page import chart, rows, values

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture
def file(tmp_path):
    return tmp_path / "runs.json"


@pytest.fixture
def model(file):
    return Experiment.use(file, exp_id="digits").model("net")


COUNT_STROKES = """
const stroke = CanvasRenderingContext2D.prototype.stroke;
window.strokes = 0;
CanvasRenderingContext2D.prototype.stroke = function (...path) {
  window.strokes += 1;
  return stroke.apply(this, path);
};
"""
KEYS = 40
"""Milliseconds from key to key."""


def titles(page):
    return page.locator("figure.chart figcaption strong").all_inner_texts()


def test_the_best_session_is_drawn_with_the_newest(serve, page, file, model):
    for i in range(30):
        with model.session({"i": i}) as session:
            for epoch in (1, 2, 3):
                session.add_epoch(epoch, {"val_acc": 0.99 if i == 3 else i / 100 + epoch / 1000})
    page.goto(serve(file))
    expect(values(page, "val_acc").first).to_contain_text("0.99")
    expect(chart(page, "val_acc")).to_contain_text("and 5 more")
    expect(rows(page).first.locator(".eye.is-on")).to_be_visible()


def test_a_grid_search_opens_with_its_scores_though_it_logged_batches_only(
    serve, page, file, model
):
    with model.session({"cv": 5}) as session:
        for i in range(6):
            scores = {"mean_score_time": 0.1, "candidate": i, "std_test_score": 0.01}
            session.add_batch(i, {**scores, "rank_test_score": 6 - i, "mean_test_score": i / 6})
    page.goto(serve(file))
    expect(chart(page, "mean_test_score").locator("canvas").first).to_be_visible()
    assert titles(page)[0] == "mean_test_score"


def test_a_band_says_how_many_sessions_its_mean_is_of(serve, page, file, model):
    for seed in range(3):
        with model.session({"lr": 0.1, "seed": seed}) as session:
            for epoch in range(1, 5 + seed):
                session.add_epoch(epoch, {"loss": 1 / epoch + seed / 100})
    page.goto(serve(file) + "#group=params.lr")
    expect(values(page, "loss").first).to_contain_text("n = 1")
    plot = chart(page, "loss").locator(".plot")
    plot.focus()
    plot.press("ArrowLeft")
    expect(values(page, "loss").first).to_contain_text("n = 3")
    expect(values(page, "loss").first).to_contain_text("±")


def test_sessions_with_nothing_but_a_grid_search_lead_to_it(serve, page, file, model):
    with model.session({"cv": 5}) as session:
        scores = {"mean": 0.9, "std": 0.1}
        session.add_result({"grid_search_params": {"C": 1}, "dev_scores": scores}, index_by="f1")
    page.goto(serve(file))
    page.get_by_role("button", name="Explore the search").click()
    expect(page.locator("table.heat")).to_be_visible()


def test_the_log_axis_of_a_scatter_reaches_as_far_as_its_points(serve, page, file, model):
    for i in range(8):
        with model.session({"lr": 0.02 * 1.4**i if i else 0.0}) as session:
            session.add_epoch(1, {"val_loss": 0.84 + i / 200})
    view = "#view=explore&explore.x=params.lr&explore.logX=true&explore.logY=true"
    page.goto(serve(file) + view)
    scatter = page.locator("section[aria-labelledby=scatter-title]")
    expect(scatter).to_contain_text("left out: 1 with params.lr ≤ 0, not on a log axis")
    page.wait_for_function(
        """async () => {
          const { getInstanceByDom } = await import("echarts");
          const host = document.querySelector("section[aria-labelledby=scatter-title] .echart");
          const [low] = (host && getInstanceByDom(host)?.getOption()?.xAxis) ?? [];
          return low && 0.02 < low.min && low.min < 0.028 && low.max < 0.3;
        }"""
    )


def test_a_metric_that_is_nothing_but_nan_says_so(serve, page, file, model):
    with model.session({"lr": 0.1}) as session:
        for epoch in (1, 2, 3):
            session.add_epoch(epoch, {"grad_norm": math.nan, "loss": 1 / epoch})
    page.goto(serve(file))
    expect(chart(page, "grad_norm")).to_contain_text("Every value is NaN or infinite")
    expect(chart(page, "loss")).not_to_contain_text("NaN")


def test_the_keyboard_zooms_a_chart_in_and_out(serve, page, file, model):
    with model.session({"lr": 0.1}) as session:
        for epoch in range(1, 41):
            session.add_epoch(epoch, {"loss": 1 / epoch})
    page.goto(serve(file))
    plot = chart(page, "loss").locator(".plot")
    expect(plot.locator("canvas").first).to_be_visible()
    plot.focus()
    plot.press("+")
    zoomed = page.get_by_role("button", name="zoomed")
    expect(zoomed).to_be_visible()
    plot.press("0")
    expect(zoomed).to_have_count(0)


def test_charts_follow_a_filter_after_its_last_key_and_only_if_other_curves_are_drawn(
    serve, page, file, model
):
    for i in range(12):
        with model.session({"i": i}) as session:
            for epoch in (1, 2, 3):
                session.add_epoch(epoch, {"loss": i + 1 / epoch})
    page.add_init_script(COUNT_STROKES)
    page.clock.install()
    page.goto(serve(file))
    legend = page.locator(".legend")
    expect(legend).to_contain_text("10 of 12")
    expect(page.locator(".loading")).to_have_count(0)
    field = page.get_by_label("Filter sessions by a condition")
    field.fill("i")
    field.fill("")
    expect(page.locator(".filter .count")).to_have_text("12")
    page.clock.pause_at(page.evaluate("Date.now() + 5000"))
    page.clock.run_for(5000)

    def strokes_of(*texts):
        before = page.evaluate("strokes")
        for text in texts:
            field.fill(text)
            page.clock.run_for(KEYS)
        writing = page.evaluate("strokes")
        page.clock.run_for(5000)
        return writing - before, page.evaluate("strokes") - writing

    assert strokes_of("i < 1", "i < 11", "i < 111") == (0, 0)
    strokes_of("i < 9")
    single = strokes_of("i < 6")
    strokes_of("i < 9")
    assert single[1] > single[0] == 0
    assert strokes_of("i < 8", "i < 7", "i < 6") == single
    expect(legend).to_contain_text("6 of 12")
