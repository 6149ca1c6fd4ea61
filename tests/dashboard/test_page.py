"""The page as people use it: a real server, a real browser, a keyboard and a mouse."""

import csv
import io
import math
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import casket
from casket import Experiment
from tests.benchmarks.data import fill
from tests.dashboard.asking import settle
from tests.waiting import IN_TIME

api = pytest.importorskip("playwright.sync_api")
expect = api.expect

WEB = Path(casket.__file__).parent / "dashboard" / "web"
LRS = (0.1, 0.01, 0.001)
SEEDS = range(5)
PAUSE = 100
"""Milliseconds between looks at what no locator can wait for."""


def train(model, params, epochs=20, spikes=()):
    """Log a session whose loss falls, faster with a middling learning rate."""
    noise = random.Random(str(params))
    with model.session(params) as session:
        for epoch in range(1, epochs + 1):
            fall = math.exp(-epoch / (5 + 5 * abs(math.log10(params["lr"] / 0.01))))
            loss = math.nan if epoch in spikes else fall + noise.uniform(0, 0.02)
            metrics = {"loss": loss, "val_loss": fall * 1.1, "val_acc": 1 - fall / 2}
            session.add_epoch(epoch, {**metrics, "margin": 0.5 - epoch / epochs})
    return session


def fail(model):
    """Log a session that breaks off."""
    with model.session({"lr": 0.01, "seed": 99}) as session:
        session.add_epoch(1, {"loss": 0.9, "val_acc": 0.1})
        session.alert("memory is low", "<b>100</b> MB left", level="error")
        raise RuntimeError("out of memory")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Fifteen completed sessions, and a failed session, the newest."""
    path = tmp_path_factory.mktemp("runs") / "runs.json"
    model = Experiment.use(path, exp_id="digits").model("net")
    for lr in LRS:
        for seed in SEEDS:
            train(model, {"lr": lr, "seed": seed}, spikes=(7, 8) if seed == 4 else ())
    with pytest.raises(RuntimeError):
        fail(model)
    return path


@pytest.fixture
def opened(serve, page, runs):
    """The page with these sessions."""
    page.goto(serve(runs))
    expect(rows(page)).not_to_have_count(0)
    return page


def rows(page):
    return page.locator(".table [data-index]")


def heads(page):
    return [text.strip() for text in page.locator(".head [role=columnheader]").all_inner_texts()]


def head_of(page, name):
    return page.locator(".head").get_by_role("columnheader", name=name)


def column(page, name):
    """Return the texts under a head, from above to below."""
    at = heads(page).index(name) + 1
    texts = page.locator(f".row > [aria-colindex='{at}']").all_inner_texts()
    return [text.removeprefix("best:").strip() for text in texts]


def with_columns(page, *names):
    """Choose the columns, as a link does."""
    page.evaluate("names => { location.hash = `columns=${names}` }", ",".join(names))
    expect(head_of(page, names[-1].removeprefix("params."))).to_be_visible()


def count_of(page):
    return page.locator(".filter .count")


def chart(page, title):
    return page.locator("figure.chart").filter(has=page.get_by_text(title, exact=True).first).first


def values(page, title):
    """Return the lines of the table under a chart."""
    return chart(page, title).locator(".values tbody tr")


def is_in_time(condition, seconds=IN_TIME):
    """Return whether a condition becomes true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(PAUSE / 1000)
    return False


