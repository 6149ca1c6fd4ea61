"""The index of a JSON document's heads."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import orjson
import pytest

from casket.format.records import Record, Writer
from casket.stores.base import Filters
from casket.stores.jsonfile import places, scan
from casket.stores.jsonfile.files import LocalFile
from casket.stores.jsonfile.store import JsonStore


@pytest.mark.parametrize(
    "kinds",
    [{"session", "end"}, {"session", "end", "tag"}, {"tag"}, {"session"}],
    ids=lambda kinds: " ".join(sorted(kinds)),
)
def test_the_heads_of_a_session_are_found_without_those_of_others(
    kinds: set[str], tmp_path: Path
) -> None:
    path = tmp_path / "runs.json"
    with closing(JsonStore(path)) as store:
        store.append([record for i in range(5) for record in heads(f"s{i}")])
    with closing(LocalFile(path, writing=False)) as file:
        extent = scan.find_extent(file)
        assert extent is not None
        at = places.Places().of(file, extent, Filters(session="s3", kinds=kinds))
        assert at is not None
        read = [orjson.loads(text) for _, text in places.numbered(file, at)]
    assert {one["session"] for one in read if "session" in one} == {"s3"}
    assert {one["kind"] for one in read if "session" in one} >= kinds


@pytest.mark.parametrize("after", [0, 1, 4, 11, 19, 20, 99])
def test_only_the_heads_after_a_number_are_read(after: int, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    with closing(JsonStore(path)) as store:
        store.append([record for i in range(5) for record in heads(f"s{i}")])
        kinds = {"session", "end"}
        expected = [(n, each) for n, each in store.records(kinds=kinds) if n > after]
        assert list(store.records(kinds=kinds, after=after)) == expected
    with closing(LocalFile(path, writing=False)) as file:
        extent = scan.find_extent(file)
        assert extent is not None
        at = places.Places().of(file, extent, Filters(kinds=kinds, after=after))
    assert at is not None
    assert len(at) == len(expected)


def heads(session: str) -> list[Record]:
    """Return the heads of a session, with a tag of its experiment."""
    writer = Writer()
    owner = {"experiment": "e", "model": "m", "session": session}
    tag = {"add": ['"session":"s3"']}
    return [
        writer.record("session", {"params": {}, "process": {}}, **owner),
        writer.record("tag", tag, experiment="e"),
        writer.record("tag", tag, **owner),
        writer.record("end", {"status": "completed", "of": writer.id}, **owner),
    ]
