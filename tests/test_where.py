"""The `where` language: its syntax, the meaning of conditions, and the position of mistakes."""

from __future__ import annotations

import json
import pickle
import random
import re
import string
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from casket.errors import BadExpression
from casket.reading.where import MISSING, compile_where
from casket.reading.where_values import FUNCTIONS

STARTED = datetime(2026, 1, 1, 10, 0, tzinfo=UTC)
SESSION = {
    "params": {
        "lr": 0.05,
        "epochs": 10,
        "name": "svm-rbf",
        "shuffle": True,
        "nothing": None,
        "zero": 0,
        "layers": [64, 32],
        "stack": [{"units": 8}, {"units": 4}],
        "by_number": {"0": "first"},
        "weird key": 7,
        "lambda": 0.5,
        "größe": 3,
        "opt": {"name": "adam"},
    },
    "last": {"val_loss": 0.25, "bad": float("nan"), "blown": float("inf")},
    "tags": ["svm", "baseline"],
    "kinds": {"a", "b"},
    "pair": (1, 2),
    "started": STARTED,
    "naive": datetime(2026, 1, 1, 10, 0),
    "dates": [STARTED],
    "holes": [MISSING, None],
    "status": "completed",
}


ROOT = Path(__file__).parents[1]
DOCUMENTED = [
    line
    for block in re.findall(
        r"```where\n(.*?)```", (ROOT / "docs" / "where.md").read_text("utf-8"), re.DOTALL
    )
    for line in block.splitlines()
]
SHARED = json.loads((ROOT / "tests" / "dashboard" / "where_cases.json").read_text("utf-8"))


def test_every_documented_condition_is_a_shared_case():
    assert len(DOCUMENTED) > 30
    assert set(DOCUMENTED) <= {expression for expression, *_ in SHARED["cases"]}


def test_every_function_is_documented():
    text = (ROOT / "docs" / "where.md").read_text("utf-8")
    assert [usage for usage, _ in FUNCTIONS.values() if f"`{usage}`" not in text] == []


def lookup_in(session):
    def lookup(names):
        value = session
        for name in names:
            if not isinstance(value, dict) or name not in value:
                return MISSING
            value = value[name]
        return value

    return lookup


def holds(expression, **values):
    return compile_where(expression)(lookup_in(SESSION | values))


def refusal(expression):
    with pytest.raises(BadExpression) as caught:
        compile_where(expression)
    return caught.value.facts


TRUE = """
params.lr < 0.1 and last.val_loss < 0.3 or 'svm' in tags
params.lr == 0.05
params.lr == 5e-2
params.lr != 3
params.epochs > 9 and params.epochs >= 10 and params.epochs <= 10
0.01 < params.lr < 0.1
0 < 1 < params.epochs == 10 != 11
not 0.1 < params.lr
not (params.lr > 1 or params.epochs > 100)
params.opt.name == "adam"
params["opt"]["name"] == 'adam'
params["opt"].name == 'adam'
params["weird key"] == 7
params["lambda"] < 1
params.größe == 3
params.layers[0] == 64 and params.layers[-1] == 32
params.layers == [64, 32]
params.layers == (64, 32)
params.stack[1].units == 4
params.stack[0]["units"] == 8
params.by_number[0] == 'first'
params.name[0] == 's'
pair == [1, 2]
pair == (1, 2)
'a' in kinds
params.lambda < 1
params.shuffle
params.shuffle == true and params.shuffle == True
params.shuffle != false
params.nothing == null and params.nothing is null
params.nothing is None
params.lr is not None
'svm' in tags and 'tree' not in tags
"svm" in params.name and "tree" not in params.name
"lr" in params
params.epochs in [5, 10]
params.epochs in (5, 10)
params.epochs in (10,)
params.epochs not in [-1, 2.5, "10", null]
params.layers in [[64, 32], [1]]
(params.absent or params.epochs) == 10
(params.shuffle and params.epochs) == 10
params.epochs * 2 + 1 == 21
params.epochs - 12 == -2
-params.epochs < 0
params.epochs / 4 == 2.5
params.epochs // 4 == 2 and params.epochs % 4 == 2
-(2 - 3) == 1
last.blown > 1e300
last.bad != last.bad
true
1
'text'
not null
  params.lr < 1  
params.lr < 1 or params.lr\tis None
'a#b=c&d|!' != status
"it's" != status and 'it\\'s = it' != status
""".strip("\n").split("\n")  # noqa: W291