def wait_until(page, condition, seconds=IN_TIME):
    """Wait for a condition that no locator can see, while the page continues."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        page.wait_for_timeout(PAUSE)


# At first sight


def test_on_opening_the_best_ten_are_drawn_and_the_best_is_named(opened):
    expect(opened.locator(".eye.is-on")).to_have_count(10)
    expect(opened.locator(".standing")).to_contain_text("16 sessions")
    expect(opened.locator(".leader")).to_contain_text("lr 0.01")
    expect(opened.locator(".legend li")).to_have_count(10)
    best = rows(opened).first.locator(".id").inner_text().split()[0]
    expect(opened.locator(".leader").get_by_role("link", name=best)).to_be_visible()
    expect(opened.locator(".legend li").first).to_contain_text(best)
    others = opened.locator(".legend-others")
    expect(others).to_have_text(re.compile(r"6 others\s*median, 10.90 %\s*0\.\d+"))
    expect(values(opened, "loss")).to_have_count(5)
    expect(chart(opened, "loss")).to_contain_text("and 5 more")


def test_train_and_validation_of_a_metric_share_a_chart(opened):
    expect(chart(opened, "loss").locator("thead th")).to_have_text(["last", "loss", "val_loss"])


def test_params_that_vary_stand_beside_the_name_and_the_best_values_are_said_to_be(opened):
    assert heads(opened)[1:4] == ["what differs", "status", "val_acc, best"]
    assert column(opened, "what differs")[0].split() == ["lr", "0.01", "seed", "0"]
    expect(opened.locator(".is-best").first).to_contain_text("best:")


def test_nan_is_said_where_it_is(opened):
    expect(chart(opened, "loss")).to_contain_text("NaN or infinite")


# The table


def test_a_condition_narrows_the_table_and_the_charts(opened):
    with_columns(opened, "params.lr")
    opened.get_by_label("Filter sessions by a condition").fill("params.lr == 0.1")
    expect(count_of(opened)).to_have_text("5 of 16")
    assert set(column(opened, "lr")) == {"0.1"}
    expect(opened.locator(".eye.is-on")).to_have_count(5)


def test_a_mistake_in_a_condition_is_pointed_at_and_the_last_whole_one_holds(opened):
    box = opened.get_by_label("Filter sessions by a condition")
    box.fill("params.lr == 0.1")
    expect(rows(opened)).to_have_count(5)
    box.fill("params.lr = 0.1")
    expect(opened.locator("#where-says")).to_contain_text("==")
    expect(opened.locator(".filter mark")).to_have_text(re.compile("^="))
    expect(rows(opened)).to_have_count(5)


def test_a_name_is_offered_while_it_is_written(opened):
    opened.keyboard.press("/")
    opened.keyboard.type("status == 'failed' and para")
    opened.keyboard.press("Tab")
    expect(opened.get_by_label("Filter sessions")).to_have_value("status == 'failed' and params.lr")


def test_what_fits_nothing_says_so_and_can_be_cleared(opened):
    opened.get_by_label("Filter sessions by a condition").fill("params.lr > 7")
    opened.keyboard.press("Enter")
    expect(opened.locator(".state")).to_contain_text("Nothing fits params.lr > 7")
    opened.get_by_role("button", name="Clear the filter").click()
    expect(rows(opened)).to_have_count(16)


def test_rows_from_before_stay_only_while_a_condition_is_being_written(opened):
    opened.get_by_label("Filter sessions by a condition").fill("params.lr > 7")
    expect(opened.locator("#where-says")).to_contain_text("below is what fitted before")
    expect(rows(opened)).to_have_count(16)
    # The writer pauses.
    expect(opened.locator(".state")).to_contain_text("Nothing fits params.lr > 7")
    expect(opened.locator("#where-says")).not_to_contain_text("fitted before")
    expect(rows(opened)).to_have_count(0)
    expect(opened.locator(".standing")).to_contain_text("0 of 16 sessions")


def test_what_fits_nothing_of_a_file_that_is_being_read_says_that_it_may_yet(page, serve, runs):
    def still_reading(route):
        answer = route.fetch()
        content = answer.json()
        content["files"][0]["state"] = "reading"
        route.fulfill(response=answer, json=content)

    page.route("**/api/overview", still_reading)
    page.goto(f"{serve(runs)}#where=params.lr+>+7")
    expect(page.locator(".state")).to_contain_text("Nothing fits yet params.lr > 7")
    expect(page.locator(".state")).to_contain_text("runs.json is still being read")


def test_a_name_that_nothing_has_is_named_with_the_one_that_was_meant(opened):
    box = opened.get_by_label("Filter sessions by a condition")
    box.fill("val_lss < 0.3")
    said = opened.locator("#where-says")
    expect(said).to_have_text("no session has val_lss; did you mean val_loss?")
    expect(said).to_be_visible()
    box.fill("params.lrr == 0.1 or status == 'failed'")
    expect(said).to_have_text("no session has params.lrr; did you mean params.lr?")
    box.fill("momentum_of_the_optimizer > 1")
    expect(said).to_contain_text("no session has momentum_of_the_optimizer; there are ")
    box.fill("val_loss > 7 and ended is None or lr == 3")
    expect(said).not_to_contain_text("no session has")


def test_the_summary_is_of_what_the_filter_leaves_and_says_so(opened):
    summary = opened.get_by_label("Summary")
    expect(summary).not_to_contain_text("filter")
    expect(summary).to_contain_text("lr 0.01")
    opened.get_by_label("Filter sessions by a condition").fill("params.lr == 0.1")
    expect(summary).to_contain_text("5 of 16 sessions fit the filter")
    expect(summary.locator(".who")).to_contain_text("lr 0.1")
    expect(summary.get_by_role("button", name="failed")).to_have_count(0)


def test_a_status_in_the_summary_narrows_what_the_filter_leaves(opened):
    opened.get_by_label("Filter sessions by a condition").fill("params.lr == 0.01")
    expect(rows(opened)).to_have_count(6)
    opened.get_by_label("Summary").get_by_role("button", name="failed").click()
    expect(rows(opened)).to_have_count(1)


def test_a_head_sorts_and_turns_round(opened):
    head = head_of(opened, "val_loss, best")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    shown = [float(text) for text in column(opened, "val_loss, best") if text]
    assert shown == sorted(shown)
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    shown = [float(text) for text in column(opened, "val_loss, best") if text]
    assert shown == sorted(shown, reverse=True)


def test_groups_show_mean_interval_and_number_and_open(opened):
    opened.locator("summary", has_text="Group").click()
    opened.get_by_role("checkbox", name="params.lr").check()
    opened.keyboard.press("Escape")
    expect(rows(opened)).to_have_count(3)
    assert column(opened, "lr") == ["0.1", "0.01", "0.001"]
    assert all("±" in text for text in column(opened, "val_loss, best"))
    opened.get_by_role("button", name="n = 6", exact=True).click()
    expect(rows(opened)).to_have_count(9)
    expect(values(opened, "loss").first).to_contain_text("lr=0.01")


def test_the_names_in_the_group_menu_stay_where_they_are_while_it_is_open(opened):
    opened.locator("summary", has_text="Group").click()
    choices = opened.locator(".menu[open] .choice")
    expect(choices.nth(1)).to_have_text("params.seed")
    before = choices.all_inner_texts()
    opened.get_by_role("checkbox", name="params.seed").check()
    expect(opened.locator("summary", has_text="Group: seed")).to_be_visible()
    assert choices.all_inner_texts() == before
    opened.get_by_role("checkbox", name="params.seed").uncheck()
    assert choices.all_inner_texts() == before


def test_more_names_of_columns_and_groups_are_shown_by_keyboard(serve, page, tmp_path):
    path = tmp_path / "wide.json"
    model = Experiment.use(path, exp_id="wide").model("net")
    for seed in (0, 1):
        with model.session({f"p{n:03}": n + seed for n in range(395)}) as session:
            session.add_epoch(1, {"loss": 1.0})
    page.goto(serve(path))
    expect(rows(page)).to_have_count(2)
    page.locator("summary", has_text="Columns").click()
    expect(page.get_by_role("button", name="params.p394")).to_have_count(0)
    page.locator(".chooser").get_by_role("button", name=re.compile(r"and \d+ more")).press("Enter")
    expect(page.get_by_role("button", name="params.p394")).to_have_count(1)
    page.keyboard.press("Escape")
    page.locator("summary", has_text="Group").press("Enter")
    expect(page.locator(".menu[open] .choice")).to_have_count(100)
    page.get_by_role("button", name=re.compile(r"and 29\d more")).press("Enter")
    expect(page.get_by_role("checkbox", name="params.p394")).to_have_count(1)


def test_columns_are_chosen_and_moved(opened):
    opened.locator("summary", has_text="Columns").click()
    opened.get_by_label("Add").fill("meta.host")
    opened.get_by_role("button", name="meta.host").click()
    opened.get_by_role("button", name="host further left").click()
    opened.get_by_role("button", name="Remove duration").click()
    assert heads(opened)[-2] == "host"
    assert "duration" not in heads(opened)
    search = opened.get_by_label("Add")
    search.fill("meta.")
    first = opened.locator(".add").first
    second = opened.locator(".add").nth(1).inner_text().strip()
    first.press("Enter")
    expect(first).to_have_text(second)
    expect(first).to_be_focused()
    search.fill("meta.python")
    opened.get_by_role("button", name="meta.python", exact=True).press("Enter")
    expect(search).to_be_focused()


def test_a_metric_has_one_column_and_the_goal_its_curve_beside_the_value(opened):
    names = [name.removesuffix(", best") for name in heads(opened)]
    assert len(set(names)) == len(names)
    expect(opened.locator(".row .sparkline")).to_have_count(16)
    at = heads(opened).index("val_acc, best") + 1
    curve = rows(opened).first.locator(f"[aria-colindex='{at}'] .sparkline path")
    assert curve.get_attribute("d").count("L") == 19


def test_a_pinned_session_stands_on_top_and_is_drawn(opened):
    last = rows(opened).last
    name = last.locator(".id").inner_text()
    last.hover()
    last.get_by_role("button", name="Pin").click()
    expect(rows(opened).first.locator(".id")).to_have_text(name)
    expect(rows(opened).first.locator(".eye")).to_have_class(re.compile("is-on"))


def test_a_checkbox_shows_what_is_selected(opened):
    boxes = opened.locator(".row input[type=checkbox]")
    for clicked, left in [((2,), {2}), ((4, 2), {4})]:
        for number in clicked:
            boxes.nth(number).click()
        expect(opened.locator(".row.is-selected")).to_have_count(len(left))
        for number in range(6):
            expect(boxes.nth(number)).to_be_checked(checked=number in left)
    everything = opened.get_by_label("Select all sessions that fit")
    everything.click()
    expect(opened.locator(".row.is-selected")).to_have_count(16)
    expect(everything).to_be_checked()
    for number in range(6):
        expect(boxes.nth(number)).to_be_checked()
    everything.click()
    expect(opened.locator(".row.is-selected")).to_have_count(0)
    expect(everything).not_to_be_checked()
    opened.evaluate("location.hash = 'group=params.lr'")
    expect(boxes).to_have_count(3)
    boxes.first.click()
    expect(boxes.first).to_be_checked()
    boxes.first.click()
    expect(boxes.first).not_to_be_checked()


def test_a_click_on_a_curve_pins_its_session(opened):
    host = chart(opened, "val_acc").locator(".u-over")
    values(opened, "val_acc").first.wait_for()
    box = host.bounding_box()
    for share in range(5, 95, 3):
        opened.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * share / 100)
        settle(opened)
        opened.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * share / 100)
        settle(opened)
        if "pinned=" in opened.evaluate("location.hash") or opened.locator(".pin.is-on").count():
            break
    expect(opened.locator(".pin.is-on")).to_have_count(1)
    expect(rows(opened).first.locator(".pin")).to_have_class(re.compile("is-on"))
    name = rows(opened).first.locator("a.id").get_attribute("title")
    opened.keyboard.down("Control")
    opened.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * share / 100)
    opened.keyboard.up("Control")
    expect(opened.get_by_role("article")).to_have_attribute("aria-label", f"Session {name}")


def test_an_axis_leaves_out_a_spike_says_so_and_reaches_to_it_on_demand(serve, page, tmp_path):
    path = tmp_path / "spike.json"
    with Experiment.use(path, exp_id="spike").model("net").session({"lr": 1}) as session:
        for epoch in range(1, 101):
            session.add_epoch(epoch, {"loss": 1000.0 if epoch == 50 else 1 / epoch})
    page.goto(serve(path))
    expect(chart(page, "loss")).to_contain_text("1 value runs off the axis")
    page.get_by_label("Ignore outliers").uncheck()
    expect(chart(page, "loss")).not_to_contain_text("off the axis")


def test_metrics_are_searched_and_none_or_only_those_found_are_drawn(opened):
    opened.locator("summary", has_text="Metrics").click()
    menu = opened.locator(".chooser", has=opened.get_by_label("Search metrics"))
    menu.get_by_label("Search metrics").fill("val")
    expect(menu.get_by_role("checkbox")).to_have_count(2)
    menu.get_by_role("button", name="Only these").click()
    expect(opened.locator("figure.chart")).to_have_count(2)
    menu.get_by_role("button", name="None").click()
    expect(opened.locator("figure.chart")).to_have_count(0)
    expect(opened.locator(".nothing")).to_contain_text("None of the chosen metrics")


def test_the_page_is_light_or_dark_by_choice_and_stays_so(opened):
    ground = "getComputedStyle(document.body).backgroundColor"
    assert opened.evaluate(ground) == "rgb(246, 247, 245)"
    opened.locator("summary[aria-label='Light or dark']").click()
    opened.get_by_role("radio", name="dark").check()
    wait_until(opened, lambda: opened.evaluate(ground) == "rgb(19, 22, 23)")
    opened.reload()
    expect(rows(opened)).not_to_have_count(0)
    assert opened.evaluate(ground) == "rgb(19, 22, 23)"


def test_sessions_of_results_only_have_a_best_and_no_empty_column(serve, page, tmp_path):
    path = tmp_path / "results.json"
    model = Experiment.use(path, exp_id="results").model("svm")
    for c, score in [(1, 0.7), (2, 0.9), (3, 0.8)]:
        with model.session({"C": c}) as session:
            session.add_result({"test_acc": score})
            session.add_result({"candidate": c, "dev_scores": {"mean": 0.5}}, index_by="fold")
    page.goto(serve(path))
    expect(page.locator(".figure")).to_have_text("0.9")
    expect(page.locator(".leader")).to_contain_text("C 2")
    assert not {"candidate", "epochs"} & set(heads(page))
    assert column(page, "test_acc") == ["0.9", "0.8", "0.7"]
    expect(page.get_by_role("group", name="How curves are drawn")).to_have_count(0)


def test_a_hidden_session_is_drawn_no_more_until_all_are_shown_again(opened):
    rows(opened).first.get_by_role("button", name="Draw").click()
    expect(rows(opened).first.locator(".eye")).to_have_attribute("aria-pressed", "false")
    opened.get_by_role("button", name="1 hidden").click()
    expect(rows(opened).first.locator(".eye")).to_have_attribute("aria-pressed", "true")


def test_what_is_drawn_follows_the_choice_of_how_many(opened):
    opened.get_by_role("radio", name="all").check()
    expect(opened.locator(".eye.is-on")).to_have_count(16)
    opened.get_by_label("Running only").check()
    expect(opened.locator(".eye.is-on")).to_have_count(0)
    expect(opened.locator(".nothing")).to_contain_text("none of these runs now")


def test_a_range_is_selected_with_shift_and_compared(opened):
    rows(opened).nth(1).locator("[role=gridcell]").nth(2).click()
    rows(opened).nth(3).locator("[role=gridcell]").nth(2).click(modifiers=["Shift"])
    expect(opened.locator(".row.is-selected")).to_have_count(3)
    opened.get_by_role("button", name="Compare 3").click()
    expect(opened.get_by_role("region", name="Comparison table")).to_be_visible()


def test_the_csv_is_what_is_shown(opened):
    with_columns(opened, "params.lr", "params.seed")
    opened.get_by_label("Filter sessions by a condition").fill("params.lr == 0.01")
    head_of(opened, "seed").get_by_role("button").click()
    with opened.expect_download() as download:
        opened.get_by_role("button", name="CSV", exact=True).click()
    saved = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert [row["params.seed"] for row in saved] == column(opened, "seed")
    assert {row["params.lr"] for row in saved} == {"0.01"}


def saved_csv(page):
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV", exact=True).click()
    return list(csv.DictReader(io.StringIO(download.value.path().read_text())))


def test_the_csv_has_every_digit_on_the_live_page_and_in_a_report(
    opened, page, runs, tmp_path, run_command
):
    logged = {each.id: each for each in casket.open(runs).sessions()}
    report = tmp_path / "report.html"
    run_command("export", runs, "-o", report)
    for address in (opened.url, f"file://{report}"):
        page.goto(address)
        expect(rows(page)).to_have_count(16)
        saved = saved_csv(page)
        assert len(saved) == 16
        for row in saved:
            assert float(row["best.val_acc"]) == logged[row["id"]].best("val_acc", "max")
            assert float(row["last.loss"]) == logged[row["id"]].last["loss"]


def test_the_csv_of_groups_has_means_of_what_was_logged(opened, runs):
    opened.goto(f"{opened.url}#group=params.lr")
    expect(rows(opened)).to_have_count(3)
    sample = [s.last["loss"] for s in casket.open(runs).sessions(where="params.lr == 0.1")]
    saved = {row["params.lr"]: row for row in saved_csv(opened)}
    assert float(saved["0.1"]["last.loss"]) == pytest.approx(math.fsum(sample) / 5, rel=1e-15)


def test_thousands_of_rows_are_in_the_table_but_few_in_the_document(serve, page, tmp_path):
    path = tmp_path / "many.sqlite"
    fill(path, 1000, 1)
    page.goto(serve(path))
    expect(page.get_by_role("grid")).to_have_attribute("aria-rowcount", "1001")
    assert rows(page).count() < 100
    page.keyboard.press("t")
    page.keyboard.press("End")
    expect(page.locator("[data-index='999']")).to_be_visible()


# The curves


def test_a_zoom_asks_for_detail_and_a_double_click_shows_all_again(opened):
    box = chart(opened, "loss").locator(".u-over").bounding_box()
    y = box["y"] + box["height"] / 2
    opened.mouse.move(box["x"] + box["width"] * 0.2, y)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.5, y, steps=4)
    with opened.expect_request(lambda request: "/api/curves" in request.url) as asked:
        opened.mouse.up()
    low, high = asked.value.post_data_json["range"]
    assert 1 <= low < high <= 12
    expect(opened.get_by_role("button", name="zoomed")).to_be_visible()
    opened.mouse.dblclick(box["x"] + box["width"] / 2, y)
    expect(opened.get_by_role("button", name="zoomed")).to_have_count(0)


def test_more_lines_of_a_chart_have_their_values_shown_by_keyboard_and_fewer_again(opened):
    opened.get_by_role("radio", name="all").check()
    more = chart(opened, "loss").get_by_role("button", name="and 11 more")
    expect(more).to_have_attribute("aria-expanded", "false")
    more.press("Enter")
    expect(values(opened, "loss")).to_have_count(16)
    expect(values(opened, "val_acc")).to_have_count(5)
    chart(opened, "loss").get_by_role("button", name="only the first 5").click()
    expect(values(opened, "loss")).to_have_count(5)


def test_one_cursor_goes_through_all_charts(opened):
    expect(values(opened, "loss")).to_have_count(5)
    box = chart(opened, "loss").locator(".u-over").bounding_box()
    opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    at = chart(opened, "loss").locator("thead th").first
    expect(at).to_have_text(re.compile(r"at epoch \d+"))
    expect(chart(opened, "val_acc").locator("thead th").first).to_have_text(at.inner_text())


def test_a_log_axis_says_what_it_cannot_show(opened):
    opened.get_by_label("Log axis").check()
    expect(chart(opened, "margin")).to_contain_text("values ≤ 0 cannot stand on a log axis")


def test_a_chart_is_saved_as_picture_and_as_raw_values(opened):
    expect(values(opened, "loss")).to_have_count(5)
    saved = {}
    for name in ("PNG picture", "SVG picture", "CSV, every value"):
        chart(opened, "loss").get_by_label("Save loss").click()
        with opened.expect_download() as download:
            chart(opened, "loss").get_by_role("button", name=name).click()
        saved[name] = download.value.path().read_bytes()
        opened.keyboard.press("Escape")
    assert saved["PNG picture"].startswith(b"\x89PNG")
    svg = saved["SVG picture"].decode()
    assert svg.count("<path") >= 2 * 10  # and an additional point for each gap
    for text in (">epoch<", ">loss<", ">val_loss<"):
        assert text in svg
    for name in opened.locator(".legend .session-link").all_inner_texts():
        assert f">{name} lr=" in svg
    with Image.open(io.BytesIO(saved["PNG picture"])) as picture:
        assert picture.width == 1440
    assert len(saved["CSV, every value"].splitlines()) == 1 + 10 * 20 * 2


def test_long_curves_are_said_to_be_down_sampled(serve, page, tmp_path):
    path = tmp_path / "long.json"
    model = Experiment.use(path, exp_id="long").model("net")
    with model.session({"lr": 1}) as session:
        for epoch in range(3000):
            session.add_epoch(epoch, {"loss": 1 / (epoch + 1)})
    page.goto(serve(path))
    expect(chart(page, "loss")).to_contain_text("of 3,000 values")
    expect(chart(page, "loss")).to_contain_text("down-sampled")


# The address, the keyboard, the phone


def test_a_link_opens_the_same_view_again(opened, browser):
    with_columns(opened, "status", "params.seed")
    opened.get_by_label("Filter sessions by a condition").fill("params.lr < 0.05")
    head_of(opened, "seed").get_by_role("button").click()
    rows(opened).nth(2).locator("[role=gridcell]").nth(2).click()
    opened.get_by_label("Log axis").check()
    name = rows(opened).nth(2).locator(".id").inner_text()
    wait_until(opened, lambda: "selected=" in opened.url and "log=" in opened.url)
    other = browser.new_page()
    other.goto(opened.url)
    expect(other.locator(".row.is-selected .id")).to_have_text(name)
    expect(other.get_by_label("Log axis")).to_be_checked()
    assert column(other, "seed") == column(opened, "seed")
    assert len(opened.url.partition("#")[2]) < 120
    other.close()


COLORS = """
links => Object.fromEntries(links.map((link) => {
  const swatch = link.querySelector(".swatch") ?? link.closest("li").querySelector(".swatch");
  return [link.title.split(" ")[0], getComputedStyle(swatch).color];
}))
"""


def colors_of(links, count):
    """Return the colors of the swatches beside links to sessions, by the ids of the sessions."""
    expect(links).to_have_count(count)
    return links.evaluate_all(COLORS)


def test_a_session_has_the_same_color_in_every_view_order_file_and_report(
    opened, serve, runs, tmp_path, run_command
):
    legend = opened.locator(".legend .session-link")
    known = colors_of(legend, 10)

    def is_as_known(links, count):
        found = colors_of(links, count)
        known.update({**found, **known})
        assert found == {key: known[key] for key in found}

    opened.evaluate("location.hash = 'sort=params.seed&where=params.seed+in+[1,3]'")
    is_as_known(legend, 6)
    ids = list(known)
    chosen = ",".join(ids[:3])
    opened.evaluate("hash => { location.hash = hash }", f"view=compare&selected={chosen}")
    is_as_known(opened.locator(".side-by-side thead .session-link"), 3)
    opened.evaluate("location.hash = 'view=explore'")
    opened.get_by_text("The same as a table").click()
    is_as_known(opened.locator(".plain-table .session-link"), 16)
    other = tmp_path / "other.json"
    with Experiment.use(other, exp_id="svm").model("svc").session({"kernel": "rbf"}) as session:
        session.add_epoch(1, {"val_acc": 0.999})
    opened.goto(serve(other, runs))
    is_as_known(legend, 10)
    report = tmp_path / "report.html"
    run_command("export", runs, "-o", report, "--format", "html")
    opened.goto(f"file://{report}#show=20")
    is_as_known(legend, 12)


def test_a_color_is_chosen_for_good_and_taken_back(opened):
    legend = opened.locator(".legend .session-link")
    known = colors_of(legend, 10)
    first = next(iter(known))
    opened.locator(".legend li summary").first.click()
    opened.get_by_role("button", name="Color 23", exact=True).click()
    expect(opened.get_by_role("button", name="Color 23", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    chosen = colors_of(legend, 10)
    assert chosen == known | {first: "rgb(240, 108, 72)"}
    wait_until(opened, lambda: "colors=22~" in opened.url)
    opened.goto(opened.url.partition("#")[0])
    opened.reload()
    assert colors_of(legend, 10) == chosen
    opened.locator(".legend li summary").first.click()
    opened.get_by_role("button", name="Reset").click()
    wait_until(opened, lambda: colors_of(legend, 10) == known)


def test_back_returns_to_the_table(opened):
    opened.get_by_role("link", name="Explore").click()
    expect(opened.get_by_role("grid")).to_have_count(0)
    opened.go_back()
    expect(opened.get_by_role("grid")).to_be_visible()


def test_everything_can_be_done_with_keys(opened):
    opened.keyboard.press("t")
    opened.keyboard.press("j")
    opened.keyboard.press("x")
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("Space")
    expect(opened.locator(".row.is-selected")).to_have_count(2)
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("p")
    expect(opened.locator(".pin.is-on")).to_have_count(1)
    opened.keyboard.press("c")
    expect(opened.get_by_role("region", name="Comparison table")).to_be_visible()
    opened.keyboard.press("g")
    opened.keyboard.press("s")
    expect(opened.get_by_role("grid")).to_be_visible()
    opened.keyboard.press("?")
    expect(opened.get_by_role("dialog")).to_contain_text("select")
    opened.keyboard.press("Escape")
    expect(opened.get_by_role("dialog")).to_have_count(0)


def test_enter_opens_the_session_that_the_keys_are_at(opened):
    opened.keyboard.press("t")
    opened.keyboard.press("End")
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("article")).to_contain_text("out of memory")
    alerts = opened.get_by_label("Alerts").get_by_role("listitem")
    expect(alerts).to_have_text([re.compile("^error: memory is low <b>100</b> MB left 2026-")])


def test_a_view_is_kept_under_a_name(opened):
    opened.get_by_label("Log axis").check()
    wait_until(opened, lambda: "log=" in opened.url)
    opened.locator("summary", has_text="Views").click()
    opened.get_by_label("Name of this view").fill("with log")
    opened.get_by_role("button", name="Save", exact=True).click()
    opened.keyboard.press("Escape")
    opened.get_by_label("Log axis").uncheck()
    wait_until(opened, lambda: "log=" not in opened.url)
    opened.reload()
    opened.locator("summary", has_text="Views").click()
    opened.get_by_role("link", name="with log").click()
    expect(opened.get_by_label("Log axis")).to_be_checked()


def test_on_a_phone_nothing_runs_over_the_edge(serve, page, runs):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(serve(runs))
    expect(rows(page)).not_to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


# Changes and failures


def test_a_running_session_moves_while_one_looks_and_a_killed_one_says_so(serve, page, tmp_path):
    path = tmp_path / "live.json"
    script = (
        "import sys, time\nfrom casket import Experiment\n"
        "model = Experiment.use(sys.argv[1], exp_id='live').model('net')\n"
        "with model.session({'lr': 1}) as session:\n"
        "    for epoch in range(1, 1000):\n"
        "        session.add_epoch(epoch, {'loss': 1 / epoch})\n"
        "        time.sleep(0.1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)])
    try:
        assert is_in_time(path.exists)
        page.goto(serve(path))
        expect(rows(page).first).to_contain_text("running")
        expect(values(page, "loss")).to_have_count(1)
        before = float(values(page, "loss").locator("td").inner_text())
        wait_until(page, lambda: float(values(page, "loss").locator("td").inner_text()) < before)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    expect(rows(page).first).to_contain_text("killed")


def test_only_what_is_new_of_a_running_session_is_asked_for(serve, page, tmp_path):
    path = tmp_path / "grows.json"
    model = Experiment.use(path, exp_id="grows").model("net")
    with model.session({"lr": 1}) as session:
        for epoch in range(1, 4):
            session.add_epoch(epoch, {"loss": 1 / epoch})
        page.goto(serve(path))
        expect(values(page, "loss").locator("td")).to_have_text("0.3333333")
        with page.expect_request(lambda request: "/api/curves" in request.url) as asked:
            session.add_epoch(4, {"loss": 0.25})
        expect(values(page, "loss").locator("td")).to_have_text("0.25")
        assert list(asked.value.post_data_json["since"].values()) == [3]


def test_a_lost_connection_is_said_and_found_again(serve, page, problems, runs):
    address = serve(runs)
    page.goto(address)
    expect(page.locator(".connection")).to_have_text("live")
    app, *_ = serve.running[0]
    app.end()
    expect(page.get_by_role("alert")).to_contain_text("Connection lost")
    serve.running[0][2].join(IN_TIME)
    serve(runs, port=int(re.search(r":(\d+)/", address)[1]))
    expect(page.locator(".connection")).to_have_text("live")
    expect(page.get_by_role("alert")).to_have_count(0)
    problems.clear()


def test_a_report_shows_the_same_from_disk_without_a_network(page, runs, tmp_path):
    path = tmp_path / "report.html"
    command = [sys.executable, "-m", "casket.cli.app", "export", str(runs), "-o", str(path)]
    subprocess.run([*command, "--format", "html"], check=True, capture_output=True)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.context.set_offline(True)
    page.goto(f"file://{path}#where=params.lr+%3D%3D+0.1")
    expect(rows(page)).to_have_count(5)
    expect(values(page, "loss")).to_have_count(5)
    page.get_by_role("radio", name="time").check()
    expect(chart(page, "loss").locator("thead th").first).to_have_text("last")
    with page.expect_download() as download:
        chart(page, "loss").get_by_label("Save loss").click()
        chart(page, "loss").get_by_role("button", name="CSV of what this report holds").click()
    assert len(download.value.path().read_text().splitlines()) == 1 + 5 * 20 * 2
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}


def test_a_file_without_sessions_says_how_to_log_one(serve, page, tmp_path):
    path = tmp_path / "new.json"
    model = Experiment.use(path, exp_id="new").model("net")
    page.goto(serve(path))
    expect(page.get_by_role("main")).to_contain_text("from casket import Experiment")
    with model.session({"lr": 1}) as session:
        session.add_epoch(1, {"loss": 1.0})
    expect(rows(page)).to_have_count(1)


def test_of_two_files_each_row_says_its_own_and_what_most_have_comes_first(
    serve, page, runs, tmp_path
):
    other = tmp_path / "other.json"
    with Experiment.use(other, exp_id="svm").model("svc").session({"kernel": "rbf"}) as session:
        session.add_epoch(1, {"loss": 0.1})
    page.goto(serve(other, runs))
    expect(rows(page)).to_have_count(17)
    assert set(column(page, "file")) == {"other.json", runs.name}
    assert column(page, "what differs")[0].split()[0] in {"lr", "rbf"}


def test_a_broken_file_is_named_beside_one_that_can_be_read(serve, page, runs, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("hello {")
    page.goto(serve(broken, runs))
    expect(page.get_by_role("alert")).to_contain_text("broken.json cannot be read")
    expect(rows(page)).to_have_count(16)


def test_names_are_never_markup(serve, page, tmp_path):
    path = tmp_path / "hostile.json"
    evil = "<img src=x onerror=document.title='owned'>"
    model = Experiment.use(path, exp_id=evil).model(evil)
    for seed in range(2):
        with model.session({evil: evil, "seed": seed}) as session:
            session.add_epoch(1, {evil: seed, "loss\n\x01": 1.0})
    page.goto(serve(path))
    expect(rows(page)).to_have_count(2)
    expect(page.locator("figure.chart").first).to_be_visible()
    assert page.locator("img").count() == 0
    assert page.title() == "hostile.json"


# A note that is not written yet


@pytest.fixture
def noting(serve, page, tmp_path):
    """The page, which may write, at the first of two sessions."""
    path = tmp_path / "noted.json"
    model = Experiment.use(path, exp_id="digits").model("net")
    for lr in (0.1, 0.2):
        with model.session({"lr": lr}) as session:
            session.add_epoch(1, {"loss": lr})
    page.goto(serve(path, edit=True))
    rows(page).first.locator(".id").click()
    expect(note_of(page)).to_have_value("")
    return page


def note_of(page):
    return page.get_by_label("note", exact=True)


def test_a_note_that_is_not_written_yet_is_offered_again(noting):
    note_of(noting).fill("looks good")
    expect(noting.get_by_label("Note and tags")).to_contain_text("Not written yet")
    noting.go_back()
    rows(noting).last.locator(".id").click()
    expect(note_of(noting)).to_have_value("")
    noting.go_back()
    rows(noting).first.locator(".id").click()
    expect(note_of(noting)).to_have_value("looks good")
    noting.get_by_role("button", name="Drop the change").click()
    expect(note_of(noting)).to_have_value("")


def test_leaving_the_page_asks_while_a_note_is_not_written(noting):
    asked = []
    noting.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    note_of(noting).click()
    noting.keyboard.type("looks good")
    noting.get_by_role("navigation").get_by_role("link", name="Sessions").click()
    noting.reload()
    assert asked == ["beforeunload"]
    rows(noting).first.locator(".id").click()
    note_of(noting).click()
    noting.keyboard.type("looks good")
    noting.get_by_role("button", name="Write the note").click()
    expect(noting.get_by_label("Note and tags")).to_contain_text("The note is written.")
    expect(noting.get_by_role("button", name="Write the note")).to_be_disabled()
    expect(note_of(noting)).to_have_value("looks good")
    noting.reload()
    assert asked == ["beforeunload"]


# Sessions side by side


def test_a_comparison_says_first_what_was_chosen_and_folds_what_every_process_has_of_its_own(
    opened,
):
    for number in (1, 6):
        rows(opened).nth(number).locator("[role=gridcell]").nth(2).click()
    opened.get_by_role("button", name="Compare 2").click()
    table = opened.get_by_role("region", name="Comparison table")
    of_process = table.locator("tbody", has=opened.get_by_text("Process", exact=True))
    expect(table.locator("tbody th").first).to_have_text("Params")
    sections = table.locator(".section th").all_inner_texts()
    assert sections[:3] == ["Params", "Metrics, last value", "Metrics, best value"]
    assert sections[-2:] == ["Machine", "Process"]
    expect(of_process.get_by_role("rowheader", name="start", exact=True)).to_have_count(0)
    of_process.get_by_role("button", name="that differ").press("Enter")
    expect(of_process.get_by_role("rowheader", name="start", exact=True)).to_be_visible()
    opened.get_by_label("Show equal rows").check()
    expect(of_process.get_by_role("rowheader", name="pid")).to_be_visible()
    expect(of_process.get_by_role("rowheader", name="command_line")).to_be_visible()
    expect(of_process.get_by_role("rowheader", name="host")).to_have_count(0)


def test_the_command_of_a_session_can_be_run_as_it_is_copied(serve, page, tmp_path, run_command):
    path = tmp_path / "it's mine & $HOME.json"
    with Experiment.use(path, exp_id="digits").model("net").session({"lr": 7.5}) as session:
        session.add_epoch(1, {"loss": 1.0})
    page.goto(serve(path))
    rows(page).first.locator(".id").click()
    command = page.get_by_role("article").get_by_text("casket show").inner_text()
    program, *arguments = shlex.split(command)
    assert (program, arguments[-1]) == ("casket", str(path))
    assert "7.5" in run_command(*arguments)


# Failures in the page itself

FAILING_KEYS = """
export function useKeys() {
  if (location.hash.includes("sort=lr")) throw new Error("it broke <b>here</b>");
}
export const KeyHelp = () => null;
"""


def test_a_page_that_fails_as_a_whole_says_so_and_begins_anew(serve, page, runs, problems):
    script = {"body": FAILING_KEYS, "content_type": "text/javascript"}
    page.route("**/static/shell/keyboard.js", lambda route: route.fulfill(**script))
    page.goto(f"{serve(runs)}#sort=lr")
    expect(page.get_by_role("alert")).to_contain_text("it broke <b>here</b>")
    page.get_by_role("button", name="Reload").click()
    expect(page.get_by_role("alert")).to_contain_text("This page failed")
    assert all("it broke" in problem for problem in problems)
    problems.clear()
    page.get_by_role("button", name="Begin anew").click()
    expect(rows(page)).to_have_count(16)
    assert "#" not in page.url


def test_a_condition_in_the_address_whose_reader_does_not_load_leaves_the_page(
    serve, page, runs, problems
):
    page.route("**/static/where/where.js", lambda route: route.abort())
    page.goto(f"{serve(runs)}#where=params.lr+==+0.1")
    expect(page.locator("#where-says")).to_contain_text("did not load; reload the page")
    expect(rows(page)).to_have_count(16)
    problems.clear()


def test_the_best_of_a_thousand_is_found_compared_and_shared(serve, page, browser, tmp_path):
    path = tmp_path / "many.sqlite"
    noise = random.Random(0)
    scores = [noise.uniform(0, 0.9) for _ in range(1000)]
    fill(path, len(scores), 1, lambda seed, _: {"val_acc": scores[seed]})
    with casket.open(path) as runs:
        ranked = sorted(runs.sessions(), key=lambda session: -session.last["val_acc"])
    page.goto(serve(path))
    best = rows(page).first.locator(".id")
    expect(best).to_have_text(re.compile(ranked[0].id[:6]))
    leader = page.locator(".leader").get_by_role("link")
    expect(leader).to_have_attribute("href", re.compile(ranked[0].id))
    rows(page).nth(0).locator("[role=gridcell]").nth(2).click()
    rows(page).nth(1).locator("[role=gridcell]").nth(2).click(modifiers=["Shift"])
    page.get_by_role("button", name="Compare 2").click()
    why = page.locator(
        "table.side-by-side tr", has=page.get_by_role("rowheader", name=re.compile("^seed$"))
    ).first
    chosen = {str(session.params["seed"]) for session in ranked[:2]}
    wait_until(page, lambda: set(why.get_by_role("cell").all_inner_texts()) == chosen)
    other = browser.new_page()
    other.goto(page.url)
    region = other.get_by_role("region", name="Comparison table")
    for seed in chosen:
        expect(region.get_by_role("cell", name=seed, exact=True).first).to_be_visible()
    other.close()


# A metric whose name does not say which way is better


def test_which_way_is_better_is_asked_where_a_name_does_not_say_it(
    serve, page, tmp_path, run_command
):
    path = tmp_path / "unknown.json"
    model = Experiment.use(path, exp_id="physics").model("net")
    for lr, energies in [(0.1, (5.0, -3.0, 1.0)), (0.2, (9.0, 0.0, 2.0)), (0.3, (4.0, 3.0, 3.0))]:
        with model.session({"lr": lr}) as session:
            for epoch, energy in enumerate(energies, 1):
                session.add_epoch(epoch, {"energy": energy, "lr": lr})
    page.goto(serve(path))
    strip = page.get_by_role("region", name="Summary")
    expect(strip).to_contain_text(re.compile(r"Which\s+energy\s+is better"))
    expect(page.locator(".figure")).to_have_count(0)
    assert "best" not in " ".join(heads(page))
    strip.get_by_role("button", name="Lower is better").click()
    expect(page.locator(".figure")).to_have_text("-3")
    expect(page.locator(".leader")).to_contain_text("lr 0.1")
    expect(head_of(page, "energy, best")).to_be_visible()
    strip.get_by_role("button", name="better").click()
    expect(page.locator(".figure")).to_have_text("9")
    assert column(page, "energy, best") == ["9", "5", "4"]
    expect(page).to_have_url(re.compile("higher=energy"))
    with model.session({"lr": 0.4}) as session:
        session.add_epoch(1, {"energy": 11.0})
    expect(page.locator(".figure")).to_have_text("11")
    page.reload()
    expect(page.locator(".figure")).to_have_text("11")
    report = tmp_path / "report.html"
    run_command("export", path, "-o", report)
    page.goto(f"file://{report}#{page.url.partition('#')[2]}")
    expect(page.locator(".figure")).to_have_text("11")


def test_the_experiment_is_named_and_one_of_several_filters_the_table(serve, page, runs, tmp_path):
    path = tmp_path / "more.json"
    for name, count in (("few", 1), ('"quoted"', 2)):
        model = Experiment.use(path, exp_id=name).model("net")
        for seed in range(count):
            with model.session({"seed": seed}) as session:
                session.add_epoch(1, {"loss": 1})
    address = serve(path)
    page.goto(address)
    page.locator("summary", has_text="2 experiments").click()
    page.get_by_role("button", name='"quoted" 2').click()
    expect(rows(page)).to_have_count(2)
    expect(count_of(page)).to_contain_text("2")
    page.goto(serve(runs))
    expect(page.locator(".crumb")).to_have_text(re.compile("digits"))
