"""The page's own modules, by Node's test runner; and rules shared with Python, in both."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from casket import Experiment
from casket.errors import BadExpression
from casket.reading.metrics import facts_of
from casket.reading.numbers import digits_apart, shown_number, with_margin
from casket.reading.query import Names
from casket.reading.where import MISSING, compile_where
from casket.statistics.importance import importance
from casket.statistics.intervals import interval

HERE = Path(__file__).parent
NODE = shutil.which("node")
WHERE = json.loads((HERE / "where_cases.json").read_text("utf-8"))
NUMBERS = json.loads((HERE / "number_cases.json").read_text("utf-8"))
METRICS = json.loads((HERE / "metric_cases.json").read_text("utf-8"))

needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


def number(value):
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def session_of(row):
    """The session that the page's row is of."""
    ended = row["ended"] and datetime.fromisoformat(row["ended"])
    given = {
        "started": datetime.fromisoformat(row["started"]),
        "ended": ended,
        "duration": timedelta(seconds=row["duration"]),
        "parent_id": row["parent"],
        "last": {name: number(value) for name, value in row["last"].items()},
    }
    return SimpleNamespace(**row | given)


def holds(fits, row):
    session = session_of(row)
    names = Names([session])

    def value(name):
        if name == ("epochs",):
            return row["epochs"]
        if name[0] == "best" and len(name) > 1:
            return row["best"].get(".".join(name[1:]), MISSING)
        return names.value(session, name)

    return fits(value)


def said_by_python(expression):
    """Whether the shared row meets an expression, or where its mistake is, and which."""
    try:
        return [holds(compile_where(expression), WHERE["row"])]
    except BadExpression as error:
        return list(error.facts[1:])


@pytest.mark.parametrize("case", WHERE["cases"], ids=lambda case: case[0][:60])
def test_python_says_of_a_condition_what_the_page_does(case):
    expression, expected, *message = case
    answer, *problem = said_by_python(expression)
    assert (type(answer), answer) == (type(expected), expected)
    assert all(text.startswith(message[0]) for text in problem)
    assert len(problem) == len(message)


@pytest.mark.parametrize("case", WHERE["hints"], ids=lambda case: case[0])
def test_python_hints_at_the_name_that_was_meant_as_the_page_does(case):
    expression, position, message = case
    model = Experiment.use(":memory:", exp_id="digits").model("svm", WHERE["row"]["config"])
    with model.session(WHERE["row"]["params"]) as session:
        session.add_epoch(1, {name: number(v) for name, v in WHERE["row"]["last"].items()})
        session.add_meta(WHERE["row"]["meta"])
    with pytest.raises(BadExpression) as caught:
        model.sessions(where=expression)
    assert caught.value.facts == (expression, position, message)


@pytest.mark.parametrize(("name", "mode"), METRICS["better"])
def test_python_says_which_way_is_better(name, mode):
    assert facts_of(name)["better"] == mode


@pytest.mark.parametrize(("name", "decided"), METRICS["facts"])
def test_python_decides_what_the_page_is_sent_of_a_metric(name, decided):
    assert facts_of(name) == decided


@pytest.mark.parametrize(("value", "text"), NUMBERS["numbers"])
def test_python_shows_a_number_as_the_page_does(value, text):
    assert shown_number(number(value)) == text


@pytest.mark.parametrize(("values", "texts"), NUMBERS["columns"])
def test_python_shows_a_column_as_the_page_does(values, texts):
    column = [number(value) for value in values]
    digits = digits_apart(column)
    shown = [
        shown_number(value, digits) if text is not None else None
        for value, text in zip(column, texts, strict=True)
    ]
    assert shown == texts


@pytest.mark.parametrize(("mean", "margin", "text"), NUMBERS["margins"])
def test_python_shows_a_mean_as_the_page_does(mean, margin, text):
    assert with_margin(mean, number(margin)) == text


@pytest.mark.parametrize(("sample", "mean", "margin"), METRICS["interval"])
def test_python_finds_the_interval_that_the_page_does(sample, mean, margin):
    estimate = interval(sample)
    assert estimate.mean == mean
    assert math.isnan(estimate.margin) if margin is None else estimate.margin == margin


@pytest.mark.parametrize(("values", "scores", "share"), METRICS["importance"])
def test_python_computes_the_importance_that_the_page_does(values, scores, share):
    assert importance(values, scores) == (share if share is None else pytest.approx(share))


@needs_node
@pytest.mark.parametrize("path", sorted((HERE / "web").glob("*.test.js")), ids=lambda p: p.name)
def test_modules_of_the_page_pass_their_own_tests(path):
    ran = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", path], capture_output=True, text=True, check=False
    )
    failed = [line for line in ran.stdout.splitlines() if line.lstrip().startswith("not ok")]
    assert not failed, ran.stdout + ran.stderr
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "\nok " in ran.stdout or "\n# pass" in ran.stdout


@needs_node
@pytest.mark.parametrize("seed", range(3))
def test_conditions_made_at_random_mean_the_same_in_python_and_on_the_page(seed, tmp_path):
    made = [case[0] for case in WHERE["cases"]]
    pick = random.Random(seed)
    expressions = [composed(pick, made) for _ in range(600)]
    expected = [said_by_python(expression) for expression in expressions]
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps({"row": WHERE["row"], "expressions": expressions}))
    script = HERE / "web" / "answer_where.mjs"
    ran = subprocess.run([NODE, script, questions], capture_output=True, text=True, check=True)
    answers = json.loads(ran.stdout)
    unlike = [
        (expression, ours, theirs)
        for expression, ours, theirs in zip(expressions, expected, answers, strict=True)
        if theirs != ours
    ]
    assert unlike == []
    assert 50 < sum(len(answer) == 1 for answer in answers) < 600


def composed(pick, made):
    """A condition of several, or with a character more or less."""
    signs = [
        "<",
        "<=",
        ">",
        ">=",
        "==",
        "!=",
        "in",
        "and",
        "or",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "is",
        "not",
    ]
    form = pick.choice(["{a} {sign} {b}", "({a}) {sign} ({b})", "not ({a})", "[{a}]", "-({a})"])
    one, other = pick.choice(made), pick.choice(made)
    text = form.format(a=one, b=other, sign=pick.choice(signs))
    if pick.random() < 0.3:
        at = pick.randrange(len(text))
        text = text[:at] + pick.choice(["", *"()[]{}'\".,:<>=!+-*/ 0a_&`\\é😀"]) + text[at + 1 :]
    return text
