"""What the page says of params and sweeps, in a real browser, as the command line says it."""

import contextlib
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from casket import Experiment
from tests.dashboard.asking import overview, settle, wait_for

expect = pytest.importorskip("playwright.sync_api").expect
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe


@pytest.fixture
def file(tmp_path):
    return tmp_path / "runs.json"


@pytest.fixture
def model(file):
    return Experiment.use(file, exp_id="digits").model("net")


def test_importance_is_the_same_wherever_it_is_shown(serve, client_of, page, file, run_command):
    sweep = (
        Experiment.use(str(file), exp_id="digits")
        .model("net")
        .sweep({"lr": [0.1, 0.01], "units": [8, 16], "seed": range(4)}, retries=0)
    )
    for i, session in enumerate(sweep):
        with contextlib.suppress(RuntimeError), session:
            lr, units, seed = (session.params[name] for name in ("lr", "units", "seed"))
            acc = 0.5 + lr * 3 + units / 40 + seed / 50
            for epoch in (1, 2):
                session.add_epoch(epoch, {"loss": seed, "accuracy": acc + 0.2 / epoch})
            if i % 4 == 3:
                session.add_epoch(3, {"accuracy": -100.0})
                raise RuntimeError
    address = serve(file)
    client = client_of(address)
    wait_for(lambda: all(each["state"] == "ready" for each in overview(client)["files"]))
    [sent] = client.get("/api/sweeps").json()
    [listed] = run_command("ls", file, "--sweep", "--json")
    assert listed["importance"] == sent["importance"]
    assert (listed["best"], sent["best"]["metric"]) == (sent["best"], "accuracy")
    shares = {name: round(100 * share) for name, share in sent["importance"].items()}
    assert list(shares)[:2] == ["lr", "units"]
    assert 0 < shares["units"] < shares["lr"] < 100
    page.goto(address)
    for name in ("lr", "units"):
        expect(page.locator(".matters")).to_contain_text(
            re.compile(rf"{name}\s+{shares[name]} %"), use_inner_text=True
        )
    page.get_by_role("button", name="Param importance").click()
    params = page.locator(".importance button")
    expect(params.first).to_be_visible()
    texts = [text.split() for text in params.all_inner_texts()]
    assert {text[0]: int(text[1]) for text in texts} == shares
    expect(page.get_by_role("heading", name=re.compile("against params.lr"))).to_be_visible()


def test_two_sessions_are_plotted_against_the_param_in_which_they_differ(serve, page, file, model):
    for lr in (0.1, 0.01):
        with model.session({"lr": lr}) as session:
            session.add_epoch(1, {"acc": 1 - lr})
    page.goto(f"{serve(file)}#view=explore")
    expect(page.get_by_role("heading", name="best.acc against params.lr")).to_be_visible()


SWEEP = """
import sys
from casket import Experiment

model = Experiment.use(sys.argv[1], exp_id="digits").model("net")
for session in model.sweep({"lr": [0.3, 0.1, 0.2], "units": [8]}, retries=0, on_error="continue"):
    with session:
        lr = session.params["lr"]
        for epoch in (1, 2):
            session.add_epoch(epoch, {"val_loss": lr + 1 / epoch})
            print("epoch", flush=True)
            if sys.stdin.readline() == "fail\\n":
                raise RuntimeError("out of memory")
"""


@pytest.fixture
def worker(file):
    """A process that runs a sweep of three sets; it goes on by an epoch for each line."""
    command = [sys.executable, "-W", "ignore", "-c", SWEEP, file]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        assert process.stdout.readline() == "epoch\n"
        yield process
        process.kill()


def go_on(worker, word="go"):
    worker.stdin.write(f"{word}\n")
    worker.stdout.readline()


def serious_in(page):
    settle(page)
    found = Axe().run(page).response["violations"]
    return [each["id"] for each in found if each["impact"] in {"serious", "critical"}]


def test_a_sweep_is_watched_from_the_first_epoch_to_the_end(
    serve, page, file, worker, run_command, tmp_path
):
    page.goto(serve(file))
    page.get_by_role("navigation").get_by_role("link", name="Sweep").click()
    count = page.locator(".progress-count")
    expect(count).to_have_text(re.compile(r"0 of 3\s+done · 1 running · 2 to go"))
    workers = page.get_by_role("region", name="What the workers run")
    expect(workers).to_contain_text(str(worker.pid))
    expect(workers).to_contain_text("1.3")
    for _ in range(3):  # the first set is done, the second in its second epoch
        go_on(worker)
    expect(count).to_have_text(re.compile(r"1 of 3\s+done · 1 running · 1 to go"))
    expect(page.locator(".figure")).to_have_text("0.8")
    expect(page.locator(".why")).to_contain_text("at epoch 2, is already lower: 0.6")
    expect(workers).to_contain_text("2 of 2")
    expect(workers).to_contain_text("0.2 better")
    assert serious_in(page) == []
    go_on(worker)
    expect(page.locator(".figure")).to_have_text("0.6")
    go_on(worker, "fail")
    expect(count).to_have_text(re.compile(r"2 of 3\s+done · 1 failed"))
    trials = page.get_by_role("region", name="The best trials as a table").get_by_role("row")
    expect(trials).to_have_count(3)
    expect(trials.nth(1)).to_contain_text("trial 2")
    expect(page.get_by_label("val_loss against lr", exact=True)).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert serious_in(page) == []
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    report = tmp_path / "report.html"
    run_command("export", file, "-o", report)
    page.goto(f"file://{report}#view=sweep")
    expect(count).to_contain_text("2 of 3")


def test_of_several_sweeps_one_is_chosen_and_a_session_in_silence_is_said_to_be_stalled(
    serve, page, file, model
):
    for values in ([1, 2], [3]):
        for session in model.sweep({"n": values}):
            with session:
                session.add_epoch(1, {"loss": session.params["n"]})
    with contextlib.closing(model.sweep({"n": [7]})) as sweep:
        next(sweep).add_epoch(1, {"loss": 7})
        page.clock.set_fixed_time(datetime.now(UTC) + timedelta(hours=1))
        page.goto(f"{serve(file)}#view=sweep")
        count = page.locator(".progress-count")
        expect(count).to_contain_text("0 of 1")
        expect(page.locator(".is-stalled")).to_contain_text("Stalled?")
        page.get_by_role("combobox", name="Sweep").select_option(index=0)
        expect(count).to_contain_text("2 of 2")
        expect(page.locator(".figure")).to_have_text("1")
        expect(page).to_have_url(re.compile("&sweep="))
        page.reload()
        expect(count).to_contain_text("2 of 2")
