"""The contract on the MongoDB server whose URL is in `$CASKET_TEST_MONGODB`.

The URL names no database: each test creates one of its own and drops it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import pymongo
import pytest

from casket.format.records import new_id
from casket.stores.mongo import MongoStore
from casket.testing import Reopen, StoreContract

VARIABLE = "CASKET_TEST_MONGODB"


@pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"set {VARIABLE} to a MongoDB URL")
class TestGivenServer(StoreContract):
    @pytest.fixture
    def reopen(self) -> Iterator[Reopen]:
        server, question, arguments = os.environ[VARIABLE].partition("?")
        database = f"casket_test_{new_id()}"
        yield partial(MongoStore, f"{server.rstrip('/')}/{database}{question}{arguments}")
        with pymongo.MongoClient[dict[str, object]](os.environ[VARIABLE]) as client:
            client.drop_database(database)
