"""The page's own modules, by Node's test runner; and what they share with Python, in both."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from casket.errors import BadExpression
from casket.metrics import better, interval
from casket.reading import look_up
from casket.where import compile_where

HERE = Path(__file__).parent
NODE = shutil.which("node")
WHERE = json.loads((HERE / "where_cases.json").read_text("utf-8"))
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
        "last": {name: number(value) for name, value in row["last"].items()},
        "logged": lambda kind: SimpleNamespace(__len__=row["epochs"].__index__),
    }
    return SimpleNamespace(**row | given)


def holds(fits, row):
    session = session_of(row)
    return fits(lambda name: row["epochs"] if name == ("epochs",) else look_up(session, name))


def said_by_python(expression):
    """Whether the shared row meets an expression, or where its mistake is."""
    try:
        return holds(compile_where(expression), WHERE["row"])
    except BadExpression as error:
        return error.facts[1]


@pytest.mark.parametrize(("expression", "expected"), WHERE["cases"])
def test_python_says_of_a_condition_what_the_page_does(expression, expected):
    found = said_by_python(expression)
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(("name", "mode"), METRICS["better"])
def test_python_says_which_way_is_better_as_the_page_does(name, mode):
    assert better(name) == mode


@pytest.mark.parametrize(("sample", "mean", "margin"), METRICS["interval"])
def test_python_finds_the_interval_that_the_page_does(sample, mean, margin):
    found = interval(sample)
    assert found.mean == mean
    assert math.isnan(found.margin) if margin is None else found.margin == margin


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
    made = [expression for expression, _ in WHERE["cases"]]
    pick = random.Random(seed)
    expressions = [composed(pick, made) for _ in range(600)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        expected = [said_by_python(expression) for expression in expressions]
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps({"row": WHERE["row"], "expressions": expressions}))
    script = HERE / "web" / "answer_where.mjs"
    ran = subprocess.run([NODE, script, questions], capture_output=True, text=True, check=True)
    answers = json.loads(ran.stdout)
    # Where exactly a mistake is found is the parsers' own affair; that there is one is not.
    unlike = [
        (expression, ours, theirs)
        for expression, ours, theirs in zip(expressions, expected, answers, strict=True)
        if theirs != (ours if isinstance(ours, bool) else "refused")
    ]
    assert unlike == []
    assert 50 < sum(isinstance(answer, bool) for answer in answers) < 600


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
        text = text[:at] + pick.choice(["", *"()[]{}'\".,:<>=!+-*/ 0a_&"]) + text[at + 1 :]
    return text
