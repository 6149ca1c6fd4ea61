"""Fingerprints of data: which data is equal, and the stored description."""

import hashlib
import io
import sys
from datetime import date

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

import casket
from casket import UnstorableValue
from casket.format.fingerprints import digest, fingerprint

FRAME = pd.DataFrame(
    {
        "int": [1, 2, 3],
        "missing": pd.Series([1, None, 3], dtype="Int64"),
        "float": [0.5, np.nan, -0.0],
        "bool": [True, False, True],
        "text": ["x", None, "ü"],
        "category": pd.Categorical(["u", "v", "u"]),
        "time": pd.to_datetime(
            ["2026-01-01", None, "2026-01-02T03:04:05.000006"], format="ISO8601"
        ),
        "zone": pd.to_datetime(["2026-01-01T00:00:00+02:00"] * 3, utc=True),
        "duration": pd.to_timedelta([1, 2, None], unit="s"),
    }
)
ARRAY = np.arange(6).reshape(2, 3)

EQUAL = {
    "int32 and int64": (ARRAY.astype("i4"), ARRAY),
    "byte orders": (ARRAY.astype(">i8"), ARRAY),
    "memory orders": (np.asfortranarray(ARRAY), ARRAY),
    "a view": (np.tile(ARRAY, 2)[:, :3], ARRAY),
    "float32 and float64": (np.float32([0.5, 2]), np.array([0.5, 2])),
    "zeros and NaN": (np.array([0.0, np.nan]), np.array([-0.0, -np.nan])),
    "a scalar and an array": (1.5, np.float32(1.5)),
    "pandas and polars": (FRAME, pl.from_pandas(FRAME)),
    "a column of each": (FRAME["text"], pl.Series(["x", None, "ü"])),
    "an index and a column": (FRAME.set_index("int"), FRAME),
    "a part of a table and a copy of it": (FRAME[1:], FRAME[1:].reset_index(drop=True)),
    "object and string columns": (FRAME.astype({"text": object}), FRAME),
    "formats of sparse arrays": (sparse.csr_array(ARRAY), sparse.csc_array(ARRAY)),
    "the order of keys": ({"a": ARRAY, "b": 1}, {"b": 1, "a": ARRAY}),
    "list and tuple": ([1, ("a", None)], (1, ["a", None])),
    "no mask and an array": (np.ma.array(ARRAY), ARRAY),
    "a date in each list": ([date(2026, 1, 1)], (date(2026, 1, 1),)),
    "texts of numpy": (np.array(["a", "bc"]), np.array(["a", "bc"], object)),
}