@pytest.mark.parametrize("expression", TRUE)
def test_a_condition_that_is_met_holds(expression):
    assert holds(expression) is True


@pytest.mark.parametrize(
    "expression",
    [
        "params.lr > 0.1 and 'svm' in tags",
        "0.1 < params.lr < 1",
        "params.opt.name == 'sgd'",
        "params.zero",
        "'' or 0 or [] or false",
        "not params.shuffle",
        "params.nothing is not None",
        "'tree' in tags",
        "params.epochs not in [10]",
        "pair == [2, 1]",
        "false",
        "None",
        "last.bad == last.bad",
        "last.bad < 1 or last.bad > 1",
    ],
)
def test_a_condition_that_is_not_met_does_not_hold(expression):
    assert holds(expression) is False


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("absent < 3", False),
        ("absent <= 3", False),
        ("absent > 3", False),
        ("3 >= absent", False),
        ("absent < other", False),
        ("absent <= absent", False),
        ("absent == None", True),
        ("None == absent", True),
        ("absent is null", True),
        ("absent is not None", False),
        ("absent != None", False),
        ("absent == 3", False),
        ("absent != 3", True),
        ("absent != 'x'", True),
        ("'x' in absent", False),
        ("'x' not in absent", True),
        ("absent in [1, 2]", False),
        ("absent in [1, None]", True),
        ("absent in 'text'", False),
        ("absent in absent", False),
        ("None in holes", True),
        ("absent", False),
        ("not absent", True),
        ("absent + 1 > 0", False),
        ("-absent is None", True),
        ("absent.deeper[0]['x'].y is None", True),
        ("params.layers[9] is None", True),
        ("params.lr[0] is None", True),
        ("params.layers['x'] is None", True),
        ("params.lr.__len is None", True),
    ],
)
def test_a_missing_value_is_none_and_in_no_order(expression, expected):
    assert holds(expression) is expected


@pytest.mark.parametrize(
    "calculation",
    [
        "1 / params.zero",
        "1 // 0",
        "params.epochs % 0",
        "1e308 * 10",
        "-1e308 * 10",
        "1" + "0" * 290 + "." + " * 1e300",
        "params.name * 2",
        "params.name + params.name",
        "params.layers + params.layers",
        "params.layers * 2",
        "params.name % 1",
        "params.shuffle + 1",
        "-params.shuffle",
        "-params.name",
        "params.nothing + 1",
        "started - started",
        "1 + (1 < 2)",
    ],
)
def test_what_cannot_be_calculated_is_missing(calculation):
    assert holds(f"({calculation}) is None")
    assert not holds(f"({calculation}) < 1e300")
    assert not holds(f"({calculation}) > -1e300")


@pytest.mark.parametrize(
    "comparison",
    [
        "params.name < 3",
        "3 >= params.name",
        "params.layers < 3",
        "params.nothing < 3",
        "tags > 'svm'",
        "params < params",
        "params.name == 3",
        "3 in params.name",
        "tags in params.name",
        "3 in 3",
        "status in params.lr",
        "tags in kinds",
        "params in kinds",
        "started < 3",
        "started == params.name",
        "started < params.name",
        "started < naive",
    ],
)
def test_values_of_unlike_types_are_unequal_and_in_no_order(comparison):
    assert holds(comparison) is False


@pytest.mark.parametrize(
    "comparison",
    [
        "started == '2026-01-01T10:00'",
        "started == '2026-01-01T10:00Z'",
        "started == '2026-01-01 10:00:00+00:00'",
        "started == '2026-01-01T12:00+02:00'",
        "'2026-01-01T10:00' == started",
        "started >= '2026-01-01'",
        "started < '2026-01-02'",
        "'2025-12-31' < started < '2026-01-01T10:00:00.001'",
        "started != '2026-01-01'",
        "started != 'yesterday'",
        "started != None",
        "started in ['2026-01-01T10:00']",
        "'2026-01-01T10:00Z' in dates",
        "naive == '2026-01-01T10:00Z'",
    ],
)
def test_dates_compare_with_iso_8601_text_as_utc(comparison):
    assert holds(comparison)


