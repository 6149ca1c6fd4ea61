"""Logged values: their stored form, refused values, and equality."""

import copy
import enum
import math
import random
import re
import time
from argparse import Namespace
from collections import ChainMap, OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import ClassVar
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

import casket
from casket import Experiment, UnstorableValue
from casket.format.values import LARGE_ARRAY


@pytest.fixture
def kept(memory):
    """Log a value and read it back."""

    def keep(value):
        memory.add_result({"value": value})
        return memory.sessions()[-1].results()[0]["value"]

    return keep


def same(one, other):
    """Return whether two values are equal and of the same types: NaN is NaN, -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return repr(one) == repr(other)
    return one == other


# Arrays and numbers.

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64", "longdouble"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_numpy_integers_become_ints(kept, dtype):
    assert same(kept(np.array([[0, 1], [2, 100]], dtype)), [[0, 1], [2, 100]])
    assert same(kept(np.dtype(dtype).type(7)), 7)


@pytest.mark.parametrize("dtype", FLOATS)
def test_numpy_floats_become_floats(kept, dtype):
    assert same(kept(np.array([0.5, -2, 0], dtype)), [0.5, -2.0, 0.0])
    assert same(kept(np.dtype(dtype).type(0.25)), 0.25)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_half_and_single_precision_keep_their_shortest_decimal(kept, dtype):
    number = np.dtype(dtype).type
    assert kept(number(0.1)) == 0.1
    assert kept(np.array([[0.1, 0.7]], dtype)) == [[0.1, 0.7]]
    assert kept(pd.Series([0.1, 0.7], dtype=dtype)) == [0.1, 0.7]
    for value in (number(1) / number(3), np.finfo(dtype).max, np.finfo(dtype).tiny):
        assert number(kept(value)) == value


def test_numpy_bools_become_bools(kept):
    assert same(kept(np.bool_(True)), True)
    assert same(kept(np.array([True, False])), [True, False])


def test_an_array_without_dimensions_becomes_a_number(kept):
    assert same(kept(np.array(3)), 3)
    assert same(kept(np.array(np.float32(0.1))), 0.1)


def test_an_empty_array_becomes_an_empty_list(kept):
    assert kept(np.array([])) == []
    assert kept(np.zeros((2, 0), np.float32)) == [[], []]


def test_unsigned_integers_beyond_int64_are_exact(kept):
    assert kept(np.uint64(2**64 - 1)) == 2**64 - 1
    assert kept(np.array([2**63, 1], np.uint64)) == [2**63, 1]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_not_finite_in_an_array_is_kept(kept, dtype):
    assert same(
        kept(np.array([np.nan, np.inf, -np.inf, 1], dtype)), [math.nan, math.inf, -math.inf, 1.0]
    )


def test_what_is_masked_in_an_array_is_none(kept):
    hidden = {"mask": [False, True]}
    for dtype, first in [("f8", 1.5), ("f4", 0.1), ("i4", 3), ("bool", True)]:
        assert same(kept(np.ma.array([first, 0], dtype, **hidden)), [first, None])
    assert kept(np.ma.array([60, 0], "m8[s]", **hidden)) == [60.0, None]
    assert kept(np.ma.array([0, 0], "M8[D]", **hidden)) == ["1970-01-01", None]
    masked = np.ma.array(large("float64"), mask=large("float64") > 50)
    assert kept(masked)[0][50:52] == [50.0, None]


def test_numpy_text_and_objects_become_plain_values(kept):
    assert same(kept(np.str_("a")), "a")
    assert kept(np.array(["a", "bc"])) == ["a", "bc"]
    assert kept(np.array([1, "a", None, [2]], object)) == [1, "a", None, [2]]


def test_a_subclass_of_an_array_is_an_array(kept):
    class Mine(np.ndarray):
        pass

    assert kept(np.arange(3).view(Mine)) == [0, 1, 2]


@pytest.mark.parametrize(
    "value",
    [
        np.array([1 + 2j]),
        np.complex64(1j),
        np.zeros(2, [("a", "i4"), ("b", "f8")]),
        np.void(b"abc"),
        np.array([b"abc"]),
        np.datetime64("20000-01-01"),
        np.random.default_rng(0),
    ],
    ids=lambda value: type(value).__name__ + str(getattr(value, "dtype", "")),
)
def test_arrays_json_has_no_form_for_are_refused(kept, value):
    with pytest.raises(UnstorableValue, match=r"^value cannot be stored: numpy\."):
        kept(value)


def test_a_numpy_dtype_is_kept_by_name(kept):
    assert kept(np.dtype("float32")) == "float32"


@pytest.mark.parametrize("unit", ["h", "s", "ms", "us", "ns"])
def test_numpy_times_become_times(kept, unit):
    moment = np.datetime64("2026-03-01T12", unit)
    expected = datetime(2026, 3, 1, 12).astimezone(UTC)
    assert same(kept(moment), expected)
    assert kept(np.array([moment, np.datetime64("NaT", unit)])) == [expected, None]


def test_numpy_days_become_dates(kept):
    assert kept(np.array(["2026-03-01", "NaT"], "M8[D]")) == ["2026-03-01", None]


@pytest.mark.parametrize("unit", ["m", "s", "ms", "us", "ns"])
def test_numpy_durations_become_seconds(kept, unit):
    duration = np.timedelta64(60, "s").astype(f"m8[{unit}]")
    assert same(kept(duration), 60.0)
    assert kept(np.array([duration, np.timedelta64("NaT", unit)])) == [60.0, None]


def test_torch_tensors_of_every_type_become_numbers(kept):
    torch = pytest.importorskip("torch")
    dtypes = {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    whole = {dtype for dtype in dtypes if str(dtype)[6:] in INTEGERS}
    real = {dtype for dtype in dtypes if dtype.is_floating_point and dtype.itemsize > 1}
    assert len(whole) == 8
    assert torch.bfloat16 in real
    for dtype in whole:
        assert same(kept(torch.tensor([[1], [2]], dtype=dtype)), [[1], [2]])
        assert same(kept(torch.tensor(7, dtype=dtype)), 7)
    for dtype in real:
        assert same(kept(torch.tensor([0.5, 2], dtype=dtype)), [0.5, 2.0])
    assert same(kept(torch.tensor([True])), [True])
    assert kept(torch.tensor(0.1)) == 0.1
    assert kept(torch.tensor([0.5, -2]).to(torch.float8_e5m2)) == [0.5, -2.0]
    assert kept(torch.tensor([])) == []


def test_torch_tensors_that_record_gradients_are_kept(kept):
    torch = pytest.importorskip("torch")
    loss = (torch.ones(2, requires_grad=True) * 3).sum()
    assert kept(loss) == 6.0
    assert kept(torch.nn.Parameter(torch.zeros(2))) == [0.0, 0.0]
    assert kept(torch.tensor([1 + 2j]).conj().imag) == [-2.0]


def test_what_torch_calls_things_is_kept_by_name(kept):
    torch = pytest.importorskip("torch")
    assert kept(torch.float32) == "torch.float32"
    assert kept(torch.device("cpu")) == "cpu"
    assert kept(torch.Size([2, 3])) == [2, 3]


def test_what_torch_cannot_turn_into_numbers_is_refused(kept):
    torch = pytest.importorskip("torch")
    for value in (
        torch.tensor([1j]),
        torch.nn.Linear(1, 1),
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
    ):
        with pytest.raises(UnstorableValue, match=r"^value cannot be stored: torch\."):
            kept(value)


def test_jax_arrays_become_numbers(kept):
    jnp = pytest.importorskip("jax.numpy")
    assert same(kept(jnp.array([1, 2])), [1, 2])
    assert same(kept(jnp.float32(0.1)), 0.1)
    assert same(kept(jnp.array([0.5, 2], jnp.bfloat16)), [0.5, 2.0])
    assert same(kept(jnp.bfloat16(1.5)), 1.5)
    assert same(kept(jnp.array([1, 2], jnp.int4)), [1, 2])
    assert same(kept(jnp.array([0.5], jnp.float8_e4m3fn)), [0.5])
    assert same(kept(jnp.array([True])), [True])
    assert kept(jnp.zeros((0,))) == []


def test_jax_values_that_hold_no_numbers_are_refused(kept):
    jax = pytest.importorskip("jax")
    with pytest.raises(UnstorableValue, match="value"):
        kept(jax.random.key(0))
    with pytest.raises(UnstorableValue, match="value"):
        jax.jit(kept)(1.0)


def test_torch_and_jax_agree_on_bfloat16(kept):
    torch, jnp = pytest.importorskip("torch"), pytest.importorskip("jax.numpy")
    assert kept(torch.tensor(0.1, dtype=torch.bfloat16)) == kept(jnp.bfloat16(0.1))


@pytest.mark.skipif(not (find_spec("keras") and find_spec("torch")), reason="keras is missing")
def test_keras_variables_become_numbers(run_python):
    printed = run_python(
        """
        import keras
        from casket.format.values import Encoder
        variable = keras.Variable([0.5, 2.0])
        values = {"v": variable, "sum": keras.ops.sum(variable), "half": variable.value}
        print(Encoder().mapping(values, "result"))
        """,
        KERAS_BACKEND="torch",
    )
    assert printed == "{'v': [0.5, 2.0], 'sum': 2.5, 'half': [0.5, 2.0]}"


def test_tensorflow_tensors_become_numbers(kept):
    tf = pytest.importorskip("tensorflow")
    assert kept(tf.constant([0.5, 2.0])) == [0.5, 2.0]
    assert kept(tf.Variable(1.5)) == 1.5
    assert kept(tf.constant(1.5, tf.bfloat16)) == 1.5


# Large arrays.


def large(dtype):
    items = LARGE_ARRAY // np.dtype(dtype).itemsize + 1
    return (np.arange(items) % 100).astype(dtype).reshape(1, -1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8", "bool"])
def test_a_large_array_is_kept_as_a_file_and_read_back_equal(model, dtype):
    array = large(dtype)
    with model.session({"w": array}) as session:
        session.add_epoch(1, {"w": array, "loss": 0.5})
        session.add_meta({"mask": [array]})
    (view,) = model.sessions()
    for stored in (view.params["w"], view.epochs[0]["w"], view.last["w"], view.meta["mask"][0]):
        assert stored.dtype == array.dtype
        assert np.array_equal(stored, array)
    assert [path.suffix for path in model.backend.files.path.iterdir()] == [".npy"]


def test_an_array_that_is_not_large_becomes_a_list(memory):
    array = np.zeros(LARGE_ARRAY // 8)
    memory.add_result({"w": array})
    assert memory.sessions()[0].results()[0]["w"] == array.tolist()


def test_large_arrays_of_every_library_are_kept_as_files(kept):
    array = large("float32")
    stored = [kept(pd.Series(array[0])), kept(pd.DataFrame(array.T, columns=["a"]))["a"]]
    torch = pytest.importorskip("torch")
    jnp = pytest.importorskip("jax.numpy")
    stored += [kept(torch.tensor(array))[0], kept(jnp.array(array))[0]]
    for each in stored:
        assert isinstance(each, np.ndarray)
        assert each.dtype == np.float32
        assert np.array_equal(each, array[0])


def test_a_large_array_beside_a_value_that_is_refused_is_not_kept(tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with pytest.raises(UnstorableValue, match="b cannot"):
        model.add_result({"a": large("float64"), "b": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["runs.json"]


def test_a_large_array_is_not_needed_until_it_is_asked_for(tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net", {"w": large("int8")})
    with model.session({"w": large("float64")}) as session:
        session.add_epoch(1, {"loss": 0.5})
    for file in (tmp_path / "runs.json.files").iterdir():
        file.unlink()
    with casket.open(tmp_path / "runs.json") as runs:
        (view,) = runs.sessions(where="loss < 1")
        assert view.last == {"loss": 0.5}
        for part in ("params", "config"):
            with pytest.raises(casket.NotFound, match=r"runs\.json\.files.*\.npy"):
                getattr(view, part)


def test_reading_a_large_array_without_numpy_says_what_to_install(run_python, tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    model.add_result({"w": large("int8")}, params={"lr": 1})
    message = run_python(
        """
        import casket
        (view,) = casket.open("runs.json").sessions(where="params.lr == 1")
        try:
            view.results()
        except casket.MissingDependency as error:
            print(error)
        """,
        without=("numpy",),
    )
    assert message == "numpy is not installed: pip install 'casket[pandas]'"


# pandas.


def test_pandas_columns_become_lists(kept):
    assert same(kept(pd.Series([1, 2])), [1, 2])
    assert same(kept(pd.Series([1, None], dtype="Int64")), [1, None])
    assert same(kept(pd.Series([0.5, math.nan])), [0.5, math.nan])
    assert kept(pd.Series(["a", "b"])) == ["a", "b"]
    assert kept(pd.Series([True, None], dtype="boolean")) == [True, None]
    assert kept(pd.Categorical(["a", "b", "a"])) == ["a", "b", "a"]
    assert kept(pd.Series(["a", "b"], dtype="category")) == ["a", "b"]
    assert kept(pd.Index([3, 4])) == [3, 4]
    assert kept(pd.array([1, None])) == [1, None]


def test_a_pandas_series_with_an_index_becomes_a_dict(kept):
    assert kept(pd.Series([0.5, 2], index=["a", "b"])) == {"a": 0.5, "b": 2.0}
    assert kept(pd.Series([1, 2], index=[10, 20])) == {"10": 1, "20": 2}
    assert kept(pd.Series([1], index=pd.MultiIndex.from_tuples([("a", 1)]))) == {"('a', 1)": 1}


def test_a_pandas_frame_becomes_its_columns(kept):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], 3: np.float32([0.1, 0.2])})
    assert kept(frame[["a", 3]]) == {"a": [1, 2], "3": [0.1, 0.2]}
    assert kept(frame["b"]) == ["x", None]
    assert kept(frame[["a"]].set_axis(["r", "s"])) == {"index": ["r", "s"], "a": [1, 2]}
    assert kept(pd.DataFrame()) == {}


def test_a_subclass_of_a_pandas_frame_is_a_frame(kept):
    class Mine(pd.DataFrame):
        pass

    assert kept(Mine({"a": [1]})) == {"a": [1]}


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame([[1, 2]], columns=[1, "1"]),
        pd.Series([1, 2], index=["a", "a"]),
    ],
)
def test_pandas_names_that_are_there_twice_are_refused(kept, value):
    with pytest.raises(UnstorableValue, match="same name"):
        kept(value)


def test_pandas_times_become_times(kept):
    berlin = pd.Timestamp("2026-03-01 12:00", tz="Europe/Berlin")
    assert same(kept(berlin), datetime(2026, 3, 1, 11, tzinfo=UTC))
    naive = pd.Timestamp("2026-03-01 12:00:00.000001002")
    assert kept(naive) == datetime(2026, 3, 1, 12, 0, 0, 1).astimezone(UTC)
    assert kept(pd.Series([naive, pd.NaT])) == [kept(naive), None]
    assert kept(pd.Series([berlin, pd.NaT])) == [kept(berlin), None]
    assert kept(pd.DatetimeIndex([berlin])) == [kept(berlin)]


def test_what_pandas_misses_is_none(kept):
    assert kept([pd.NaT, pd.NA]) == [None, None]


def test_pandas_durations_become_seconds(kept):
    assert kept(pd.Timedelta("90s")) == 90.0
    assert kept(pd.Series(pd.to_timedelta([1, None], unit="s"))) == [1.0, None]


def test_pandas_periods_and_intervals_become_text(kept):
    assert kept(pd.Period("2026-03", "M")) == "2026-03"
    assert kept(pd.Interval(0, 1)) == "(0, 1]"


def test_pandas_objects_that_hold_no_values_are_refused(kept):
    with pytest.raises(UnstorableValue, match=r"^value cannot be stored: pandas\."):
        kept(pd.DataFrame({"a": [1]}).groupby("a"))


def test_pandas_columns_of_unstorable_values_are_named(kept):
    with pytest.raises(UnstorableValue, match=r"^value\.a\[1\] cannot"):
        kept(pd.DataFrame({"a": [1, object()]}))


# Python's own.

Point = namedtuple("Point", "x y")


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    ADAM = "adam"


class Mixed(str, enum.Enum):  # noqa: UP042 - people have such
    RBF = "rbf"


class Opaque(enum.Enum):
    THING = object()
    RATE = 0.1


@dataclass
class Inner:
    rate: float = 0.1


@dataclass
class Outer:
    shared: ClassVar[int] = 5
    only_to_begin: InitVar[int]
    inner: Inner = field(default_factory=Inner)
    path: Path = Path("data")

    def __post_init__(self, only_to_begin):
        self.extra = only_to_begin


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "not this"


class Whole(int):
    pass


class Real(float):
    pass


ID = UUID("12345678123456781234567812345678")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({"k": 1}.keys(), ["k"]),
        (date(2026, 3, 1), "2026-03-01"),
        (clock(12, 30), "12:30:00"),
        (timedelta(minutes=1, microseconds=1), 60.000001),
        (PurePosixPath("a/b"), "a/b"),
        (Number.ONE, 1),
        (Word.ADAM, "adam"),
        (Mixed.RBF, "rbf"),
        (Opaque.THING, "THING"),
        (Opaque.RATE, 0.1),
        (enum.IntFlag("F", "A B")(3), 3),
        (Outer(1), {"inner": {"rate": 0.1}, "path": "data"}),
        ([Inner(2.0)], [{"rate": 2.0}]),
        (Decimal("0.10"), Decimal("0.10")),
        (ID, str(ID)),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(int, a=1), {"a": 1}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (ChainMap({"a": 1}), {"a": 1}),
        (UserDict({"a": 1}), {"a": 1}),
        (Text("text"), "text"),
        ({Text("key"): 1, Mixed.RBF: 2}, {"key": 1, "rbf": 2}),
        (Whole(5), 5),
        (Real(0.5), 0.5),
        (True, True),
        (None, None),
        ("größe 🎉\0\n", "größe 🎉\0\n"),
        ({"größe": {}, "": []}, {"größe": {}, "": []}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_of_python_are_read_back_as_json_has_them(kept, value, expected):
    assert same(kept(value), expected)


def test_sets_have_one_order(run_python):
    code = """
        from casket import Experiment
        model = Experiment.use(":memory:", exp_id="exp").model("net")
        model.add_result({"set": {"b", 1, None, "a", 2.5, (1, 2), frozenset("xyz"), ""}})
        print(model.sessions()[0].results())
    """
    assert len({run_python(code, PYTHONHASHSEED=str(seed)) for seed in range(4)}) == 1


def test_a_time_with_a_zone_is_read_back_as_the_same_moment(kept):
    moment = datetime(2026, 3, 1, 12, 30, 1, 5, timezone(timedelta(hours=2)))
    stored = kept(moment)
    assert stored == moment
    assert stored.utcoffset() == timedelta(0)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system cannot change its zone")
def test_a_time_without_a_zone_is_local_time(kept, monkeypatch):
    monkeypatch.setenv("TZ", "EST+5")
    time.tzset()
    try:
        noon = datetime(2026, 3, 1, 12)
        expected = datetime(2026, 3, 1, 17, tzinfo=UTC)
        assert kept([noon, pd.Timestamp(noon), np.datetime64(noon)]) == [expected] * 3
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_time_out_of_range_is_refused(kept):
    with pytest.raises(UnstorableValue, match="value"):
        kept(datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))))


# Types that JSON lacks, in every store.

SPECIAL = {
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "-0": -0.0,
    "tiny": 5e-324,
    "edges": [2**63 - 1, -(2**63)],
    "unsigned": 2**64 - 1,
    "beyond": [2**63, 2**64, -(2**64), 10**30, -(10**30), 7**10_000],
    "decimal": Decimal("1E+400"),
    "moment": datetime(2026, 3, 1, 12, 30, 1, 5, UTC),
    "list": [math.nan, {"deep": [math.inf]}],
}

USERS_OWN = {
    "$numberDouble": "NaN",
    "$date": [1],
    "nested": {"$literal": {"$integer": "0x1"}},
    "single": {"$array": {"file": "../x"}},
    "with": [{"$numberDouble": math.nan, "plain": 1}],
    "$": None,
}


@pytest.mark.parametrize("values", [SPECIAL, USERS_OWN], ids=["special", "dollar keys"])
def test_what_json_lacks_is_read_back_equal_from_every_store(url, values):
    experiment = Experiment.use(url, exp_id="exp", facts=values)
    model = experiment.model("net", values)
    with model.session(values) as session:
        session.add_epoch(1, values)
        session.add_batch(1, values)
        session.add_result(values)
        session.add_meta(values)
    (view,) = experiment.sessions()
    assert same(view.params, values)
    assert same(view.config, values)
    assert same({key: view.meta[key] for key in values}, values)
    assert same(view.results()[0], values)
    for row in (view.epochs[0], view.batches[0]):
        assert same({key: row[key] for key in values}, values)
    assert same(experiment._read().experiments[0].facts, {"facts": values})
    assert same(model.config, values)
    experiment.close()


def test_what_json_lacks_stands_in_the_store_as_extended_json(memory):
    moment = datetime(2026, 3, 1, 12, 30, 1, 5, UTC)
    forms = [
        ({"a": math.nan}, {"a": {"$numberDouble": "NaN"}}),
        ({"a": math.inf}, {"a": {"$numberDouble": "Infinity"}}),
        ({"a": -math.inf}, {"a": {"$numberDouble": "-Infinity"}}),
        ({"a": Decimal("0.10")}, {"a": {"$numberDecimal": "0.10"}}),
        ({"a": moment}, {"a": {"$date": "2026-03-01T12:30:01.000005Z"}}),
        ({"a": 2**64}, {"a": {"$integer": "0x10000000000000000"}}),
        ({"$a": 1, "b": 2}, {"$literal": {"$a": 1, "b": 2}}),
        ({"a": {"$b": math.nan}}, {"a": {"$literal": {"$b": {"$numberDouble": "NaN"}}}}),
    ]
    plain = [{"a": 1.5, "b": [1, None, {"c": "ü"}]}, {"a": 2**63 - 1, "b": True}]
    with memory.session() as session:
        for result, _ in forms:
            session.add_epoch(1, result)
        for result in plain:
            session.add_batch(1, result)
    stored = [record for _, record in memory.backend.store.records()]
    epochs = [record for record in stored if record["kind"] == "epoch"]
    batches = [record for record in stored if record["kind"] == "batch"]
    assert [record["body"]["result"] for record in epochs] == [form for _, form in forms]
    assert all(record["extended"] is True for record in epochs)
    assert [record["body"]["result"] for record in batches] == plain
    assert not any("extended" in record for record in batches)


FLAT = {**SPECIAL, "$key": 1, "größe": "größe", "text": "🎉", "$": "NaN"}


@pytest.mark.parametrize("name", FLAT)
def test_a_flat_dict_of_one_value_is_read_back_equal(memory, name):
    with memory.session() as session:
        session.add_epoch(1, {name: FLAT[name]})
    assert same(memory.sessions()[0].epochs[0][name], FLAT[name])


@pytest.mark.parametrize("result", [{"t": "\ud800"}, {"\ud800": 1}, {(1,): 1}, {"a": b"x"}])
def test_a_flat_dict_that_cannot_be_stored_is_refused(memory, result):
    with memory.session() as session, pytest.raises(UnstorableValue):
        session.add_epoch(1, result)


def random_value(source, depth):
    """Make a value of JSON, sometimes with types that JSON lacks."""
    kind = source.randrange(10 if depth else 8)
    if kind == 8:
        return [random_value(source, depth - 1) for _ in range(source.randrange(4))]
    if kind == 9:
        return {random_text(source): random_value(source, depth - 1) for _ in range(3)}
    return [
        None,
        source.random() < 0.5,
        source.randint(-(10**6), 10**6),
        source.randint(-(2**70), 2**70),
        source.uniform(-1, 1) * 10 ** source.randint(-300, 300),
        source.choice([math.nan, math.inf, -math.inf, -0.0]),
        random_text(source),
        source.choice(["", "NaN", "$date", "0x1"]),
    ][kind]


def random_text(source):
    alphabet = '$."\\\n\0aZ é日🎉'
    return "".join(source.choice(alphabet) for _ in range(source.randrange(6)))


@pytest.mark.parametrize("seed", range(5))
def test_random_values_are_read_back_equal_from_every_store(model, seed):
    source = random.Random(seed)
    logged = [{random_text(source): random_value(source, 4) for _ in range(4)} for _ in range(40)]
    with model.session() as session:
        for number, result in enumerate(logged):
            session.add_result(result, index_by=number)
    (view,) = model.sessions()
    for number, result in enumerate(logged):
        (row,) = view.results(number)
        assert same(row, result)


# Refused values.


def nested(depth):
    value = 1
    for _ in range(depth):
        value = {"a": [value]}
    return value


def circle():
    inside = {}
    inside["again"] = [inside]
    return inside


REFUSED = {
    "an object": ({"deep": {"obj": object()}}, "deep.obj"),
    "bytes": ({"layers": [{"w": 1}, {"w": 2}, {"w": b"x"}]}, "layers[2].w"),
    "a bytearray": ({"a": (bytearray(b"x"),)}, "a[0]"),
    "a function": ({"activation": {"f": print}}, "activation.f"),
    "a lambda": ({"f": lambda: 1}, "f"),
    "a class": ({"model": Inner}, "model"),
    "a dtype that is a class": ({"dtype": np.float32}, "dtype"),
    "a module": ({"m": math}, "m"),
    "a generator": ({"g": (i for i in "a")}, "g"),
    "a complex number": ({"z": 1j}, "z"),
    "inside a dataclass": ({"cfg": Outer(1, inner=Inner(object()))}, "cfg.inner.rate"),
    "inside an array": ({"a": np.array([[1, object()]], object)}, "a[0][1]"),
    "half a surrogate pair": ({"t": {"u": "\ud800"}}, "t.u"),
    "a path that is not Unicode": ({"p": Path("\udcff")}, "p"),
    "a key that is there as text": ({"a": {1: 2, "1": 3}}, "a['1']"),
    "a key of None that is there as text": ({"None": 3, None: 2}, "[None]"),
    "a key of a tuple": ({"a": [{("x", 1): 2}]}, "a[0][('x', 1)]"),
    "a deep structure": ({"deep": nested(500)}, "deep.a[0].a"),
    "a structure that holds itself": ({"c": circle()}, "c.again[0].again"),
}


@pytest.mark.parametrize(("value", "path"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_stored_is_refused_by_its_path(kept, value, path):
    with pytest.raises(UnstorableValue) as refused:
        kept(value)
    assert str(refused.value).startswith(f"value.{path}" if path[0] != "[" else f"value{path}")
    assert isinstance(refused.value, TypeError)


def test_an_open_file_is_refused(kept, tmp_path):
    with (tmp_path / "log").open("w") as file, pytest.raises(UnstorableValue, match=r"^value "):
        kept(file)


def test_a_key_that_is_not_unicode_is_refused(kept):
    with pytest.raises(UnstorableValue, match=r"^value.* not Unicode"):
        kept({"\ud800": 1})


def test_nothing_is_written_of_what_is_refused(url):
    experiment = Experiment.use(url, exp_id="exp")
    model = experiment.model("net")
    bad = {"fine": 1, "deep": {"obj": object()}}
    with model.session({"lr": 0.1}) as session:
        before = list(experiment.backend.store.records())
        for attempt in (
            lambda: session.add_epoch(1, bad),
            lambda: session.add_batch(1, bad),
            lambda: session.add_result(bad),
            lambda: session.add_meta(bad),
            lambda: session.add_result({}, index_by=b"x"),
            lambda: model.session(bad),
            lambda: model.add_result(bad),
            lambda: model.add_result({}, params=bad),
            lambda: experiment.model("other", bad),
        ):
            with pytest.raises(UnstorableValue, match=r"deep\.obj|index_by"):
                attempt()
        assert list(experiment.backend.store.records()) == before
    experiment.close()


@pytest.mark.parametrize("result", [None, 0.5, [("a", 1)], "text", pd.DataFrame({"a": [1]})])
def test_a_result_that_is_no_dict_is_refused(memory, result):
    with memory.session() as session, pytest.raises(UnstorableValue, match=r"result.*dict"):
        session.add_epoch(1, result)


def test_structures_of_a_usual_depth_are_kept(kept):
    assert kept(nested(30)) == nested(30)


@pytest.mark.parametrize("depth", [40, 80, 120, 130, 180, 240, 260, 500, 1000])
@pytest.mark.parametrize("key", ["a", "$a"])
def test_a_structure_is_kept_whole_or_refused(kept, depth, key):
    value = 1
    for _ in range(depth):
        value = {key: value}
    try:
        outcome = kept(value)
    except UnstorableValue as refused:
        outcome = str(refused)
    assert outcome == value or (depth > 50 and "nested" in outcome)


# The caller's own.


def test_a_callers_dict_is_never_changed(model):
    given = {
        "nested": {"list": [1, (2, 3)], "set": {1}},
        "array": np.arange(3),
        "large": large("float64"),
        "nan": math.nan,
        "$key": 1,
    }
    before = copy.deepcopy(given)
    with model.session(given) as session:
        session.add_epoch(1, given)
        session.add_batch(1, given)
        session.add_result(given)
        session.add_meta(given)
    for key, value in before.items():
        assert np.array_equal(given[key], value, equal_nan=key == "nan")
    assert type(given["nested"]["list"][1]) is tuple


def test_a_callers_plain_dict_is_neither_changed_nor_kept(model):
    metrics, params = {"loss": 0.5}, {"lr": 0.1, "list": [1]}
    with model.session(params) as session:
        session.add_epoch(1, metrics, timestamp=True)
        session.add_batch(1, metrics, timestamp=True)
        assert metrics == {"loss": 0.5}
        metrics["loss"] = 0.25
        params["list"].append(2)
        session.add_epoch(2, metrics)
        assert session.params == {"lr": 0.1, "list": [1]}
    (view,) = model.sessions()
    assert [row["loss"] for row in view.epochs] == [0.5, 0.25]
    assert view.batches[0]["loss"] == 0.5
    assert view.params == {"lr": 0.1, "list": [1]}


def test_storing_plain_values_imports_no_library(run_python):
    loaded = run_python("""
        import sys
        from datetime import datetime
        from pathlib import Path
        from casket import Experiment
        libraries = ["numpy", "pandas", "torch", "jax", "keras", "tensorflow", "polars", "joblib"]
        for url in ("runs.json", "runs.sqlite", ":memory:"):
            model = Experiment.use(url, exp_id="exp").model("net", {"a": float("nan")})
            with model.session({"lr": 0.1, "when": datetime.now(), "at": Path("x")}) as session:
                session.add_epoch(1, {"loss": 0.5, "deep": {"set": {1}}})
            assert model.sessions()[0].last["loss"] == 0.5
        print([name for name in libraries if name in sys.modules])
    """)
    assert loaded == "[]"


# Params that are equal.

EQUAL = {
    "the order of keys": ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}),
    "tuple and list": ({"a": (1, (2,))}, {"a": [1, [2]]}),
    "an array and a list": ({"a": np.array([[1, 2]])}, {"a": [[1, 2]]}),
    "scalars of numpy": ({"n": np.int32(5), "x": np.float64(0.5)}, {"n": 5, "x": 0.5}),
    "numpy's bool": ({"a": np.bool_(True)}, {"a": True}),
    "1 and 1.0": ({"a": 1, "b": [2]}, {"a": 1.0, "b": [2.0]}),
    "float32 and float": ({"lr": np.float32(0.1)}, {"lr": 0.1}),
    "float32 and float64": ({"lr": np.float32(0.1)}, {"lr": np.float64(0.1)}),
    "float16 and float": ({"lr": np.float16(0.1)}, {"lr": 0.1}),
    "float32 and 1": ({"lr": np.float32(1)}, {"lr": 1}),
    "0.0 and -0.0": ({"a": 0.0}, {"a": -0.0}),
    "nan and nan": ({"a": math.nan}, {"a": np.float32(math.nan)}),
    "sets": ({"a": {"x", "y"}}, {"a": {"y", "x"}}),
    "enum and value": ({"a": Word.ADAM}, {"a": "adam"}),
    "path and text": ({"a": PurePosixPath("x/y")}, {"a": "x/y"}),
    "dataclass and dict": ({"a": Inner()}, {"a": {"rate": 0.1}}),
    "no params and none": (None, {}),
}

DIFFERENT = {
    "True and 1": ({"a": True}, {"a": 1}),
    "False and 0.0": ({"a": [False]}, {"a": [0.0]}),
    '"1" and 1': ({"a": "1"}, {"a": 1}),
    "None and none": ({"a": None}, {}),
    "the order of lists": ({"a": [1, 2]}, {"a": [2, 1]}),
    "nearly": ({"a": 0.1}, {"a": 0.1 + 1e-16}),
    "large ints": ({"a": 2**53}, {"a": 2**53 + 1}),
    "huge ints": ({"a": 10**30}, {"a": 10**30 + 1}),
    "nan and its name": ({"a": math.nan}, {"a": "NaN"}),
    "nan and its form": ({"a": math.nan}, {"a": {"$numberDouble": "NaN"}}),
    "nested and flat": ({"a": {"b": 1}}, {"a.b": 1}),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_params_that_are_equal_as_json_are_the_same(memory, one, other):
    memory.add_result({}, params=one)
    with pytest.raises(casket.ExistingParamsException):
        memory.session(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_params_that_differ_as_json_are_not_the_same(memory, one, other):
    memory.add_result({}, params=one)
    with memory.session(other) as session:
        assert session.id != memory.sessions()[0].id


# Config objects.


@dataclass
class Training:
    """The dataclass that OmegaConf and the tests below make a config of."""

    lr: float = 0.1
    sizes: list[int] = field(default_factory=lambda: [8, 4])


def attrs_config():
    attr = pytest.importorskip("attr")
    return attr.make_class("Config", {"lr": attr.ib(0.1), "sizes": attr.ib((8, 4))})()


def pydantic_config():
    pydantic = pytest.importorskip("pydantic")
    return pydantic.create_model("Config", lr=(float, 0.1), sizes=(list[int], [8, 4]))()


def omega_config():
    config = pytest.importorskip("omegaconf").OmegaConf
    return config.merge(config.structured(Training), {"sizes": ["${first}", 4], "first": 8})


class ByKeys:
    """A config with the two methods that `dict()` needs, such as those of ml_collections."""

    def keys(self):
        return ["lr", "sizes"]

    def __getitem__(self, key):
        return {"lr": 0.1, "sizes": deque([8, 4])}[key]


CONFIGS = {
    "Namespace": lambda: Namespace(lr=0.1, sizes=[8, 4]),
    "SimpleNamespace": lambda: SimpleNamespace(lr=0.1, sizes=range(8, 0, -4)),
    "dataclass": Training,
    "attrs": attrs_config,
    "pydantic": pydantic_config,
    "OmegaConf": lambda: pytest.importorskip("omegaconf").OmegaConf.structured(Training),
    "Mapping": lambda: MappingProxyType({"lr": np.float64(0.1), "sizes": np.array([8, 4])}),
    "keys and items": ByKeys,
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_config_objects_are_kept_as_their_parts_and_are_the_same_params(model, kind):
    make, expected = CONFIGS[kind], {"lr": 0.1, "sizes": [8, 4]}
    with model.session(make()) as session:
        assert session.params == expected
        session.add_result(make())
        session.add_epoch(1, {"deep": [make()]})
    with pytest.raises(casket.ExistingParamsException):
        model.session(expected)
    (view,) = model.sessions()
    assert (view.params, view.results()) == (expected, [expected])
    assert view.epochs[0]["deep"] == [expected]
    assert model.experiment.model(kind, make()).config == expected


def test_interpolations_of_omegaconf_are_resolved_and_missing_values_named(memory):
    config = pytest.importorskip("omegaconf").OmegaConf
    given = config.create({"base": 8, "net": {"sizes": ["${base}", 4], 3: "${net.sizes[0]}"}})
    with memory.session(given) as session:
        assert session.params == {"base": 8, "net": {"sizes": [8, 4], "3": 8}}
    for broken, path in [({"net": {"lr": "???"}}, "net.lr"), ({"a": ["${b}"]}, "a[0]")]:
        with pytest.raises(UnstorableValue, match=f"^{re.escape(path)} cannot be stored"):
            memory.session(config.create(broken))


def test_a_root_model_of_pydantic_is_its_root(kept):
    pydantic = pytest.importorskip("pydantic")
    assert kept(pydantic.RootModel[list[int]]([1, 2])) == [1, 2]


def test_keys_that_are_no_text_become_text(kept):
    given = {True: 1, None: 2, 3: 3, 0.5: 4, np.int64(7): 5, math.nan: 6}
    assert list(kept(given)) == ["True", "None", "3", "0.5", "7", "nan"]
    assert kept({Number.ONE: "a"}) == {"1": "a"}
    assert kept({1.0: "a"}) == kept({np.float32(1): "a"}) == {"1": "a"}


def test_a_clash_of_keys_is_refused_by_name(kept):
    for clash in ({1: 2, "1": 3}, {"1": 2, np.int64(1): 3}):
        with pytest.raises(UnstorableValue, match=r"^value\.a\[.*same text as the key"):
            kept({"a": clash})


def test_sets_are_sorted_by_their_json_text(kept):
    assert kept({10, 9, 2.5, "a", None, True, (1, 2)}) == ["a", 10, 2.5, 9, [1, 2], None, True]


NAMED = {
    "class": (Training, f"{__name__}.Training"),
    "builtin class": (dict, "dict"),
    "function": (omega_config, f"{__name__}.omega_config"),
    "builtin function": (print, "print"),
    "function of C": (math.sin, "math.sin"),
    "class method": (datetime.fromtimestamp, "datetime.fromtimestamp"),
    "numpy's class": (np.float32, "numpy.float32"),
    "module": (math, "math"),
    "object with a repr": (Decimal, "decimal.Decimal"),
    "complex number": (1j, "1j"),
    "slice": (slice(1, 2), "slice(1, 2, None)"),
}


@pytest.mark.parametrize(("value", "name"), NAMED.values(), ids=NAMED)
def test_in_params_and_configs_only_objects_are_kept_by_name(memory, value, name):
    with memory.session({"deep": [value]}) as session:
        assert session.params == {"deep": [name]}
        with pytest.raises(UnstorableValue, match=r"^deep\[0\]"):
            session.add_result({"deep": [value]})
    assert memory.experiment.model("other", {"a": value}).config == {"a": name}


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (object(), "memory address"),
        ([].append, "memory address"),
        (lambda: 0, "lambda"),
        (b"bytes", "add_artifact"),
        (Unprintable(), "no repr"),
    ],
)
def test_objects_without_a_lasting_name_are_refused_in_params_by_path(memory, value, hint):
    with pytest.raises(UnstorableValue, match=rf"^deep\[0\] cannot be stored.*{hint}"):
        memory.session({"deep": [value]})
    with pytest.raises(UnstorableValue, match=rf"^a cannot be stored.*{hint}"):
        memory.experiment.model("other", {"a": value})


@pytest.mark.parametrize("params", [0, "", [("a", 1)], False])
def test_params_without_names_are_refused(memory, params):
    with pytest.raises(UnstorableValue, match=r"^params cannot be stored.*give a dict"):
        memory.session(params)
