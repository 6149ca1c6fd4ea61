"""Thousands of rows: stored by column, they are read as they were logged."""

import math
import random
import struct
import threading
from array import array
from datetime import UTC, datetime

import orjson
import pytest

import casket
from casket import CasketWarning, Experiment
from casket.format.artifacts import ArtifactFolder
from casket.format.records import Writer
from casket.format.values import Encoder
from casket.reading.columns import flatten
from casket.reading.latest import LastValues
from casket.reading.rows import MetricLog

TIME = "2026-11-23T08:57:10.123456Z"


@pytest.fixture
def files(tmp_path):
    return ArtifactFolder(tmp_path / "files")


@pytest.fixture
def logged(files):
    return MetricLog("epoch", files)


def record(number, result, kind="epoch", time=TIME, **body):
    """Make the record of a result as a session does."""
    encoder = Encoder()
    number_name = {"epoch": "epoch_num", "batch": "batch_num", "result": "index"}[kind]
    body = {number_name: number, "result": encoder.mapping(result, "result"), **body}
    extended = {"extended": True} if encoder.extended else {}
    return {**Writer().record(kind, body, **extended), "time": time}


def exactly(value):
    """Return a value in a form that is equal only if types, signs and the order of keys are."""
    if isinstance(value, dict):
        return [(key, exactly(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple, array)):
        return [exactly(item) for item in value]
    if type(value) is float:
        return "NaN" if value != value else struct.pack("d", value)
    return type(value), value


NAMES = ("loss", "acc", "val/acc", "opt.lr", "größe", "$cost", "")
MOMENT = datetime(2026, 11, 23, 8, 57, 10, 5, tzinfo=UTC)
VALUES = (
    *(0.1, -0.0, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf),
    *(0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 10**30),
    *(True, False, None, "", "text", "1.0", MOMENT),
    *([], [0.5, math.nan], [[1], {"a": 1.0}], {}, {"a": {}}, {"a": {"b": 0.5}, "c": 1}),
    *({"b": math.nan}, {"$date": 1}),
)


def alike(rng):
    """Return results that all have the same names and floats."""
    names = rng.sample(NAMES, 4)
    return [{name: rng.random() for name in names} for _ in range(50)]


def of_any_kind(rng):
    """Return results of any names and values."""
    return [
        {name: rng.choice(VALUES) for name in rng.sample(NAMES, rng.randrange(5))}
        for _ in range(50)
    ]


def of_few_shapes(rng):
    """Return results as they come where some metrics are measured now and then."""
    results = []
    for i in range(60):
        result = {"loss": rng.choice([rng.random(), math.nan]), "step": i}
        if i % 2:
            result |= {"val": {"loss": rng.random(), "acc": rng.choice([0, 0.5])}}
        if rng.random() < 0.1:
            result |= {"note": "text", "at": MOMENT}
        results.append(result)
    return results


def of_many_shapes(_):
    """Return results with more sets of names than are kept apart."""
    shapes = [{f"metric {i}": i / 3, "loss": i / 7} for i in range(400)]
    return [*shapes, *shapes[::-1]]


CASES = [
    pytest.param(make, seed, id=f"{make.__name__}-{seed}")
    for make in (alike, of_any_kind, of_few_shapes, of_many_shapes)
    for seed in range(1 if make is of_many_shapes else 8)
]


@pytest.mark.parametrize(("make", "seed"), CASES)
def test_what_comes_out_is_what_went_in(make, seed, logged):
    results = make(random.Random(seed))
    for number, result in enumerate(results, 1):
        logged.add([record(number, result)])
        assert len(logged) == number
    assert exactly(logged.results()) == exactly(results)
    assert list(logged.numbers["epoch_num"]) == list(range(1, len(results) + 1))
    rows = [
        {"epoch_num": number, **result} | ({} if "timestamp" in result else {"timestamp": TIME})
        for number, result in enumerate(results, 1)
    ]
    assert exactly(logged.rows()) == exactly(rows)


@pytest.mark.parametrize("at_once", [2, 7, 50])
@pytest.mark.parametrize(("make", "seed"), CASES)
def test_records_taken_together_add_up_to_the_same_as_one_by_one(make, seed, at_once, files):
    rng = random.Random(seed)
    records = [
        record(
            rng.choice([i, i, i, None, True, 2**63]), result, kind="batch", epoch=i // 3,
            time=rng.choice([TIME, TIME, "2026-11-23"]), timestamp=rng.random() < 0.9,
        ) for i, result in enumerate(make(rng))
    ]  # fmt: skip
    alone, together = MetricLog("batch", files), MetricLog("batch", files)
    for each in records:
        alone.add([each])
    for start in range(0, len(records), at_once):
        together.add(records[start : start + at_once])
    assert exactly(together.rows()) == exactly(alone.rows())
    assert exactly(together.results()) == exactly(alone.results())
    assert exactly(together.table().values) == exactly(alone.table().values)
    assert together.metrics() == alone.metrics()
    assert exactly(together.seconds()) == exactly(alone.seconds())


@pytest.mark.parametrize("odd", [{"epoch_num": 2**63}, {"epoch_num": "2"}, {"timestamp": False}])
def test_one_odd_record_among_many_alike_keeps_its_place(odd, logged):
    records = [record(number, {"loss": number / 10}) for number in range(5)]
    records[2]["body"].update(odd)
    logged.add(records)
    assert [row["loss"] for row in logged.rows()] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert logged.rows()[2]["epoch_num"] == odd.get("epoch_num", 2)
    assert [time is None for time in logged.times] == [
        i == 2 and "timestamp" in odd for i in range(5)
    ]


@pytest.mark.parametrize(("make", "seed"), CASES)
def test_the_values_of_each_name_are_those_in_the_results(make, seed, logged):
    results = make(random.Random(seed))
    for number, result in enumerate(results, 1):
        logged.add([record(number, result)])
    flat = [flatten(result) for result in results]
    names = dict.fromkeys(name for result in flat for name in result)
    table = logged.table().values
    assert list(table) == list(names)
    for name in names:
        expected = [result.get(name) for result in flat]
        assert exactly(logged.values(name)) == exactly(table[name]) == exactly(expected)
        is_all_floats = all(type(value) is float for value in expected)
        assert isinstance(logged.values(name), array) or not is_all_floats
    assert list(logged.values("never logged")) == [None] * len(results)
    numeric = dict.fromkeys(
        name
        for result in flat
        for name, value in result.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    )
    assert logged.metrics() == list(numeric)


@pytest.mark.parametrize(("make", "seed"), CASES)
def test_the_latest_value_of_each_name_is_that_of_the_last_result_with_it(make, seed, logged):
    results = make(random.Random(seed))
    expected, latest = {"given": "before"}, LastValues()
    latest.add(expected)
    for number, result in enumerate(results, 1):
        logged.add([record(number, result)])
    for result in reversed(results):
        for name, value in flatten(result).items():
            expected.setdefault(name, value)
    logged.add_latest(latest)
    assert exactly(dict(latest)) == exactly(expected)


@pytest.mark.parametrize(("make", "seed"), CASES)
def test_what_is_read_from_a_file_is_what_was_logged(make, seed, file_url):
    results = make(random.Random(seed))
    experiment = Experiment.use(file_url, exp_id="exp")
    with experiment.model("net").session() as session:
        for number, result in enumerate(results):
            session.add_epoch(number, result)
            session.add_batch(number, result, epoch=number // 3)
            session.add_result(result, index_by=number % 2 or None)
    experiment.close()
    with casket.open(file_url) as runs:
        (view,) = runs.sessions()
    for kind in ("epoch", "batch", "result"):
        assert exactly(view.logged(kind).results()) == exactly(results)
    assert exactly(view.results()) == exactly(results[::2])
    assert exactly(view.results(1)) == exactly(results[1::2])
    assert list(view.logged("batch").numbers["epoch"]) == [i // 3 for i in range(len(results))]


def test_a_result_that_was_changed_by_who_asked_for_it_is_unchanged_for_others(logged):
    for number, result in enumerate([{"loss": 0.5}, {"at": MOMENT}, {}]):
        logged.add([record(number, result)])
    for result in logged.results():
        result["mine"] = 1
    assert logged.results() == [{"loss": 0.5}, {"at": MOMENT}, {}]


@pytest.mark.parametrize("place", [0, 1])
def test_a_whole_number_that_only_others_write_is_read_all_the_same(place, logged):
    # Casket stores integers of more than 63 bits and a sign in a form of its own.
    large = [1, 2]
    large[place] = 2**64 - 1
    for number, (one, two) in enumerate([(1, 2), large, (3, 4)]):
        row = record(number, {})
        row["body"]["result"] = {"one": one, "two": two}
        logged.add([row])
    assert [tuple(result.values()) for result in logged.results()] == [(1, 2), tuple(large), (3, 4)]
    assert logged.metrics() == ["one", "two"]


def test_numbers_are_as_they_were_given(files):
    batches = MetricLog("batch", files)
    epochs = [1, 2**63 - 1, None, 3, 2**64 - 1, None]
    for epoch in epochs:
        batches.add([record(7, {"loss": 0.5}, kind="batch", epoch=epoch)])
    assert list(batches.numbers["epoch"]) == epochs
    indexes = [1, True, 1.0, "1", None, -0.0, False, 0]
    results = MetricLog("result", files)
    for index in indexes:
        results.add([record(index, {"loss": 0.5}, kind="result")])
    assert exactly(results.numbers["index"]) == exactly(indexes)


TIMES = [
    "2026-11-23T08:57:10.123456Z",
    "2026-11-23T08:57:59.999999Z",
    "1970-01-01T00:00:00.000000Z",
    "9999-12-31T23:59:59.999999Z",
    "2026-11-23T08:57:10Z",
    "2026-11-23 08:57:10.123456Z",
    "2026-11-23T10:57:10.123456+02:00",
    "2026-11-23T08:57:10.12345",
    "x" * 27,
    "ü" * 14,
    " " * 27,
    "",
]


def test_times_come_out_as_they_were_written(logged):
    for number, time in enumerate([*TIMES, *TIMES[::-1]]):
        logged.add([record(number, {"loss": 0.5}, time=time)])
        logged.add([record(number, {"loss": 0.5}, time=time, timestamp=False)])
    expected = [shown for time in [*TIMES, *TIMES[::-1]] for shown in (time, None)]
    assert list(logged.times) == logged.times[:] == expected
    assert logged.times[-3:] == expected[-3:]
    assert [logged.times[i] for i in range(-3, 3)] == expected[-3:] + expected[:3]
    assert [row.get("timestamp") for row in logged.rows()] == expected
    with pytest.raises(IndexError):
        logged.times[len(expected)]


def test_seconds_are_those_since_1970_and_nan_where_no_time_is_known(logged):
    expected = []
    for number, time in enumerate(TIMES):
        logged.add([record(number, {"loss": 0.5}, time=time)])
        logged.add([record(number, {"loss": 0.5}, time=time, timestamp=False)])
        try:
            moment = datetime.fromisoformat(time)
            expected += [(moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()]
        except ValueError:
            expected += [math.nan]
        expected += [math.nan]
        assert exactly(logged.seconds()) == exactly(expected)


def test_an_array_in_a_file_is_not_loaded_to_learn_the_metrics_beside_it(memory, tmp_path):
    np = pytest.importorskip("numpy")
    with memory.session() as session:
        session.add_result({"acc": 0.5, "y": np.arange(100_000)})
        session.add_result({"acc": 0.7, "y": [1, 2]})
    results = memory.experiment.sessions()[0].logged("result")
    assert list(results.table().values["y"][0]) == list(range(100_000))
    assert results.metrics() == ["acc"]
    assert list(results.values("acc")) == [0.5, 0.7]
    assert results.values("y") == [None, [1, 2]]


def test_a_reader_sees_whole_records_only_while_another_thread_adds_more(files):
    logged, count = MetricLog("batch", files), 6000
    shapes = [{"loss"}, {"loss", "acc"}, {"loss", "test"}, {"loss", "at"}]
    records = []
    for i in range(count):
        result = {"loss": float(i), "acc": i / 2, "test": {"acc": i}, "at": MOMENT}
        names = shapes[0 if i < count // 2 else i % 4]
        kept = {name: value for name, value in result.items() if name in names}
        epoch = None if i > count * 0.8 else i
        records.append(record(i, kept, kind="batch", epoch=epoch))
    wrong = []

    def read():
        while (seen := len(logged)) < count:
            try:
                expected = [float(i) for i in range(seen)]
                assert list(logged.values("loss"))[:seen] == expected
                assert [result["loss"] for result in logged.results()][:seen] == expected
                assert [row["batch_num"] for row in logged.rows()][:seen] == expected
                assert list(logged.numbers["batch_num"])[:seen] == expected
                assert list(logged.times)[:seen] == [TIME] * seen
                assert len(logged.seconds()) >= seen
                latest = LastValues()
                logged.add_latest(latest)
                assert latest.get("loss", -1.0) >= seen - 1
                assert set(logged.metrics()) <= {"loss", "acc", "test.acc"}
                assert all(len(column) >= seen for column in logged.table().values.values())
            except Exception as error:  # noqa: BLE001 - shown by the test's own thread
                wrong.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for at in range(0, count, 7):
        logged.add(records[at : at + 7])
    for reader in readers:
        reader.join()
    assert not wrong
    assert len(logged) == count


def test_many_epochs_take_little_memory(run_python):
    grown = run_python("""
    import resource
    from casket.format.artifacts import ArtifactFolder
    from casket.reading.rows import MetricLog

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def epoch(i):
        result = {"loss": i / 3, "acc": i / 7, "val_loss": i / 11, "val_acc": i / 13}
        time = f"2026-11-23T08:57:10.{i:06d}Z"
        body = {"epoch_num": i, "result": result}
        return {"kind": "epoch", "writer": "w", "n": i + 1, "time": time, "body": body}

    logged = MetricLog("epoch", ArtifactFolder("files"))
    logged.add([epoch(0)])
    before = peak()
    for i in range(1, 200_000):
        logged.add([epoch(i)])
    print(peak() - before)
    """)
    assert float(grown) < 25


ODD_RESULTS = [[1, 2], None, "text", 7, {"a": {"b": 1}}]


@pytest.mark.parametrize("odd", ODD_RESULTS, ids=str)
def test_a_result_that_somebody_edited_leaves_the_others_readable(odd, tmp_path):
    """The file opens, and the numbers of the following epochs are correct."""
    path = tmp_path / "runs.json"
    with Experiment.use(path, exp_id="exp").model("net").session({"seed": 1}) as session:
        for epoch in (1, 2, 3):
            session.add_epoch(epoch, {"loss": epoch / 10})
    line = b'"result":{"loss":0.2}'
    content = path.read_bytes()
    assert content.count(line) == 1
    path.write_bytes(content.replace(line, b'"result":' + orjson.dumps(odd)))
    with casket.open(path) as runs:
        (view,) = runs.sessions()
        assert (view.status, view.params) == ("completed", {"seed": 1})
        logged = view.logged("epoch")
        assert list(logged.numbers["epoch_num"]) == [1, 2, 3]
        assert len(logged) == len(logged.times) == 3


def test_a_record_without_what_numbers_it_is_refused_whole(logged):
    """Half of it would shift the numbers of all that follow."""
    logged.add([record(1, {"loss": 0.1})])
    broken = record(2, {"loss": 0.2})
    del broken["body"]["epoch_num"]
    with pytest.warns(CasketWarning, match=f"'epoch', {broken['writer']}:1, has no 'epoch_num'"):
        logged.add([broken, record(3, {"loss": 0.3})])
    assert [(row["epoch_num"], row["loss"]) for row in logged.rows()] == [(1, 0.1), (3, 0.3)]


@pytest.mark.parametrize("time", [5, "\ud800" * 27, "ü" * 27, " " * 27, ["x"]], ids=repr)
def test_a_time_that_somebody_edited_comes_out_as_it_stands(time, logged):
    logged.add([record(1, {"loss": 0.1}, time=time)])
    logged.add([record(2, {"loss": 0.2})])
    assert list(logged.times) == [time, TIME]
    assert math.isnan(logged.seconds()[0])
    assert not math.isnan(logged.seconds()[1])


@pytest.mark.parametrize("number", [True, None, 2**63, -(2**64), 1.5, [2]], ids=repr)
def test_any_number_of_an_epoch_comes_out_as_it_is(number, logged):
    for each in (1, number, 3):
        logged.add([record(each, {"loss": 0.1})])
    assert exactly(list(logged.numbers["epoch_num"])) == exactly([1, number, 3])