def test_dates_of_other_zones_compare_by_the_moment():
    abroad = STARTED.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert holds("abroad == started and abroad == '2026-01-01T10:00'", abroad=abroad)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("val_loss", ("val_loss",)),
        ("params.opt.name", ("params", "opt", "name")),
        ('params["weird key"]', ("params", "weird key")),
        ('params["a.b"].c', ("params", "a.b", "c")),
        ('params["lambda"]', ("params", "lambda")),
        ('params["__key"]', ("params", "__key")),
        ("params.layers[0].units", ("params", "layers")),
        ("params[0]", ("params",)),
        ("params . lr", ("params", "lr")),
        ("params.true", ("params", "true")),
        ("`val/acc`", ("val/acc",)),
        ("last.`val loss`.`x.y`", ("last", "val loss", "x.y")),
        ("params.in", ("params", "in")),
        ("_private", ("_private",)),
    ],
)
def test_a_name_is_looked_up_by_its_parts(expression, names):
    asked = []
    compile_where(expression)(lambda parts: asked.append(parts) or MISSING)
    assert asked == [names]


def test_and_or_and_chains_look_up_no_more_than_they_need():
    asked = []
    compile_where("1 > 2 > a and b or 1 < 2 or c")(lambda parts: asked.append(parts) or MISSING)
    assert asked == []


def test_a_mistake_in_a_later_line_is_shown_in_its_own_line():
    with pytest.raises(BadExpression) as caught:
        compile_where("a < 1 and\n  b = 2")
    assert str(caught.value).split("\n")[1:] == ["      b = 2", "        ^"]


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 300 + "a" + ")" * 300,
        "(" * 190 + "a" + ")" * 180,
        "[" * 150 + "]" * 150,
        "not " * 2000 + "a",
        "-" * 9990 + "a",
        "a == '" + "\\'" * 2000,
        "'\"" * 3000 + "\\",
    ],
    ids=lambda text: f"{text[:8]}-{len(text)}",
)
def test_what_is_too_deep_or_too_large_is_refused(expression):
    begin = time.perf_counter()
    assert refusal(expression)[0] == expression
    assert time.perf_counter() - begin < 1


def test_an_expression_of_more_than_ten_thousand_characters_is_refused_in_a_short_message():
    with pytest.raises(BadExpression, match="at most 10000 characters") as caught:
        compile_where("a or " * 2000 + "a")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "expression",
    [
        "a" + ".b" * 4000,
        "a" + "[0]" * 3000,
        "a" + " + a" * 2000,
        "not a or " * 900 + "a",
        "9" * 5000,
    ],
    ids=lambda text: f"{text[:8]}-{len(text)}",
)
def test_what_is_long_and_not_nested_is_read(expression):
    assert holds(expression) in (True, False)


def test_wide_expressions_are_read():
    many = " or ".join(f"params.epochs == {number}" for number in range(400))
    assert holds(many)
    assert holds(f"params.epochs in {list(range(1500))}")
    assert holds("params.epochs" + " + 1" * 40 + " == 50")


def test_a_bad_expression_shows_the_place_and_pickles():
    with pytest.raises(BadExpression) as caught:
        compile_where("params.lr = 3")
    _, shown, marker = str(caught.value).split("\n")
    assert shown[marker.index("^")] == "="
    assert pickle.loads(pickle.dumps(caught.value)).facts == caught.value.facts
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


class Hostile:
    """Raises from every method."""

    def refuse(self, *_):
        raise RuntimeError("hostile")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = refuse
    __bool__ = __contains__ = __getitem__ = __len__ = __add__ = __neg__ = refuse
    __hash__ = object.__hash__


def hostile_values():
    numpy = pytest.importorskip("numpy")
    circle = []
    circle.append(circle)
    return [
        Hostile(),
        [Hostile()],
        {"k": Hostile()},
        circle,
        numpy.array([1, 2]),
        numpy.array([]),
        numpy.array([[1.0, numpy.nan]]),
        [numpy.array([1, 2])],
        numpy.array(["a", "b"]),
        numpy.array(3),
        numpy.float32(3),
        numpy.int8(127),
        numpy.datetime64("2026-01-01"),
        float("nan"),
        10**5000,
        1 + 2j,
        b"bytes",
        object(),
        int,
        MISSING,
        datetime.min,
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
        frozenset({1}),
        {(): 1},
    ]


