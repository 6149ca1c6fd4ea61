"""Sessions of many processes, in every order of steps, on each store of this machine.

Those on servers are in the tests of their stores.
"""

from functools import partial

import pytest

from casket.stores.jsonfile.store import JsonStore
from casket.stores.memory import MemoryStore
from casket.stores.sqlite.store import SqliteStore
from tests.life.exploring import explore, world  # noqa: F401 - a fixture


def memory(_):
    store = MemoryStore()
    return lambda: store


def json(folder):
    return partial(JsonStore, folder / "runs.json")


def sqlite(folder):
    return partial(SqliteStore, folder / "runs.sqlite")


@pytest.mark.timeout(0)
@pytest.mark.parametrize("store", [memory, json, sqlite])
def test_every_order_of_steps_tells_the_truth(store, tmp_path, world):  # noqa: F811
    explore(store(tmp_path), tmp_path, world)
