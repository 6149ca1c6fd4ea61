"""Names of sessions: given ones, and two words made from the id."""

import re
from collections import Counter

import pytest

import casket
from casket import UnstorableValue
from casket.format.names import two_words
from casket.format.records import new_id
from tests.merging import merge


def test_two_words_are_always_the_same_for_an_id():
    assert two_words("8f3a91c05d2e7b46") == "busy-birch"
    assert two_words("imported-run 7") == two_words("imported-run 7")


def test_two_words_of_1000_sessions_hardly_ever_coincide():
    for ids in ([new_id() for _ in range(1000)], [f"run-{i}" for i in range(1000)]):
        names = Counter(map(two_words, ids))
        assert all(re.fullmatch("[a-z]+-[a-z]+", name) for name in names)
        assert sum(count for count in names.values() if count > 1) <= 30  # 6 on average


def test_a_session_without_a_name_shows_two_words(model):
    with model.session({"lr": 0.1}) as session:
        assert session.name == two_words(session.id)
        assert session.group is None
    (view,) = model.sessions()
    assert (view.name, view.named, view.group) == (two_words(view.id), None, None)


def test_a_session_is_named_when_it_starts(model):
    with model.session({"lr": 1}, name="warm start", tags=("a", "b"), group="sweep 1") as session:
        assert (session.name, session.group) == ("warm start", "sweep 1")
    (view,) = model.sessions()
    assert (view.name, view.named, view.group) == ("warm start", "warm start", "sweep 1")
    assert view.tags == ("a", "b")
    session.remove_tag("a")
    assert model.sessions()[0].tags == ("b",)


def test_a_session_is_renamed_also_after_its_end(model):
    with model.session({"lr": 1}, name="first") as session:
        session.name = "second"
        session.group = "g"
        assert model.sessions()[0].name == "second"
    session.name = "größer"
    view = model.sessions()[0]
    assert (session.name, view.name, view.group) == ("größer", "größer", "g")
    assert (view.status, view.ended) == ("completed", view.last_seen)
    session.name = session.group = ""
    view = model.sessions()[0]
    assert (view.name, view.named, view.group) == (two_words(session.id), None, None)


def test_a_continued_session_gets_the_name_and_tags_it_is_given(model):
    with model.session({"lr": 1}, name="first", tags="a"):
        pass
    with model.session({"lr": 1}, ensure_unique=False, tags="b"):
        pass
    assert (model.sessions()[0].name, model.sessions()[0].tags) == ("first", ("a", "b"))
    with model.session({"lr": 1}, ensure_unique=False, name="second"):
        pass
    assert model.sessions()[0].name == "second"


def test_names_need_not_be_unique(model):
    for lr in (1, 2):
        with model.session({"lr": lr}, name="same"):
            pass
    assert [view.name for view in model.sessions()] == ["same", "same"]


@pytest.mark.parametrize("label", [{"name": 3}, {"tags": [3]}, {"group": 3}])
def test_a_label_that_is_no_text_is_refused_before_anything_is_written(model, label):
    with pytest.raises(UnstorableValue):
        model.session({"lr": 1}, **label)
    assert model.sessions() == []


def test_names_are_found_in_conditions_and_tables(model):
    with model.session({"lr": 1}, name="warm", group="g"), model.session({"lr": 2}):
        pass
    assert [view.params["lr"] for view in model.sessions(where="name == 'warm'")] == [1]
    assert [view.params["lr"] for view in model.sessions(where="group != 'g'")] == [2]
    frame = model.to_pandas()
    assert list(frame["name"]) == [view.name for view in model.sessions()]
    assert list(frame["group"].fillna("none")) == ["g", "none"]


def test_a_name_survives_a_merge(file_url, tmp_path):
    with casket.Experiment.use(file_url, exp_id="e").model("m").session({"lr": 1}, name="a") as s:
        s.name = "b"
    merge(tmp_path / "merged.json", file_url)
    with casket.open(tmp_path / "merged.json") as runs:
        assert runs.sessions()[0].name == "b"
