"""Tests for custom stores, which check the protocol `casket.stores.base.Store`.

Derive a test class from `StoreContract` and define a fixture `reopen` that returns a function. The
function returns a new handle on the same store, which is empty at the start of the test. It is
called in threads and sent to other processes, so it must be picklable, as `functools.partial` is:

    # tests/test_my_store.py
    from functools import partial

    import pytest
    from casket.testing import StoreContract
    from my_package import MyStore

    class TestMyStore(StoreContract):
        @pytest.fixture
        def reopen(self, tmp_path):
            return partial(MyStore, tmp_path / "store")

`FilesContract` tests the `files` of a store in the same way, with a fixture `files`.

Call `pytest.register_assert_rewrite("casket.testing")` in your `conftest.py` to let pytest show the
values that differ. Use `pytest-timeout` to stop a store that hangs.
"""

from __future__ import annotations

import hashlib
import io
import math
import multiprocessing
import os
import random
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import pytest

from casket.errors import NotFound, StoreUnavailable
from casket.format.files import CHUNK, Files, StoredFile, Upload
from casket.format.records import Record, Writer, checksum, covers, deletion
from casket.stores.base import Claimed, Filters, Numbered, Store
from casket.writing.experiment import Experiment, Model
from casket.writing.refusal import ExistingParamsException

# ruff: noqa: S101 - tests assert

Reopen = Callable[[], Store]
Wait = Callable[[], Any]
"""A barrier: returns once all participants have called it."""
Work = Callable[[Store, int, Wait], Any]
"""The function run by each of several threads or processes: a handle, its number and `Wait`."""

T = TypeVar("T")

ODD = 'a "quoted" \\ name, ünïcode 🎉'

PATIENCE = 120.0
"""The timeout for a process in seconds."""

METHODS = multiprocessing.get_all_start_methods()
CONTEXT: Any = multiprocessing.get_context("forkserver" if "forkserver" in METHODS else "spawn")
"""Starts new processes, which share nothing with this one; by `forkserver`, they start quickly."""

BODIES: dict[str, dict[str, Any]] = {
    "empty": {},
    "flat": {"epoch_num": 3, "result": {"loss": 0.25, "ok": True, "name": "SVM", "none": None}},
    "nested": {"a": {"b": [{"c": [[], {}, [1, [2, [3]]]]}]}, "list": [None, False, "", 0]},
    "deep": {"down": [[[[[[[[[[[[[[[[[[[[{"end": 1}]]]]]]]]]]]]]]]]]]]]},
    "unicode": {"ключ": "значение", "名前": "値 🎉", "e\u0301": "\u2028\u2029\ufeff"},
    "awkward text": {"t": '"}}\n,\r\n\t\\ \x00 \x1f \x7f {"_default": {', "": "", " ": "\n}}\n"},
    "floats": {"f": [0.1 + 0.2, 1e308, -1e308, 5e-324, 1e-7, 123456789.123456789, 1e22]},
    "whole floats": {"f": [0.0, 1.0, -1.0, 1e15], "i": [0, 1, -1, 10**15], "b": [False, True]},
    "large integers": {"i": [2**53 + 1, 2**63 - 1, -(2**63)]},
    "awkward keys": {"a.b": 1, "$set": {"$x": 2}, "_id": 3, "kind": "end", "claim": "c", "1": 4},
    "extended values": {"loss": {"$numberDouble": "NaN"}, "at": {"$date": "2024-01-01T00:00:00Z"}},
    "long text": {"text": "0123456789abcdef" * 65_536, "list": list(range(1000))},
}


def record(kind: str = "epoch", /, *, writer: Writer | None = None, **fields: Any) -> Record:
    """Return a record with its checksum, by default of session `s` of model `m` in experiment `e`.

    The fields may include `body`; fields that are None are omitted.
    """
    body = fields.pop("body", {"epoch_num": 1, "result": {"loss": 0.5}})
    fields = {"experiment": "e", "model": "m", "session": "s", **fields}
    given = {name: value for name, value in fields.items() if value is not None}
    known: Any = kind
    made = (writer or Writer()).record(known, body, **given)
    made["crc"] = checksum(made)
    return made


def removal(writer: Writer, **names: Any) -> Record:
    """Return the tombstone of `casket.format.records.deletion` with its checksum."""
    tombstone = deletion(writer, **names)
    tombstone["crc"] = checksum(tombstone)
    return tombstone


def records(count: int, /, **fields: Any) -> list[Record]:
    """Return several records with distinct identities."""
    return [record(**fields) for _ in range(count)]


def start(session: str, claim: str, writer: Writer | None = None) -> Record:
    """Return the record that starts a session and holds a claim."""
    return record("session", session=session, claim=claim, writer=writer, body={"params": {}})


def end(started: Record, status: str, **changes: Any) -> Record:
    """Return the record that ends the session of `started`; `changes` replace its fields."""
    session = changes.pop("session", started.get("session"))
    body = {"status": status, "of": started["writer"], **changes}
    return record("end", session=session, body=body)


def model_in(store: Store) -> Model:
    """Return a model in the store of a handle."""
    experiment = Experiment(":memory:", exp_id="sessions")
    experiment.backend.store = store
    with suppress(Claimed):
        experiment._create()
    return experiment.model("m")


