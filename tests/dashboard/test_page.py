"""The page as people use it: a real server, a real browser, a keyboard and a mouse."""

import csv
import io
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import casket
from casket import Experiment

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
        raise RuntimeError("out of memory")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Fifteen completed sessions and one that failed, the newest."""
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
    """The page with the fifteen and one."""
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


def count_of(page):
    return page.locator(".filter .count")


def chart(page, title):
    return page.locator("figure.chart").filter(has=page.get_by_text(title, exact=True).first).first


def values(page, title):
    """Return the lines of the table under a chart."""
    return chart(page, title).locator(".values tbody tr")


def is_in_time(condition, seconds=15):
    """Tell whether something comes true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(PAUSE / 1000)
    return False


def wait_until(page, condition, seconds=15):
    """Wait for what no locator can see, while the page goes on."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        page.wait_for_timeout(PAUSE)


def test_every_module_can_be_found_by_its_name():
    html = (WEB / "index.html").read_text()
    mapped = json.loads(re.search(r'<script type="importmap">(.*?)</script>', html, re.DOTALL)[1])
    modules = {f"casket/{path.stem}": f"./static/{path.name}" for path in WEB.glob("*.js")}
    own = {n: address for n, address in mapped["imports"].items() if n.startswith("casket/")}
    assert own == modules
    linked = re.findall(r'<link rel="[^"]*" href="\./static/([^"]+)"', html)
    assert all((WEB / name).is_file() for name in linked)


# At first sight


def test_on_opening_the_newest_ten_are_drawn_and_the_best_is_named(opened):
    expect(opened.locator(".eye.is-on")).to_have_count(10)
    expect(opened.locator(".standing")).to_contain_text("16 sessions")
    expect(opened.locator(".leader")).to_contain_text("lr=0.01")
    expect(values(opened, "loss")).to_have_count(5)
    expect(chart(opened, "loss")).to_contain_text("and 5 more")


def test_train_and_validation_of_a_metric_share_a_chart(opened):
    expect(chart(opened, "loss").locator("thead th")).to_have_text(["last", "loss", "val_loss"])


def test_params_that_vary_are_columns_and_the_best_values_are_said_to_be(opened):
    assert heads(opened)[1:4] == ["status", "lr", "seed"]
    expect(opened.locator(".is-best").first).to_contain_text("best:")


def test_nan_is_said_where_it_is(opened):
    expect(chart(opened, "loss")).to_contain_text("NaN or infinite")


# The table


def test_a_condition_narrows_the_table_and_the_charts(opened):
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
    expect(opened.locator("#where-says")).to_contain_text("Nothing fits")
    opened.keyboard.press("Enter")
    opened.get_by_role("button", name="Clear the filter").click()
    expect(rows(opened)).to_have_count(16)


def test_a_head_sorts_and_turns_round(opened):
    head = head_of(opened, "val_loss")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    shown = [float(text) for text in column(opened, "val_loss") if text]
    assert shown == sorted(shown)
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    shown = [float(text) for text in column(opened, "val_loss") if text]
    assert shown == sorted(shown, reverse=True)


def test_groups_show_mean_interval_and_number_and_open(opened):
    opened.locator("summary", has_text="Group").click()
    opened.get_by_role("checkbox", name="params.lr").check()
    opened.keyboard.press("Escape")
    expect(rows(opened)).to_have_count(3)
    assert column(opened, "lr") == ["0.001", "0.01", "0.1"]
    assert all("±" in text for text in column(opened, "val_loss"))
    opened.get_by_role("button", name="n = 6", exact=True).click()
    expect(rows(opened)).to_have_count(9)
    expect(values(opened, "loss").first).to_contain_text("lr=0.01")


def test_columns_are_chosen_and_moved(opened):
    opened.locator("summary", has_text="Columns").click()
    opened.get_by_label("Add").fill("meta.host")
    opened.get_by_role("button", name="meta.host").click()
    opened.get_by_role("button", name="host further left").click()
    opened.get_by_role("button", name="Remove duration").click()
    assert heads(opened)[-2] == "host"
    assert "duration" not in heads(opened)


def test_a_pinned_session_stands_on_top_and_is_drawn(opened):
    last = rows(opened).last
    name = last.locator(".id").inner_text()
    last.hover()
    last.get_by_role("button", name="Pin").click()
    expect(rows(opened).first.locator(".id")).to_have_text(name)
    expect(rows(opened).first.locator(".eye")).to_have_class(re.compile("is-on"))


def test_a_hidden_session_is_drawn_no_more_until_all_are_shown_again(opened):
    rows(opened).first.get_by_role("button", name="Draw").click()
    expect(rows(opened).first.locator(".eye")).to_have_attribute("aria-pressed", "false")
    opened.get_by_role("button", name="1 hidden").click()
    expect(rows(opened).first.locator(".eye")).to_have_attribute("aria-pressed", "true")


def test_what_is_drawn_follows_the_choice_of_how_many(opened):
    opened.get_by_role("radio", name="all").check()
    expect(opened.locator(".eye.is-on")).to_have_count(16)
    opened.get_by_label("Hide finished").check()
    expect(opened.locator(".eye.is-on")).to_have_count(0)
    expect(opened.locator(".nothing")).to_contain_text("none of these runs now")


def test_a_range_is_selected_with_shift_and_compared(opened):
    rows(opened).nth(1).locator("[role=gridcell]").nth(2).click()
    rows(opened).nth(3).locator("[role=gridcell]").nth(2).click(modifiers=["Shift"])
    expect(opened.locator(".row.is-selected")).to_have_count(3)
    opened.get_by_role("button", name="Compare 3").click()
    expect(opened.get_by_role("region", name="Comparison table")).to_be_visible()


def test_the_csv_is_what_is_shown(opened):
    opened.get_by_label("Filter sessions by a condition").fill("params.lr == 0.01")
    head_of(opened, "seed").get_by_role("button").click()
    with opened.expect_download() as download:
        opened.get_by_role("button", name="CSV", exact=True).click()
    saved = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert [row["params.seed"] for row in saved] == column(opened, "seed")
    assert {row["params.lr"] for row in saved} == {"0.01"}


def test_thousands_of_rows_are_in_the_table_but_few_in_the_document(serve, page, tmp_path):
    path = tmp_path / "many.sqlite"
    model = Experiment.use(path, exp_id="many").model("net")
    for seed in range(1000):
        with model.session({"seed": seed}) as session:
            session.add_epoch(1, {"loss": seed / 1000})
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
        chart(opened, "loss").locator("summary").click()
        with opened.expect_download() as download:
            chart(opened, "loss").get_by_role("button", name=name).click()
        saved[name] = download.value.path().read_bytes()
        opened.keyboard.press("Escape")
    assert saved["PNG picture"].startswith(b"\x89PNG")
    assert saved["SVG picture"].count(b"<path") == 2 * 10 - 1
    # Nine of the ten ran twenty epochs of two metrics, and one broke off with one of them.
    assert len(saved["CSV, every value"].splitlines()) == 1 + 9 * 20 * 2 + 1


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
    assert len(opened.url.partition("#")[2]) < 80
    other.close()


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
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("article")).to_contain_text("out of memory")


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


# What changes, and what goes wrong


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
        expect(values(page, "loss").locator("td")).to_have_text("0.33333")
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
    serve.running[0][2].join(20)
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
        chart(page, "loss").locator("summary").click()
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
    assert heads(page).index("lr") < heads(page).index("kernel")


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
