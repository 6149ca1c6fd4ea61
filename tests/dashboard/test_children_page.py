"""Children on the page: under their parent on request, and on its session page."""

import pytest

from casket import Experiment

api = pytest.importorskip("playwright.sync_api")
expect = api.expect


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two sessions, the second with three folds, the last of which has a child of its own."""
    path = tmp_path_factory.mktemp("runs") / "runs.json"
    model = Experiment.use(path, exp_id="digits").model("net")
    for lr in (0.1, 0.01):
        with model.session({"lr": lr}) as session:
            for epoch in (1, 2, 3):
                session.add_epoch(epoch, {"loss": lr / epoch})
            if lr == 0.01:
                for fold in range(3):
                    with session.child({"fold": fold}) as child:
                        child.add_epoch(1, {"loss": 0.001 * fold, "speed": 100 + fold})
                with model.within(child.id).session({"seed": 1}):
                    pass
    return path, session.id, child.id


@pytest.fixture
def opened(serve, page, runs):
    page.goto(serve(runs[0]))
    expect(rows(page)).to_have_count(2)
    return page


def rows(page):
    return page.locator(".table [data-index]")


def openers(page):
    return page.locator(".table .opener")


def test_children_are_shown_under_their_parent_on_request(opened):
    assert opened.locator("[role=treegrid]").count() == 1
    expect(openers(opened)).to_have_count(1)
    openers(opened).click()
    expect(rows(opened)).to_have_count(5)
    levels = [row.get_attribute("aria-level") for row in rows(opened).all()]
    assert sorted(filter(None, levels)) == ["2", "2", "2"]
    expect(openers(opened)).to_have_count(2)
    openers(opened).nth(1).click()
    expect(rows(opened)).to_have_count(6)
    expect(opened.locator("[aria-level='3']")).to_have_count(1)
    openers(opened).first.click()
    expect(rows(opened)).to_have_count(2)


def test_a_keyboard_opens_and_closes_them(opened):
    opened.locator(".table").focus()
    opened.keyboard.press("Home")
    if rows(opened).first.get_attribute("aria-expanded") is None:
        opened.keyboard.press("ArrowDown")
    opened.keyboard.press("ArrowRight")
    expect(rows(opened)).to_have_count(5)
    opened.keyboard.press("ArrowLeft")
    expect(rows(opened)).to_have_count(2)


def test_charts_counts_and_groups_have_parents_only(opened, runs):
    expect(opened.get_by_role("link", name="Sessions 2")).to_be_visible()
    expect(opened.locator("figure.chart").filter(has_text="loss").first).to_be_visible()
    assert opened.locator("figure.chart").filter(has_text="speed").count() == 0
    opened.evaluate("location.hash = 'group=params.lr'")
    expect(opened.get_by_role("button", name="n = 1", exact=True)).to_have_count(2)


def test_a_condition_that_only_children_fit_is_no_unknown_name(opened):
    opened.evaluate("location.hash = 'where=' + encodeURIComponent('params.fold is None')")
    expect(rows(opened)).to_have_count(2)


def test_the_page_of_a_session_lists_its_children_and_links_to_its_parent(opened, runs):
    _, parent, child = runs
    opened.evaluate(f"location.hash = 'view=session&session={parent}'")
    table = opened.get_by_role("region", name="Children: table")
    expect(table.locator("tbody tr")).to_have_count(3)
    assert table.locator("thead th").all_inner_texts() == [
        "session",
        "status",
        "fold",
        "loss",
        "speed",
    ]
    last = table.locator("tbody tr").nth(2)
    assert last.locator("td").all_inner_texts()[1:] == ["2", "0.002", "102"]
    last.get_by_role("link").click()
    expect(opened.locator("article.session")).to_have_attribute("aria-label", f"Session {child}")
    opened.locator(".session-head").get_by_text("child of").get_by_role("link").click()
    expect(opened.locator("article.session")).to_have_attribute("aria-label", f"Session {parent}")


def test_previous_and_next_of_a_child_are_its_siblings(opened, runs):
    _, _, child = runs
    opened.evaluate(f"location.hash = 'view=session&session={child}'")
    expect(opened.get_by_role("button", name="Next →")).to_be_disabled()
    opened.get_by_role("button", name="← Previous").click()
    expect(opened.get_by_role("button", name="Next →")).to_be_enabled()
    expect(opened.locator(".session-head")).to_contain_text("child of")
