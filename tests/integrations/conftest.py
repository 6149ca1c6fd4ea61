"""The adapters' tests run Keras on torch, unless the environment names another backend."""

import os
import warnings
from contextlib import contextmanager

import pytest

from casket import CasketWarning
from tests.integrations.fork_server import ForkServer

# Before anybody imports keras and torch, which read them once.
os.environ.setdefault("KERAS_BACKEND", "torch")
# Small nets on shared cores: a second thread doubles the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def fork_server():
    """Runs scripts in forks of a process that has frameworks loaded."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def one_warning():
    """Check that a block warns of a text once, however often it failed to log."""

    @contextmanager
    def check(text):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CasketWarning)
            yield
        (said,) = [str(one.message) for one in caught if one.category is CasketWarning]
        assert text in said

    return check
