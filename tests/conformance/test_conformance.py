"""The frameworks' own tests pass with casket in them; `make conformance` runs all they ship."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LONG = ["aggressive_elimination", "n_iterations", "n_features_in", "dtype_issue"]
"""Tests of scikit-learn's that take a third of the time and concern no fold: left to `make
conformance`."""

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(600)]


def passed(plugin, *arguments):
    """Run tests of a framework's with a plugin; return how many passed."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-q", "-p", "no:cacheprovider"]
    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    done = subprocess.run(
        [*command, "-p", f"tests.conformance.{plugin}", *arguments],
        cwd=ROOT,
        env={**environment, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
    return int(re.search(r"(\d+) passed", done.stdout)[1])


def test_scikit_learns_tests_of_its_searches_pass_with_ours_in_their_place():
    pytest.importorskip("sklearn")
    tests = "sklearn.model_selection.tests"
    modules = (f"{tests}.test_search", f"{tests}.test_successive_halving")
    assert passed("sklearn_search", "-k", f"not ({' or '.join(LONG)})", "--pyargs", *modules) > 200


def test_keras_tests_of_its_callbacks_pass_with_ours_in_every_list():
    keras = find_spec("keras")  # imported, it would ask for its backend here
    if keras is None:
        pytest.skip("could not find keras")
    folder = Path(keras.origin).parent / "src" / "callbacks"
    tests = [str(path) for path in sorted(folder.glob("*_test.py"))]
    assert passed("keras_callbacks", "--noconftest", *tests) > 40