class StoreContract:
    """Tests for each guarantee of the protocol `casket.stores.base.Store`."""

    shared_by_processes = True
    """Whether other processes can open the store; False for a store in memory."""

    @pytest.fixture
    def store(self, reopen: Reopen) -> Iterator[Store]:
        """A handle that is closed after the test."""
        with closing(reopen()) as store:
            yield store

    @pytest.fixture
    def other(self, reopen: Reopen) -> Iterator[Store]:
        """Another handle that is closed after the test."""
        with closing(reopen()) as store:
            yield store

    # Append and read.

    def test_a_new_store_is_empty(self, store: Store) -> None:
        """A new store contains no records."""
        assert list(store.records()) == []

    def test_append_returns_growing_numbers(self, store: Store) -> None:
        """Each append returns a larger number than the last append, starting from at least 1."""
        numbers = [store.append([record()]) for _ in range(5)]
        assert numbers[0] >= 1
        assert is_ascending(numbers)

    def test_append_returns_the_number_of_its_last_record(self, store: Store) -> None:
        """The returned number belongs to the last record of the batch."""
        batch = records(3)
        number = store.append(batch)
        assert dict(store.records())[number] == batch[-1]

    def test_records_come_in_the_order_they_were_appended(self, store: Store) -> None:
        """Records are returned in the order of their numbers, however they were appended."""
        first, batch, last = record(), records(4), record()
        returned = [store.append([first]), store.append(batch), store.append([last])]
        stored = dict(store.records())
        assert list(stored.values()) == [first, *batch, last]
        assert is_ascending(list(stored))
        assert [stored[number] for number in returned] == [first, batch[-1], last]

    @pytest.mark.parametrize("name", BODIES)
    def test_what_goes_in_comes_out_equal(self, store: Store, name: str) -> None:
        """JSON values are preserved exactly, including the difference of int, float and bool."""
        went_in = record(body=BODIES[name])
        store.append([went_in])
        [(_, came_out)] = store.records()
        assert typed(came_out) == typed(went_in)

    def test_records_of_a_batch_come_out_equal(self, store: Store) -> None:
        """Records appended in a batch are preserved as well."""
        batch = [record(body=body) for body in BODIES.values()]
        store.append(batch)
        assert [typed(r) for _, r in store.records()] == [typed(r) for r in batch]

    def test_a_record_that_belongs_to_nothing_comes_out_equal(self, store: Store) -> None:
        """A record may lack experiment, model and session."""
        went_in = record("tag", experiment=None, model=None, session=None)
        store.append([went_in])
        assert [r for _, r in store.records()] == [went_in]

    def test_a_record_of_a_newer_version_comes_out_as_it_went_in(self, store: Store) -> None:
        """A record with an unknown kind, unknown fields and an unknown body is preserved."""
        newer: Any = {**record("hologram", body={"depth": [1]}), "v": 99, "color": {"r": 1}}
        newer_end: Any = {**record("end", body={"how": "merged"}), "v": 99}
        store.append([newer])
        store.append([newer_end, record()])
        assert [r for _, r in store.records()][:2] == [newer, newer_end]
        assert [r for _, r in store.records(kinds={"hologram"})] == [newer]

    def test_a_change_after_the_append_changes_nothing_stored(self, store: Store) -> None:
        """The store keeps no reference to the caller's dict and does not modify it."""
        mine = [record(body={"list": [1]}) for _ in range(3)]
        before = typed(mine)
        store.append(mine[:1])
        store.append(mine[1:])
        assert typed(mine) == before
        for one in mine:
            one["body"]["list"].append(2)
        assert [r["body"] for _, r in store.records()] == [{"list": [1]}] * 3

    def test_a_change_of_what_came_out_changes_nothing_stored(self, store: Store) -> None:
        """Each read returns new records."""
        store.append([record(body={"list": [1]})])
        for _, came_out in store.records():
            came_out["body"]["list"].append(2)
        assert [r["body"] for _, r in store.records()] == [{"list": [1]}]

    def test_a_batch_with_a_record_that_cannot_be_stored_is_not_appended(
        self, store: Store
    ) -> None:
        """A batch is appended as a whole or not at all, and the store stays usable."""
        unstorable = record()
        unstorable["body"] = {"x": object()}
        with pytest.raises(Exception):  # noqa: B017, PT011 - the exception of the store's codec
            store.append([record(), unstorable, record()])
        assert list(store.records()) == []
        good = record()
        store.append([good])
        assert [r for _, r in store.records()] == [good]

    # Filters.

    @pytest.mark.parametrize(
        "filters",
        [
            pytest.param({"experiment": "e2"}, id="experiment"),
            pytest.param({"experiment": ODD}, id="experiment of an odd name"),
            pytest.param({"session": "s2"}, id="session"),
            pytest.param({"session": ODD}, id="session of an odd name"),
            pytest.param({"claim": "c1"}, id="claim"),
            pytest.param({"kinds": {"epoch"}}, id="one kind"),
            pytest.param({"kinds": {"session", "end"}}, id="two kinds"),
            pytest.param({"kinds": ["batch", "result", "hologram"]}, id="three kinds"),
        ],
    )
    def test_a_filter_selects_what_fits(self, store: Store, filters: dict[str, Any]) -> None:
        """A filter returns all matching records in order."""
        mixed = append_mixed(store)
        selected = list(store.records(**filters))
        assert selected
        assert selected == [(n, r) for n, r in mixed if Filters(**filters).fits(r)]

    def test_filters_select_what_fits_every_one_of_them(self, store: Store) -> None:
        """Filters can be combined freely, including with `after`."""
        mixed = append_mixed(store)
        choices = product(
            (None, "e", "e2", "nowhere"),
            (None, "s", "s2"),
            (None, "c1"),
            (None, {"epoch", "batch"}, {"session", "end"}, {"session", "epoch"}),
            (0, mixed[len(mixed) // 2][0]),
        )
        for experiment, session, claim, kinds, after in choices:
            filters = Filters(experiment, session, claim, kinds, after)
            selected = store.records(
                experiment=experiment, session=session, claim=claim, kinds=kinds, after=after
            )
            assert list(selected) == [(n, r) for n, r in mixed if n > after and filters.fits(r)], (
                filters
            )

    @pytest.mark.parametrize(
        "filters",
        [{"experiment": "x"}, {"session": "x"}, {"claim": "x"}, {"kinds": ["x"]}, {"kinds": ()}],
        ids=str,
    )
    def test_a_filter_that_fits_nothing_selects_nothing(
        self, store: Store, filters: dict[str, Any]
    ) -> None:
        """A filter without matches, such as an empty set of kinds, returns nothing."""
        append_mixed(store)
        assert list(store.records(**filters)) == []

    def test_after_a_number_come_the_larger_ones(self, store: Store) -> None:
        """`after` excludes the record of that number; after the last number there is nothing."""
        numbers = [store.append([record()]) for _ in range(4)]
        assert [n for n, _ in store.records(after=numbers[1])] == numbers[2:]
        assert [n for n, _ in store.records(after=numbers[-1])] == []
        assert [n for n, _ in store.records(after=numbers[-1] + 1000)] == []

    def test_reading_on_after_the_last_number_misses_and_repeats_nothing(
        self, store: Store, other: Store
    ) -> None:
        """Repeated reads after the last number return each record exactly once."""
        appended, followed, last = [], [], 0
        for i in range(6):
            batch = [record(body={"i": i, "j": j}) for j in range(i % 3 + 1)]
            (store if i % 2 else other).append(batch)
            appended += batch
            for number, came in store.records(after=last):
                followed.append(came)
                last = number
        assert followed == appended

    # Handles.

    def test_another_handle_sees_all(self, store: Store, other: Store) -> None:
        """Each handle sees the records of the other, even if it has read before."""
        assert list(other.records()) == []
        mine, yours = record(), record()
        store.append([mine])
        assert [r for _, r in other.records()] == [mine]
        other.append([yours])
        assert list(store.records()) == list(other.records())
        assert [r for _, r in store.records()] == [mine, yours]

    def test_handles_that_take_turns_number_as_one(self, store: Store, other: Store) -> None:
        """Numbers are unique and increase across handles."""
        numbers = [(store, other)[i % 2].append(records(i % 3 + 1)) for i in range(12)]
        assert is_ascending(numbers)
        assert is_ascending([n for n, _ in store.records()])
        assert len(list(store.records())) == sum(i % 3 + 1 for i in range(12))

    def test_a_closed_handle_opens_again_when_it_is_used(self, store: Store) -> None:
        """A closed handle reopens to append, read or prune; closing twice has no effect."""
        store.close()
        store.append([record(session="s1")])
        store.close()
        store.close()
        assert len(list(store.records())) == 1
        store.close()
        store.append([record(session="s2")])
        store.close()
        store.prune(removal(Writer(), sessions=["s1"]))
        store.close()
        assert [r.get("session") for _, r in store.records()] == ["s2", None]

    def test_a_new_handle_sees_what_a_closed_one_left(self, reopen: Reopen) -> None:
        """A new handle sees all records and continues the numbers."""
        left = record()
        with closing(reopen()) as store:
            number = store.append([left])
        with closing(reopen()) as store:
            assert list(store.records()) == [(number, left)]
            assert store.append([record()]) > number

    def test_closing_one_handle_leaves_the_others_open(self, store: Store, other: Store) -> None:
        """The other handles append and read as before."""
        store.append([record()])
        other.append([record()])
        other.close()
        store.append([record()])
        assert len(list(store.records())) == 3

    # Claims.

    def test_a_running_session_holds_its_claim(self, store: Store, other: Store) -> None:
        """The claim is refused to every handle; the exception contains the session."""
        store.append([start("s1", "c")], claim="c")
        for handle in (store, other):
            with pytest.raises(Claimed) as refused:
                handle.append([start("s2", "c")], claim="c")
            assert refused.value.session == "s1"

    def test_a_completed_session_holds_its_claim(self, store: Store, other: Store) -> None:
        """A completed session keeps its claim permanently."""
        first = start("s1", "c")
        store.append([first], claim="c")
        store.append([end(first, "completed")])
        with pytest.raises(Claimed) as refused:
            other.append([start("s2", "c")], claim="c")
        assert refused.value.session == "s1"

    @pytest.mark.parametrize("status", ["failed", "killed", "a status of tomorrow"])
    def test_an_end_that_is_not_completed_gives_the_claim_up(
        self, store: Store, other: Store, status: str
    ) -> None:
        """The next session that requests the claim gets it."""
        first = start("s1", "c")
        store.append([first], claim="c")
        store.append([end(first, status)])
        other.append([start("s2", "c")], claim="c")
        with pytest.raises(Claimed) as refused:
            store.append([start("s3", "c")], claim="c")
        assert refused.value.session == "s2"

    def test_an_end_of_another_writer_gives_nothing_up(self, store: Store) -> None:
        """An end refers to a start by its `of`, regardless of the writer of the end."""
        first = start("s1", "c")
        store.append([first], claim="c")
        store.append([end(first, "failed", of="somebody else")])
        with pytest.raises(Claimed):
            store.append([start("s2", "c")], claim="c")

    def test_an_end_of_another_session_gives_nothing_up(self, store: Store) -> None:
        """This holds even if the same writer started both sessions."""
        writer = Writer()
        first = start("s1", "c", writer)
        store.append([first], claim="c")
        store.append([end(first, "failed", session="s2")])
        with pytest.raises(Claimed):
            store.append([start("s3", "c")], claim="c")

    def test_each_writer_of_a_session_holds_its_claim(self, store: Store) -> None:
        """A continued session releases its claim once its last writer has failed."""
        one, two = start("s1", "c"), start("s1", "c")
        store.append([one], claim="c")
        store.append([two])
        for ended in (one, two):
            with pytest.raises(Claimed):
                store.append([start("s2", "c")], claim="c")
            store.append([end(ended, "failed")])
        store.append([start("s2", "c")], claim="c")

    def test_a_session_whose_last_writer_completed_holds_its_claim(self, store: Store) -> None:
        """The claim is held even if an earlier writer failed."""
        one, two = start("s1", "c"), start("s1", "c")
        store.append([one, end(one, "failed")])
        store.append([two, end(two, "completed")])
        with pytest.raises(Claimed):
            store.append([start("s2", "c")], claim="c")

    def test_a_session_whose_last_writer_failed_gives_its_claim_up(self, store: Store) -> None:
        """The claim is released even if an earlier writer completed."""
        one, two = start("s1", "c"), start("s1", "c")
        store.append([one, end(one, "completed")])
        store.append([two])
        with pytest.raises(Claimed):
            store.append([start("s2", "c")], claim="c")
        store.append([end(two, "failed")])
        store.append([start("s2", "c")], claim="c")

    @pytest.mark.parametrize("is_in_the_same_batch", [False, True])
    @pytest.mark.parametrize("status", ["failed", "killed"])
    def test_a_late_end_releases_nothing(
        self, store: Store, other: Store, status: str, is_in_the_same_batch: bool
    ) -> None:
        """Only the first end of a writer counts, regardless of the writer of later ends."""
        first = start("s1", "c")
        store.append([first], claim="c")
        store.append([end(first, "completed")])
        late = end(first, status)
        if is_in_the_same_batch:
            with pytest.raises(Claimed) as refused:
                other.append([late, start("s2", "c")], claim="c")
        else:
            other.append([late])
            with pytest.raises(Claimed) as refused:
                other.append([start("s2", "c")], claim="c")
        assert refused.value.session == "s1"

    def test_a_session_that_starts_again_after_it_failed_holds_its_claim_again(
        self, store: Store
    ) -> None:
        """Starts and ends are processed in order."""
        writer = Writer()
        first = start("s1", "c", writer)
        store.append([first, end(first, "failed")])
        store.append([start("s1", "c", writer)], claim="c")
        with pytest.raises(Claimed):
            store.append([start("s2", "c")], claim="c")

    def test_a_start_that_changes_the_claim_gives_the_former_one_up(
        self, store: Store, other: Store
    ) -> None:
        """A session has a single claim; after the change it holds the new one."""
        writer = Writer()
        store.append([start("s1", "c", writer)], claim="c")
        changed = start("s1", "d", writer)
        changed["body"]["changes"] = 1
        store.append([changed], claim="d")
        with pytest.raises(Claimed) as refused:
            other.append([start("s2", "d")], claim="d")
        assert refused.value.session == "s1"
        other.append([start("s2", "c")], claim="c")
        with pytest.raises(Claimed):
            store.append([start("s3", "c")], claim="c")
        store.append([end(changed, "failed")])
        other.append([start("s4", "d")], claim="d")

    def test_a_refused_change_of_the_claim_leaves_the_former_one_held(self, store: Store) -> None:
        """The session stays as it was."""
        writer = Writer()
        store.append([start("s1", "c", writer)], claim="c")
        store.append([start("s2", "d")], claim="d")
        changed = start("s1", "d", writer)
        changed["body"]["changes"] = 1
        with pytest.raises(Claimed) as refused:
            store.append([changed], claim="d")
        assert refused.value.session == "s2"
        with pytest.raises(Claimed):
            store.append([start("s3", "c")], claim="c")

    def test_a_session_is_continued_by_another_handle(self, store: Store, other: Store) -> None:
        """Sessions with late params, names and steps work in every store."""
        with model_in(store).session({"lr": 0.1}, name="warm", tags=["a"], group="g") as session:
            session.add_params({"width": 8})
            for loss in (3.0, 2.0):
                session.log({"loss": loss})
        elsewhere = model_in(other)
        with pytest.raises(ExistingParamsException):
            elsewhere.session({"width": 8, "lr": 0.1})
        elsewhere.session({"lr": 0.1}).end("failed")
        with elsewhere.resume(session.id[:10]) as again:
            assert (again.params, again.last_batch) == ({"lr": 0.1, "width": 8}, 1)
            again.log({"loss": 1.0})
            again.name = "renamed"
        view = next(view for view in elsewhere.sessions() if view.id == session.id)
        assert [batch["batch_num"] for batch in view.batches] == [0, 1, 2]
        assert (view.params, view.status) == ({"lr": 0.1, "width": 8}, "completed")
        assert (view.name, view.tags, view.group) == ("renamed", ("a",), "g")

    def test_an_end_in_the_same_batch_counts_first(self, store: Store) -> None:
        """A killed session can be ended and its claim transferred in a single append."""
        first, second = start("s1", "c"), start("s2", "c")
        store.append([first], claim="c")
        killed = end(first, "killed")
        store.append([killed, second], claim="c")
        assert [r for _, r in store.records()] == [first, killed, second]
        with pytest.raises(Claimed) as refused:
            store.append([start("s3", "c")], claim="c")
        assert refused.value.session == "s2"

    @pytest.mark.parametrize(("status", "of"), [("completed", None), ("failed", "somebody else")])
    def test_an_end_in_the_same_batch_that_gives_nothing_up_does_not_help(
        self, store: Store, status: str, of: str | None
    ) -> None:
        """The claim stays held after a `completed` end or the end of another writer."""
        first = start("s1", "c")
        store.append([first], claim="c")
        ended = end(first, status, of=of or first["writer"])
        with pytest.raises(Claimed):
            store.append([ended, start("s2", "c")], claim="c")
        assert [r for _, r in store.records()] == [first]

    def test_a_refused_append_writes_nothing(self, store: Store, other: Store) -> None:
        """No record of the batch is written, and the next append is unaffected."""
        first, after = start("s1", "c"), record()
        number = store.append([first], claim="c")
        with pytest.raises(Claimed):
            other.append([record(), start("s2", "c"), record()], claim="c")
        with pytest.raises(Claimed):
            store.append([start("s2", "c")], claim="c")
        assert list(other.records()) == [(number, first)]
        other.append([after])
        assert [r for _, r in store.records()] == [first, after]

    def test_a_claim_on_a_record_without_a_session_is_held_until_it_is_pruned(
        self, store: Store, other: Store
    ) -> None:
        """Such a claim is never released by an end; the exception contains no session."""
        holder = record("experiment", model=None, session=None, claim="c")
        store.append([holder], claim="c")
        store.append([end(holder, "failed", session="s")])
        with pytest.raises(Claimed) as refused:
            other.append([record("experiment", session=None, claim="c")], claim="c")
        assert refused.value.session is None
        other.prune(removal(Writer(), experiments=["e"]))
        store.append([record("experiment", session=None, claim="c")], claim="c")

    def test_a_claim_on_another_record_of_a_session_is_held_until_it_is_pruned(
        self, store: Store
    ) -> None:
        """An end releases only the claim of the start."""
        first, holder = start("s1", "c1"), record("artifact", session="s1", claim="c2")
        store.append([first, holder, end(first, "failed")])
        store.append([start("s2", "c1")], claim="c1")
        with pytest.raises(Claimed):
            store.append([start("s3", "c2")], claim="c2")

    def test_other_claims_are_free(self, store: Store) -> None:
        """A held claim does not affect other claims."""
        store.append([start("s1", "c")], claim="c")
        store.append([start("s2", "c2")], claim="c2")
        store.append([start("s3", "C")], claim="C")
        assert len(list(store.records())) == 3

    def test_who_asks_for_no_claim_is_not_refused(self, store: Store) -> None:
        """Continued sessions and copied records do not request their claim."""
        store.append([start("s1", "c")], claim="c")
        store.append([start("s1", "c")])
        store.append([record(claim="c"), record()])
        assert len(list(store.records())) == 4

    def test_a_record_holds_its_claim_though_it_was_appended_without_asking(
        self, store: Store
    ) -> None:
        """A stored claim is held regardless of how its record was appended."""
        store.append([record(), start("s1", "c")])
        with pytest.raises(Claimed):
            store.append([start("s2", "c")], claim="c")

    def test_a_claim_that_no_record_carries_is_not_held(self, store: Store) -> None:
        """Requesting a claim without storing it does not hold it."""
        store.append([record()], claim="c")
        store.append([record()], claim="c")
        assert len(list(store.records())) == 2

    def test_a_newer_end_does_not_break_the_question_for_a_claim(self, store: Store) -> None:
        """An end with an unknown body releases nothing."""
        store.append([start("s1", "c")], claim="c")
        newer: Any = {**record("end", session="s1", body={"how": "merged"}), "v": 99}
        store.append([newer])
        with pytest.raises(Claimed):
            store.append([start("s2", "c")], claim="c")

    # Pruning.

    @pytest.mark.parametrize(
        "covered",
        [
            pytest.param({"sessions": ["s2"]}, id="a session"),
            pytest.param({"models": [("e", "m2")]}, id="a model"),
            pytest.param({"experiments": ["e2"]}, id="an experiment"),
            pytest.param({"sessions": ["s"], "experiments": ["e2"]}, id="several"),
            pytest.param({"sessions": ["nobody"]}, id="nothing"),
            pytest.param(
                {"experiments": ["e"], "models": [("e", "m")], "only_named": True},
                id="only what belongs to no session",
            ),
            pytest.param(
                {"experiments": ["e"], "sessions": ["s2"], "only_named": True},
                id="only an experiment and a session",
            ),
        ],
    )
    def test_pruning_drops_what_the_tombstone_covers_and_nothing_else(
        self, store: Store, other: Store, covered: dict[str, Any]
    ) -> None:
        """Other records keep their numbers and their order; the tombstone is last."""
        before = append_mixed(store)
        tombstone = removal(Writer(), **covered)
        store.prune(tombstone)
        kept = [(n, r) for n, r in before if not covers(tombstone, r)]
        for handle in (store, other):
            *rest, (number, last) = handle.records()
            assert rest == kept
            assert last == tombstone
            assert number > before[-1][0]

    def test_numbers_of_what_was_pruned_are_not_used_again(
        self, store: Store, other: Store
    ) -> None:
        """Even the last number is not reused, so that readers after it miss nothing."""
        store.append([record(session="s1")])
        newest = store.append([record(session="s2")])
        store.prune(removal(Writer(), sessions=["s2"]))
        store.close()
        after = record(session="s3")
        number = other.append([after])
        assert number > newest
        came = list(store.records(after=newest))
        assert [r for _, r in came][1:] == [after]
        assert came[0][1]["kind"] == "deleted"

    def test_when_everything_is_pruned_numbers_still_grow(self, store: Store, other: Store) -> None:
        """Only the tombstones remain."""
        numbers = []
        for handle in (store, other, store):
            numbers.append(handle.append([record(), record()]))
            handle.prune(removal(Writer(), experiments=["e"]))
        numbers.append(other.append([record()]))
        assert is_ascending(numbers)
        assert [r["kind"] for _, r in store.records()] == ["deleted"] * 3 + ["epoch"]

    def test_an_empty_store_can_be_pruned(self, store: Store) -> None:
        """After pruning, an empty store contains the tombstone."""
        tombstone = removal(Writer(), sessions=["s"])
        store.prune(tombstone)
        assert [r for _, r in store.records()] == [tombstone]
        assert store.append([record()]) > next(n for n, _ in store.records())

    def test_a_tombstone_does_not_cover_what_comes_after_it(
        self, store: Store, other: Store
    ) -> None:
        """A new experiment may reuse the name of a pruned experiment."""
        store.append([record(body={"run": 1})])
        store.prune(removal(Writer(), experiments=["e"]))
        other.append([record(body={"run": 2})])
        assert [r["body"] for _, r in store.records(kinds={"epoch"})] == [{"run": 2}]

    def test_handles_that_were_open_go_on_through_a_prune(self, store: Store, other: Store) -> None:
        """Records appended before and after a prune are kept and seen by all handles."""
        before, after, later = record(session="s1"), record(session="s3"), record(session="s3")
        other.append([before])
        store.append([record(session="s2")])
        store.prune(removal(Writer(), sessions=["s2"]))
        other.append([after])
        store.append([later])
        assert [r for _, r in other.records(kinds={"epoch"})] == [before, after, later]
        assert list(store.records()) == list(other.records())

    def test_claims_of_what_was_pruned_are_free(self, store: Store, other: Store) -> None:
        """The claims of other records stay held."""
        other.append([start("s1", "c1")], claim="c1")
        other.append([start("s2", "c2")], claim="c2")
        store.prune(removal(Writer(), sessions=["s1"]))
        other.append([start("s3", "c1")], claim="c1")
        for claim in ("c1", "c2"):
            with pytest.raises(Claimed):
                other.append([start("s4", claim)], claim=claim)

    def test_a_newer_record_survives_a_prune(self, store: Store) -> None:
        """A record of a newer version is preserved by a prune."""
        newer: Any = {**record("hologram", session="s1"), "v": 99, "color": {"r": 1}}
        store.append([newer, record(session="s2")])
        store.prune(removal(Writer(), sessions=["s2"]))
        assert next(r for _, r in store.records()) == newer

    def test_pruning_by_a_tombstone_that_names_nothing_changes_nothing_readers_see(
        self, store: Store, other: Store
    ) -> None:
        """The tombstone is not stored, the numbers continue and the claims stay held."""
        before = append_mixed(store)
        for handle in (store, other):
            handle.prune(removal(Writer()))
            assert list(store.records()) == list(other.records()) == before
        assert other.append([record()]) > before[-1][0]
        with pytest.raises(Claimed):
            store.append([start("s4", "c1")], claim="c1")

    def test_an_empty_store_can_be_tidied_up(self, store: Store) -> None:
        """An empty store stays empty."""
        store.prune(removal(Writer()))
        assert list(store.records()) == []
        assert store.append([record()]) >= 1

    # Readers and writers at once.

    def test_a_reader_in_the_middle_goes_on_while_others_append_and_prune(
        self, store: Store, other: Store
    ) -> None:
        """The reader gets an ordered result with all records that exist throughout."""
        text = "x" * 1000
        for i in range(6):
            body = {"x": text, "i": i}
            store.append([record(session=f"s{j % 2}", body=body) for j in range(99)])
        there = list(store.records(session="s1"))
        reading = store.records()
        begun = [next(reading) for _ in range(5)]
        other.append(records(3, session="s1"))
        other.prune(removal(Writer(), sessions=["s0"]))
        other.append([record(session="s1")])
        whole = begun + list(reading)
        assert is_ascending([n for n, _ in whole])
        assert [one for one in whole if one[1].get("session") == "s1"][: len(there)] == there
        assert len(list(store.records(session="s1"))) == len(there) + 4

    def test_a_reader_that_stops_in_the_middle_leaves_the_store_usable(
        self, store: Store, other: Store
    ) -> None:
        """An abandoned reader does not block other operations."""
        store.append(records(10))
        next(store.records())
        waiting = other.records()
        next(waiting)
        store.append([record()])
        store.prune(removal(Writer(), sessions=["s"]))
        other.append([record()])
        assert len(list(store.records(kinds={"epoch"}))) == 1

    def test_a_batch_is_seen_whole_or_not_at_all(self, reopen: Reopen) -> None:
        """Readers never see a part of a batch while others append."""
        done = threading.Event()

        def append(store: Store, me: int, wait: Wait) -> None:
            wait()
            try:
                for i in range(12):
                    store.append(records(3, body={"of": [me, i]}))
            finally:
                done.set()

        def look(store: Store, _me: int, wait: Wait) -> list[Any]:
            wait()
            seen = []
            is_last = False
            while not is_last:
                is_last = done.is_set()
                seen.append([r["body"]["of"] for _, r in store.records()])
            return seen

        *_, seen = in_threads(reopen, append, append, look)
        for batches in seen:
            assert all(batches.count(batch) == 3 for batch in batches)
            assert batches[::3] == batches[1::3] == batches[2::3]

    def test_followers_miss_nothing_while_others_append(self, store: Store, reopen: Reopen) -> None:
        """No record appears with a smaller number than a record already read."""
        is_done = [False, False, False]

        def append(store: Store, me: int, wait: Wait) -> list[Record]:
            wait()
            try:
                mine = records(40)
                for one in mine:
                    store.append([one])
                return mine
            finally:
                is_done[me] = True

        def follow(store: Store, _me: int, wait: Wait) -> list[Record]:
            wait()
            followed, last, is_over = [], 0, False
            while not is_over:
                is_over = all(is_done)
                for number, came in store.records(after=last):
                    followed.append(came)
                    last = number
            return followed

        *appended, followed = in_threads(reopen, append, append, append, follow)
        assert followed == [r for _, r in store.records()]
        for mine in appended:
            assert [one for one in followed if one in mine] == mine
        assert len(followed) == 120

    def test_threads_may_share_a_handle(self, store: Store) -> None:
        """Concurrent appends get distinct numbers, and no record is lost."""

        def append(store: Store, me: int, wait: Wait) -> list[int]:
            wait()
            return [store.append([record(body={"of": [me, i]})]) for i in range(40)]

        numbers = in_threads(lambda: store, append, append, append, append)
        stored = {number: r["body"]["of"] for number, r in store.records()}
        assert stored == {n: [me, i] for me, mine in enumerate(numbers) for i, n in enumerate(mine)}
        assert len(stored) == 160

    @pytest.mark.parametrize("is_shared", [True, False], ids=["one handle", "a handle each"])
    def test_of_threads_that_race_for_a_claim_one_wins(
        self, store: Store, reopen: Reopen, is_shared: bool
    ) -> None:
        """Only one claimant succeeds; the others learn which session holds the claim."""
        outcomes = in_threads((lambda: store) if is_shared else reopen, *[race_for_claims] * 4)
        assert_each_contest_was_won_once(outcomes, store)

    # Other processes.

    def test_of_processes_that_race_for_a_claim_one_wins(
        self, store: Store, reopen: Reopen
    ) -> None:
        """Only one claimant succeeds; the others learn which session holds the claim."""
        self._need_processes()
        assert_each_contest_was_won_once(in_processes(reopen, race_for_claims, 3), store)

    def test_processes_append_and_prune_at_once_and_nothing_is_lost(
        self, store: Store, reopen: Reopen
    ) -> None:
        """Numbers are unique, and the records of each process keep their order."""
        self._need_processes()
        numbers = in_processes(reopen, append_and_prune, 3)
        kept = list(store.records(kinds={"epoch"}))
        assert is_ascending([n for n, _ in kept])
        for me, mine in enumerate(numbers):
            stored = [(n, r["body"]["i"]) for n, r in kept if r["session"] == f"keep{me}"]
            assert stored == [(n, i) for i, n in enumerate(mine)]
        assert {r["session"] for _, r in kept} == {"keep0", "keep1", "keep2"}
        assert len(list(store.records(kinds={"deleted"}))) == 15

    def test_what_append_returned_for_outlives_a_kill(self, store: Store, reopen: Reopen) -> None:
        """`kill -9` loses no acknowledged record, and the store stays usable."""
        self._need_processes()
        receiver, sender = CONTEXT.Pipe(duplex=False)
        process = start_process(append_for_ever, reopen, sender)
        sender.close()
        acknowledged = [receive(receiver) for _ in range(30)]
        process.kill()
        with suppress(EOFError, OSError):  # the last message may be cut
            while True:
                acknowledged.append(receive(receiver))
        process.join(PATIENCE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a store may warn that it repairs a cut record
            number = store.append([record(session="after")])
        stored = {n: r["body"].get("i") for n, r in store.records()}
        assert {n: stored.get(n) for n, _ in acknowledged} == dict(acknowledged)
        assert number > max(n for n, _ in acknowledged)

    def test_a_forked_child_appends_through_the_handle_it_inherits(self, store: Store) -> None:
        """Parent and child append through the same handle and see all records."""
        self._need_processes()
        if not hasattr(os, "fork"):
            pytest.skip("this system has no fork")
        store.append([record(session="parent")])
        ready, begun = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of running threads, which this test is about
            child = os.fork()
        if child == 0:
            try:
                os.write(begun, b"!")
                for _ in range(300):
                    store.append([record(session="child")])
                os._exit(0)
            finally:
                os._exit(1)
        os.read(ready, 1)
        for _ in range(300):
            store.append([record(session="parent")])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        os.close(ready)
        os.close(begun)
        store.append([record(session="parent")])
        sessions = [r["session"] for _, r in store.records()]
        assert (sessions.count("parent"), sessions.count("child")) == (302, 300)
        assert is_ascending([n for n, _ in store.records()])

    def _need_processes(self) -> None:
        if not self.shared_by_processes:
            pytest.skip("this store is not shared by processes")


class FilesContract:
    """Tests for each guarantee of the protocol `casket.format.files.Files`.

    A subclass has a fixture `files`, which is empty at the start of the test.
    """

    step = CHUNK
    """The number of bytes that are sent at once."""

    def test_a_place_without_files_lists_and_reads_none(self, files: Files) -> None:
        """Reading creates nothing and needs nothing."""
        assert list(files.listed()) == []
        assert not files.renew(name_of(b"a"), NOW)
        assert not files.delete(name_of(b"a"))
        with pytest.raises(NotFound, match=r"casket sync|missing"):
            list(files.read(name_of(b"a")))

    @pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK + 17])
    def test_a_file_comes_out_as_it_went_in(self, files: Files, size: int) -> None:
        """The content is equal, and read in parts."""
        content = pattern(size)
        put(files, content)
        assert b"".join(files.read(name_of(content))) == content
        assert list(files.listed()) == [StoredFile(name_of(content), size, NOW)]
        assert all(len(chunk) <= CHUNK for chunk in files.read(name_of(content)))

    def test_a_file_is_read_from_a_position_on(self, files: Files) -> None:
        """A fetch that was interrupted is continued."""
        content = pattern(2 * CHUNK + 17)
        put(files, content)
        for start in (1, CHUNK, CHUNK + 5, len(content)):
            assert b"".join(files.read(name_of(content), start)) == content[start:]

    def test_an_interrupted_upload_goes_on_where_it_was(self, files: Files) -> None:
        """Arrived parts are not sent again, and not read."""
        content = pattern(4 * self.step + 17)
        for fails_at in (2 * self.step, 3 * self.step):
            with pytest.raises(Interrupted):
                put(files, content, Interrupting(content, fails_at))
            assert not files.renew(name_of(content), NOW)
            [part] = files.listed()
            assert part.name.startswith(f".{name_of(content)}.")
            with pytest.raises(NotFound):
                list(files.read(name_of(content)))
        stream = Interrupting(content)
        put(files, content, stream)
        assert stream.sent <= 2 * self.step + 17
        assert b"".join(files.read(name_of(content))) == content
        assert [file.name for file in files.listed()] == [name_of(content)]

    def test_machines_that_store_the_same_file_leave_one(self, files: Files) -> None:
        """Each has an upload of its own."""
        content = pattern(3 * self.step)
        with pytest.raises(Interrupted):
            put(files, content, Interrupting(content, 2 * self.step), machine="a")
        put(files, content, machine="b")
        put(files, content, machine="a")
        assert b"".join(files.read(name_of(content))) == content
        assert [file.name for file in files.listed()] == [name_of(content)]

    def test_an_upload_whose_parts_were_removed_does_not_appear_with_gaps(
        self, files: Files
    ) -> None:
        """Cleaning may remove an upload that takes long."""
        content = pattern(2 * self.step + 1)

        def remove_parts() -> None:
            for part in list(files.listed()):
                files.delete(part.name)

        stream = Interrupting(content, on_end=remove_parts)
        with suppress(StoreUnavailable):
            put(files, content, stream)
        if files.renew(name_of(content), NOW):
            assert b"".join(files.read(name_of(content))) == content
        put(files, content)
        assert b"".join(files.read(name_of(content))) == content

    def test_renewing_changes_the_time(self, files: Files) -> None:
        """The time is that given by the writer."""
        put(files, b"a")
        later = NOW + timedelta(hours=1)
        assert files.renew(name_of(b"a"), later)
        assert [file.modified for file in files.listed()] == [later]

    def test_a_deleted_file_is_gone_and_can_be_stored_again(self, files: Files) -> None:
        """Other files stay."""
        put(files, b"a")
        put(files, b"b")
        assert files.delete(name_of(b"a"))
        assert not files.delete(name_of(b"a"))
        assert [file.name for file in files.listed()] == [name_of(b"b")]
        put(files, b"a")
        assert b"".join(files.read(name_of(b"a"))) == b"a"

    def test_a_file_that_was_renewed_since_it_was_listed_is_not_deleted(self, files: Files) -> None:
        """A writer may be about to refer to it."""
        put(files, b"a")
        [listed] = files.listed()
        files.renew(listed.name, NOW + timedelta(hours=1))
        assert not files.delete(listed.name, listed.modified)
        [again] = files.listed()
        assert files.delete(again.name, again.modified)
        assert list(files.listed()) == []

    def test_an_unfinished_upload_is_deleted_by_its_name(self, files: Files) -> None:
        """It is listed by the name of the upload."""
        content = pattern(2 * self.step)
        with pytest.raises(Interrupted):
            put(files, content, Interrupting(content, self.step))
        [part] = files.listed()
        assert files.delete(part.name, part.modified)
        assert list(files.listed()) == []


NOW = datetime(2024, 1, 1, tzinfo=UTC)


class Interrupted(Exception):
    """Raised by the content of an upload."""


class Interrupting(io.BytesIO):
    """Content that raises `Interrupted` at a position.

    Attributes:
        sent: the number of bytes that were read.
    """

    def __init__(
        self, content: bytes, fails_at: float = math.inf, on_end: Callable[[], Any] = int
    ) -> None:
        super().__init__(content)
        self.sent = 0
        self._fails_at = fails_at
        self._on_end = on_end

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes."""
        if self.tell() >= self._fails_at:
            raise Interrupted
        content = super().read(size)
        self.sent += len(content)
        if not content:
            self._on_end()
        return content


def pattern(size: int) -> bytes:
    """Return bytes that depend on their number."""
    return random.Random(size).randbytes(size)  # noqa: S311 - no secret


def name_of(content: bytes) -> str:
    """Return the name of a file with this content."""
    return f"{hashlib.sha256(content).hexdigest()}.bin"


def part_of(content: bytes, machine: str = "here") -> str:
    """Return the name of an unfinished upload of this content."""
    return f".{name_of(content)}.{machine}.part"


def put(files: Files, content: bytes, stream: Any = None, machine: str = "here") -> None:
    """Store content as a file."""
    upload = Upload(name_of(content), len(content), NOW, part_of(content, machine))
    files.put(upload, io.BytesIO(content) if stream is None else stream)


def is_ascending(numbers: Sequence[int]) -> bool:
    """Return whether the numbers are strictly increasing."""
    return all(one < following for one, following in pairwise(numbers))


def typed(value: Any) -> Any:
    """Return a JSON value in a form that distinguishes 1, 1.0 and True."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value).__name__, value


def append_mixed(store: Store) -> list[Numbered]:
    """Append records that differ in all filtered fields; return them with their numbers."""
    first = start("s", "c1")
    other = record("session", session="s2", model="m2", claim="c2", body={"params": {}})
    mixed = [
        record("experiment", model=None, session=None),
        record("model", session=None),
        first,
        *(record(kind) for kind in ("epoch", "batch", "result", "meta", "artifact")),
        record("experiment", experiment="e2", model=None, session=None),
        other,
        record(session="s2", model="m2"),
        record(experiment="e2", session="s3"),
        record("batch", experiment="e2", session="s3", claim="c1"),
        record("epoch", body={"kind": "session", "session": "s2", "claim": "c1"}),
        record("tag", model=None, session=None),
        record(experiment=ODD, model=ODD, session=ODD),
        record("hologram", experiment=None, model=None, session=None),
        end(first, "completed"),
        end(other, "failed"),
        record("epoch", session=None),
    ]
    return [(store.append([one]), one) for one in mixed]


def race_for_claims(store: Store, me: int, wait: Wait) -> list[tuple[str, str | None]]:
    """Request claims concurrently; return this session and the holder of each claim."""
    outcomes = []
    for i in range(8):
        session = f"s{i}-{me}"
        wait()
        try:
            store.append([record(), start(session, f"c{i}")], claim=f"c{i}")
        except Claimed as refused:
            outcomes.append((session, refused.session))
        else:
            outcomes.append((session, session))
    return outcomes


def assert_each_contest_was_won_once(
    outcomes: Sequence[Sequence[tuple[str, str | None]]], store: Store
) -> None:
    """Check the results of `race_for_claims` against the records in the store."""
    for i, contest in enumerate(zip(*outcomes, strict=True)):
        winners = [session for session, holder in contest if holder == session]
        assert len(winners) == 1
        assert {holder for _, holder in contest} == set(winners)
        assert [r["session"] for _, r in store.records(claim=f"c{i}")] == winners
    assert len(list(store.records(kinds={"epoch"}))) == len(outcomes[0])


def append_and_prune(store: Store, me: int, wait: Wait) -> list[int]:
    """Append, and prune other records repeatedly; return the numbers of the remaining records."""
    wait()
    numbers = []
    for i in range(50):
        numbers.append(store.append([record(session=f"keep{me}", body={"i": i})]))
        store.append([record(session=f"drop{me}-{i // 10}")])
        if i % 10 == 9:
            store.prune(removal(Writer(), sessions=[f"drop{me}-{i // 10}"]))
    return numbers


def append_for_ever(reopen: Reopen, sender: Connection) -> None:
    """Append indefinitely, and acknowledge each append after it has returned."""
    store = reopen()
    writer, i = Writer(), 0
    while True:
        i += 1
        number = store.append([record(session="killed", writer=writer, body={"i": i})])
        sender.send((number, i))


def in_threads(reopen: Reopen, *works: Work) -> list[Any]:
    """Run each function in a thread with its own handle; return their results."""
    barrier = threading.Barrier(len(works))

    def run(me: int) -> Any:
        with closing(reopen()) as store:
            return works[me](store, me, barrier.wait)

    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(run, me) for me in range(len(works))]
        for future in futures:
            future.add_done_callback(lambda one: barrier.abort() if one.exception() else None)
        return results([future.result for future in futures])


