"""What the page says of params and sweeps, in a real browser, as the command line says it."""

import contextlib
import re

import pytest

from casket import Experiment
from tests.dashboard.asking import overview, wait_for

expect = pytest.importorskip("playwright.sync_api").expect


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
