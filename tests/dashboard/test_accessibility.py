"""Axe finds nothing serious in any view, light on a large screen and dark on a phone."""

import math

import pytest

from casket import Experiment
from tests.dashboard.asking import settle

expect = pytest.importorskip("playwright.sync_api").expect
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe

SCREENS = {"large": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """A file with all kinds of sessions; and their ids."""
    path = tmp_path_factory.mktemp("axe") / "runs.json"
    model = Experiment.use(path, exp_id="digits").model("net", model_config={"units": 64})
    ids = []
    for i in range(8):
        with model.session({"lr": 10.0 ** -(i % 4), "seed": i}) as session:
            for epoch in range(1, 6):
                loss = math.nan if (i, epoch) == (3, 3) else 1 / epoch + i / 10
                session.add_epoch(epoch, {"loss": loss, "val_acc": 1 - 1 / (epoch + 1)})
            session.add_result({"confusion": [[9, 1], [2, 8]], "note": "text"}, index_by="test")
            session.add_artifact("weights.bin", b"weights")
        ids.append(session.id)
    with pytest.raises(RuntimeError), model.session({"lr": 5.0, "seed": 99}):
        raise RuntimeError("out of memory")
    return path, ids


def of(ids, count):
    return ",".join(f"0.{name}" for name in ids[:count])


VIEWS = {
    "sessions": (lambda ids: "", ".table [data-index]"),
    "filtered": (lambda ids: f"where=params.lr<0.5&selected={of(ids, 2)}", ".table [data-index]"),
    "groups": (lambda ids: "group=params.lr", ".table [data-index]"),
    "nothing fits": (lambda ids: "where=params.lr>100", "text=/fits/"),
    "compare": (lambda ids: f"view=compare&selected={of(ids, 3)}", "table.side-by-side"),
    "explore": (lambda ids: "view=explore", ".importance"),
    "session": (lambda ids: f"view=session&session=0.{ids[0]}", ".session-head .title"),
}


@pytest.mark.parametrize(("screen", "scheme"), [("large", "light"), ("phone", "dark")])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(view, screen, scheme, serve, page, sessions):
    file, ids = sessions
    address, shown = VIEWS[view]
    page.set_viewport_size(SCREENS[screen])
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(f"{serve(file, edit=view == 'session')}#{address(ids)}")
    expect(page.locator(shown).first).to_be_visible()
    settle(page)
    violations = Axe().run(page).response["violations"]
    serious = [
        f"{each['id']}: {node['html'][:160]} ({node.get('failureSummary', '')[:200]})"
        for each in violations
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]
    assert not serious