def results(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of all calls; if calls fail, raise the error that is the cause."""
    returned: list[T] = []
    errors: list[Exception] = []
    for call in calls:
        try:
            returned.append(call())
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
    errors.sort(key=lambda one: isinstance(one, threading.BrokenBarrierError))
    if errors:
        raise errors[0]
    return returned


def in_processes(reopen: Reopen, work: Work, count: int) -> list[Any]:
    """Run a function in several new processes with a handle each; return their results."""
    barrier = CONTEXT.Barrier(count, timeout=PATIENCE)
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(count)]
    processes = []
    try:
        for me, (_, sender) in enumerate(pipes):
            processes.append(start_process(run_one, reopen, work, me, barrier.wait, sender))
            sender.close()
        outcomes = [receive(receiver) for receiver, _ in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()
    assert all(problem is None for _, problem in outcomes), outcomes
    return [outcome for outcome, _ in outcomes]


def start_process(work: Callable[..., object], *args: Any) -> BaseProcess:
    """Run a function in a new process, with the environment of this one."""
    target, environment = run_with_environment, dict(os.environ)
    process: BaseProcess = CONTEXT.Process(
        target=target, args=(environment, work, args), daemon=True
    )
    process.start()
    return process


def run_with_environment(
    environment: dict[str, str], work: Callable[..., object], args: Sequence[Any]
) -> None:
    """Call a function in a process whose environment may be that of an earlier time."""
    os.environ.clear()
    os.environ.update(environment)
    work(*args)


def run_one(reopen: Reopen, work: Work, me: int, wait: Wait, sender: Connection) -> None:
    """Run a function in this process and send its result, or its traceback if it fails."""
    outcome, problem = None, None
    try:
        with closing(reopen()) as store:
            outcome = work(store, me, wait)
    except Exception:  # noqa: BLE001 - the test shows it
        problem = traceback.format_exc()
    sender.send((outcome, problem))


def receive(receiver: Connection) -> Any:
    """Return the result sent by the other process."""
    assert receiver.poll(PATIENCE), f"a process said nothing for {PATIENCE} s"
    return receiver.recv()
