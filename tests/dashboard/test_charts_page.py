"""A stranger's first sight of the charts, in a real browser."""

import math
import re
from pathlib import Path

import matplotlib
import pytest
from matplotlib import pyplot

import casket
from casket import Experiment
from tests.dashboard.asking import settle
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
        for c in (1, 2, 3):
            result = {"grid_search_params": {"C": c}, "dev_scores": scores}
            session.add_result(result, index_by="f1")
    page.goto(serve(file))
    page.get_by_role("button", name="Explore the search").click()
    expect(page.locator("table.heat td")).to_have_text(["0.9 ± 0.1"] * 3)


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


def copied(page, title):
    """Run the code that a chart is copied as; return its axes and what it saved."""
    chart(page, title).get_by_label(f"Save {title}").click()
    chart(page, title).get_by_role("button", name="Copy as matplotlib").click()
    expect(chart(page, title).get_by_text("The code is copied.")).to_be_visible()
    page.keyboard.press("Escape")
    names = {}
    exec(page.evaluate("navigator.clipboard.readText()"), names)
    return names["axes"]


@pytest.fixture
def drawing(monkeypatch, tmp_path):
    """Let matplotlib draw without a window, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    yield
    pyplot.close("all")


def test_a_chart_is_copied_as_python_code_that_draws_its_lines_with_matplotlib(
    serve, page, file, model, drawing, tmp_path
):
    stored = {}
    for seed, lr in enumerate((0.1, 0.1, 0.01)):
        cost = {} if seed == 2 else {"cost": "_$a$b"}
        with model.session({"lr": lr, "seed": seed, **cost}) as session:
            losses = [1 / epoch + seed for epoch in range(1, 9)]
            losses[5] = math.nan if seed == 2 else losses[5]
            for epoch, loss in enumerate(losses, 1):
                session.add_epoch(epoch, {"loss": loss})
        stored[casket.open(file).session(session.id).name] = losses
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(serve(file))
    expect(values(page, "loss")).to_have_count(3)
    swatches = page.locator(".legend .swatch").evaluate_all(
        "all => all.map((swatch) => getComputedStyle(swatch).color)"
    )
    axes = copied(page, "loss")
    drawn = {line.get_label().split()[0]: line for line in axes.lines}
    assert {name: [*line.get_ydata()] for name, line in drawn.items()} == {
        name: pytest.approx(losses, rel=1e-8, nan_ok=True) for name, losses in stored.items()
    }
    assert all([*line.get_xdata()] == [*range(1, 9)] for line in axes.lines)
    colors = {matplotlib.colors.to_hex(line.get_color()) for line in axes.lines}
    assert colors == {
        "#{:02x}{:02x}{:02x}".format(*map(int, swatch[4:-1].split(","))) for swatch in swatches
    }
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("epoch", "loss", "loss")
    assert len(axes.get_legend().get_texts()) == 3
    assert (tmp_path / "loss.pdf").read_bytes().startswith(b"%PDF")

    page.evaluate("location.hash = 'group=params.cost,params.lr&x=wall&log=yes&smooth=0.5'")
    expect(values(page, "loss")).to_have_count(2)
    axes = copied(page, "loss")
    assert (len(axes.lines), len(axes.collections), axes.get_yscale()) == (2, 2, "log")
    labels = {text.get_text() for text in axes.get_legend().get_texts()}
    assert labels == {r"cost=_\$a\$b lr=0.1", "cost=\N{EN DASH} lr=0.01"}
    assert axes.get_xlabel() == "time, UTC"


def test_charts_are_in_sections_are_pinned_and_have_a_range_and_any_metric_as_x_axis(
    serve, page, file, model, drawing
):
    tokens = [epoch * 1000 + epoch**2 for epoch in range(1, 6)]
    with model.session({"lr": 0.1}) as session:
        for epoch, count in enumerate(tokens, 1):
            scores = {"val/acc": epoch / 10, "val/loss": 1 / epoch, "train/loss": 0.9 / epoch}
            session.add_epoch(
                epoch, {**scores, "train/grad": epoch / 8, "lr": 1.0, "tokens": count}
            )
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(serve(file))
    sections = page.locator(".rest button")
    expect(sections).to_have_text([re.compile("train 1"), re.compile("Other charts 2")])
    assert titles(page) == ["val/acc", "loss"]
    sections.first.click()
    page.get_by_label("Pin the chart train/grad").click()
    expect(page.locator("figure.chart")).to_have_count(1)
    page.get_by_label("Y range of train/grad").click()
    page.get_by_label("train/grad from").fill("0.25")
    page.get_by_label("train/grad to").fill("0.2")
    page.get_by_label("train/grad to").press("Enter")
    wrong = page.get_by_text("The ends are in the wrong order.")
    expect(wrong).to_be_visible()
    page.get_by_label("train/grad to").fill("0.75")
    page.get_by_label("train/grad to").press("Enter")
    expect(wrong).to_have_count(0)
    page.get_by_label("A metric as x axis").select_option("tokens")
    expect(page).to_have_url(re.compile("over=tokens&charts=.*&ranges="))
    page.reload()
    expect(values(page, "train/grad")).to_have_count(1)
    axes = copied(page, "train/grad")
    (line,) = axes.lines
    assert (axes.get_xlabel(), [*line.get_xdata()]) == ("tokens", tokens)
    assert [*line.get_ydata()] == [epoch / 8 for epoch in range(1, 6)]
    assert axes.get_ylim() == (0.25, 0.75)
    page.get_by_label("Pin the chart train/grad").click()
    expect(page.locator("figure.chart")).to_have_count(2)


COUNT_CLICKS = """
window.clicks = 0;
addEventListener("click", (event) => { window.clicks += event.isTrusted && event.detail; }, true);
"""
AT_FIRST = "#metrics=flat,val_acc,grad/w10,grad/w11,grad/w12,grad/w2&goal=flat"
TASKS = Path(casket.__file__).parents[1] / "docs" / "page" / "tasks.md"


def on_curve(page, title, keys=()):
    """Click on the highest curve of a chart, which is flat."""
    host = chart(page, title).locator(".u-over").bounding_box()
    for key in keys:
        page.keyboard.down(key)
    place = (host["x"] + host["width"] / 2, host["y"] + host["height"] * 0.05)
    page.mouse.move(*place)
    settle(page)
    page.mouse.click(*place)
    for key in keys:
        page.keyboard.up(key)


def drawing_three_metrics(page):
    page.get_by_label("Metrics", exact=True).click()
    expect(page.get_by_label("Search metrics")).to_be_focused()
    page.keyboard.type("grad/w1")
    page.get_by_role("button", name="Only these").click()
    expect(page.locator("figure.chart")).to_have_count(3)


def choosing_a_range(page):
    page.get_by_label("Y range of flat").click()
    page.keyboard.press("Tab")
    page.keyboard.type("0.5")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("ranges=flat~0.5"))


def choosing_a_color(page):
    page.locator(".legend li summary").first.click()
    page.get_by_role("button", name="Color 5", exact=True).click()
    expect(page).to_have_url(re.compile("colors=4~"))


def comparing(page):
    for number in (0, 1):
        rows(page).nth(number).get_by_role("checkbox").click()
    page.get_by_role("button", name="Compare 2").click()
    expect(page.locator(".compare figure.chart").first).to_be_visible()
    expect(page.locator(".delta").first).to_be_visible()


def saving(page):
    page.get_by_label("Save flat").click()
    with page.expect_download():
        page.get_by_role("button", name="PNG picture").click()


def copying(page):
    page.get_by_label("Save flat").click()
    page.get_by_role("button", name="Copy as matplotlib").click()
    expect(page.get_by_text("The code is copied.")).to_be_visible()


def choosing_the_dark(page):
    page.get_by_label("Light or dark").click()
    page.get_by_role("radio", name="dark").locator("..").click()
    expect(page.locator("html")).to_have_attribute("data-scheme", "dark")


def reaching_to_a_spike(page):
    expect(chart(page, "flat")).to_contain_text("off the axis")
    page.get_by_label("Ignore outliers").click()
    expect(chart(page, "flat")).not_to_contain_text("off the axis")


DONE = {
    "see the best value": lambda page: expect(page.locator(".leader")).to_be_visible(),
    "ignore a spike": lambda page: expect(chart(page, "flat")).to_contain_text("off the axis"),
    "let the axis reach": reaching_to_a_spike,
    "choose the y range": choosing_a_range,
    "draw 3 of 300": drawing_three_metrics,
    "pin a chart": lambda page: page.get_by_label("Pin the chart flat").click(),
    "pin the session": lambda page: on_curve(page, "flat"),
    "open the session": lambda page: on_curve(page, "flat", ["Control"]),
    "choose the color": choosing_a_color,
    "compare two sessions": comparing,
    "save a chart": saving,
    "copy a chart": copying,
    "choose the dark": choosing_the_dark,
}
AFTERWARDS = {
    "pin a chart": re.compile("charts=flat"),
    "pin the session": re.compile("pinned="),
    "open the session": re.compile("view=session"),
}


def test_tasks_take_as_many_clicks_as_the_documentation_says(serve, page, file, model):
    for seed in (0, 1):
        with model.session({"seed": seed}) as session:
            for epoch in range(1, 41):
                many = {f"grad/w{i}": float(i) for i in (10, 11, 12, 2)}
                score = 1000.0 if (seed, epoch) == (0, 3) else 0.5 + seed / 100
                session.add_epoch(epoch, {**many, "flat": score, "val_acc": 0.5 + seed / 10})
    lines = re.findall(r"^\| (.+?) \| .+? \| (\d+) \|$", TASKS.read_text("utf-8"), re.MULTILINE)
    assert len(lines) == len(DONE)
    page.add_init_script(COUNT_CLICKS)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    address = serve(file)
    counts = {}
    for task, _ in lines:
        (name,) = (name for name in DONE if task.startswith(name))
        page.goto("about:blank")
        page.goto(address + AT_FIRST)
        expect(values(page, "flat")).to_have_count(2)
        DONE[name](page)
        if name in AFTERWARDS:
            expect(page).to_have_url(AFTERWARDS[name])
        counts[task] = page.evaluate("clicks")
    assert counts == {task: int(count) for task, count in lines}