def test_no_value_makes_an_evaluation_raise():
    operators = ["<", "<=", ">", ">=", "==", "!=", "in", "not in", "+", "-", "*", "/", "//", "%"]
    conditions = [compile_where(f"a {sign} b") for sign in operators]
    conditions += map(compile_where, ["a", "not a", "-a", "a and b", "a or b", "a is None"])
    conditions += map(compile_where, ["a == '2026-01-01'", "a < 'x'", "a in [1, 'x']", "'x' in a"])
    conditions += map(compile_where, ["a['k'] == 1", "a.k[0].j", "a[0] < a[-1] == a['0']"])
    values = hostile_values()
    for first in values:
        for second in values:
            lookup = lookup_in({"a": first, "b": second})
            for condition in conditions:
                assert condition(lookup) in (True, False)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("array", False),
        ("array == 3", False),
        ("array < 9", False),
        ("2 in array", True),
        ("9 in array", False),
        ("array[1] == 2", True),
        ("scalar == 3 and 2 < scalar < 4", True),
        ("scalar * 2 + 1 == 7", True),
        ("byte + 1 == 128", True),
        ("double / 0 is None", True),
        ("double * 1e308 is None", True),
    ],
)
def test_numpy_values_are_read_and_an_ambiguous_truth_is_false(expression, expected):
    numpy = pytest.importorskip("numpy")
    values = {
        "array": numpy.array([1, 2]),
        "scalar": numpy.float32(3),
        "byte": numpy.int8(127),
        "double": numpy.float64(10),
    }
    assert holds(expression, **values) is expected


def test_an_error_of_the_lookup_comes_through():
    def broken(names):
        raise LookupError(names)

    with pytest.raises(LookupError):
        compile_where("a + 1 < 3")(broken)


REACHING = """
__import__('os').system('true')
().__class__
''.__class__.__mro__
params.__class__.__bases__[0].__subclasses__()
params.lr.__class__()
params['a'].__globals__['x'](1)
eval('1')
print('x')
open('/etc/passwd')
(lambda: 0)()
[c for c in ().__class__.__bases__]
f'{params.__class__}'
(x := 1)
await x
""".strip().split("\n")


@pytest.mark.parametrize("expression", REACHING)
def test_nothing_of_python_can_be_reached(expression):
    with pytest.raises(BadExpression):
        compile_where(expression)


@pytest.mark.parametrize(
    "name", ["print", "eval", "open", "exit", "ast", "MISSING", "lookup", "__import__", "__class__"]
)
def test_names_of_python_are_only_looked_up(name):
    assert not holds(name)
    assert holds(f"{name} == 'mine'", **{name: "mine"})


def test_keys_are_items_never_attributes():
    class Open:
        secret = "secret"

    assert holds("a[0].secret is None and a[0]['secret'] is None", a=[Open()])


ALPHABETS = [
    string.printable,
    "ab01.'\"[](){}<>=!&|#,:;+-*/%\\ \t_é",
    "".join(map(chr, [*range(32, 600), 0x2028, 0xFF3F, 0x1F600, 0xD800, 0, 10, 13, 0xFEFF])),
]


def refused_or_evaluated(expression):
    try:
        condition = compile_where(expression)
    except BadExpression as error:
        given, position, problem = error.facts
        assert given == expression
        assert 0 <= position <= len(expression)
        assert problem
        return False
    assert condition(lookup_in(SESSION)) in (True, False)
    return True


@pytest.mark.parametrize("alphabet", ALPHABETS, ids=["printable", "signs", "unicode"])
def test_random_text_is_refused_or_read(alphabet):
    chance = random.Random(4)
    for _ in range(5000):
        refused_or_evaluated("".join(chance.choices(alphabet, k=chance.randrange(1, 25))))


def test_mutated_expressions_are_refused_or_read():
    chance = random.Random(5)
    read = sum(refused_or_evaluated(mutated(chance)) for _ in range(10_000))
    assert 1000 < read < 9500


def mutated(chance):
    text = chance.choice(TRUE)
    for _ in range(chance.randrange(1, 4)):
        begin = chance.randrange(len(text) + 1)
        end = min(len(text), begin + chance.randrange(4))
        other = chance.choice(TRUE)
        start = chance.randrange(len(other))
        replacement = other[start : start + chance.randrange(8)]
        text = text[:begin] + chance.choice([replacement, chance.choice(ALPHABETS[1])]) + text[end:]
    return text


def test_a_condition_can_be_used_by_many_threads():
    condition = compile_where("params.lr < 0.1 and 'svm' in tags")
    answers = []
    work = [
        threading.Thread(target=lambda: answers.append(condition(lookup_in(SESSION))))
        for _ in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert answers == [True] * 8