DIFFERENT = {
    "ints and floats": (np.array([1, 2]), np.array([1.0, 2.0])),
    "ints and bools": (np.array([1, 0]), np.array([True, False])),
    "shapes": (ARRAY, ARRAY.reshape(3, 2)),
    "an int beyond 63 bits and its negative": (
        np.array([2**64 - 1], "u8"),
        np.array([-1]),
    ),
    "values": (ARRAY, ARRAY + np.eye(2, 3, dtype=int)),
    "names of columns": (FRAME, FRAME.rename(columns={"int": "n"})),
    "the order of rows": (FRAME, FRAME[::-1].reset_index(drop=True)),
    "a missing value and zero": (FRAME[["missing"]], FRAME[["missing"]].fillna(0)),
    "a missing text and an empty one": (FRAME[["text"]], FRAME[["text"]].fillna("")),
    "nanoseconds": (
        pd.Series(pd.to_datetime([1], unit="ns")),
        pd.Series(pd.to_datetime([2], unit="ns")),
    ),
    "where texts end": (np.array(["ab", "c"]), np.array(["a", "bc"])),
    "1 and '1'": ([1], ["1"]),
    "a list and its item": ([[1]], [1]),
    "masks": (np.ma.array(ARRAY, mask=ARRAY > 2), ARRAY),
    "bytes and text": (b"a", "a"),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_equal_data_has_one_hash(one, other):
    assert digest(one) == digest(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_different_data_has_different_hashes(one, other):
    assert digest(one) != digest(other)


def test_tensors_are_hashed_as_arrays():
    torch = pytest.importorskip("torch")
    assert digest(torch.arange(6).reshape(2, 3).int()) == digest(ARRAY)
    assert digest(torch.tensor([0.5], dtype=torch.bfloat16)) == digest(np.array([0.5]))


def test_the_hash_is_the_same_for_ever():
    # Stored hashes are compared with those of later versions.
    assert digest(ARRAY) == OF_AN_ARRAY
    assert digest({"a": [1, None, "ü"], "b": 0.5}) == OF_A_DICT
    assert digest(FRAME[["int", "float", "text"]]) == OF_A_FRAME


OF_AN_ARRAY = "786a4e1363f70bf60805588b2c10ac38ad56cce1d4a4952e9f9c5769a2d5f025"
OF_A_DICT = "84c9a68e4ec5355e7c82aadebf56cd6b0543561426afde87ac8e8508c06935d5"
OF_A_FRAME = "adf88217c780ab2094584bd23c2bc519cdeba56368f09914060cab7a47e41f71"


def test_a_file_is_hashed_as_by_sha256sum(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"content")
    expected = {"hash": hashlib.sha256(b"content").hexdigest(), "kind": "file", "bytes": 7}
    assert fingerprint("train", tmp_path / "a.csv") == expected
    assert fingerprint("train", str(tmp_path / "a.csv")) == expected
    assert fingerprint("train", io.BytesIO(b"content")) == expected
    assert fingerprint("train", b"content") == {**expected, "kind": "bytes"}


def test_a_folder_is_hashed_by_its_files_whatever_it_is_called(tmp_path):
    for name in ("one", "other", "changed"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "a").write_bytes(b"12")
        (tmp_path / name / "sub" / "b").write_bytes(b"3" if name != "changed" else b"4")
    one, other, changed = (
        fingerprint("train", tmp_path / name) for name in ("one", "other", "changed")
    )
    assert one == other
    assert (one["kind"], one["files"], one["bytes"]) == ("folder", 2, 3)
    assert changed["hash"] != one["hash"]


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (ARRAY.astype("i4"), {"kind": "numpy", "rows": 2, "columns": 3, "bytes": 24}),
        (np.zeros(4), {"kind": "numpy", "rows": 4, "bytes": 32}),
        (FRAME[["int"]], {"kind": "pandas DataFrame", "rows": 3, "columns": 1, "bytes": 156}),
        (
            pl.DataFrame({"a": [1, 2]}),
            {"kind": "polars DataFrame", "rows": 2, "columns": 1, "bytes": 16},
        ),
        ([[1, 2], [3, 4]], {"kind": "list", "rows": 2}),
        (sparse.csr_array(ARRAY), {"kind": "scipy", "rows": 2, "columns": 3}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_facts_are_those_of_the_data(data, facts):
    known = fingerprint("train", data)
    assert known.pop("hash") == digest(data)
    assert known == facts


def test_the_fingerprints_of_a_session_are_in_its_meta(model):
    with model.session({"a": 1}) as session:
        session.add_data("train", FRAME)
        session.add_data("test", ARRAY)
    with model.resume(session.id) as session:
        session.add_data("late", ARRAY)
        session.add_data("train", ARRAY)
    (view,) = model.sessions(where=f"meta.data.train.hash == '{digest(ARRAY)}'")
    data = view.meta["data"]
    assert data.keys() == {"train", "test", "late"}
    assert {facts["hash"] for facts in data.values()} == {digest(ARRAY)}
    with pytest.raises(casket.NotInASession):
        session.add_data("later", ARRAY)


@pytest.mark.parametrize("data", [object(), sys, lambda: 1, {"a": [object()]}, iter([1])])
def test_data_that_cannot_be_read_is_refused_by_name(memory, data):
    with memory.session() as session, pytest.raises(UnstorableValue, match=r"^data 'train' cannot"):
        session.add_data("train", data)


def test_a_missing_file_of_data_is_named(memory, tmp_path):
    with memory.session() as session, pytest.raises(casket.StoreUnavailable, match=r"missing\.csv"):
        session.add_data("train", tmp_path / "missing.csv")


def test_the_hash_is_the_same_in_every_process(run_python):
    code = """
        import numpy as np, pandas as pd
        from casket.format.fingerprints import digest
        table = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
        print(digest([{"x", "y"}, table, {"k": np.eye(2)}]))
    """
    assert len({run_python(code, PYTHONHASHSEED=str(seed)) for seed in (1, 2)}) == 1


def test_an_array_is_hashed_without_a_copy_of_it(run_python):
    code = """
        import resource, numpy as np
        from casket.format.fingerprints import digest
        array = np.ones((8 << 20, 2), "f4")[:, 0]
        digest(array[:10])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        digest(array)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    """
    assert int(run_python(code)) < 16 << 10
