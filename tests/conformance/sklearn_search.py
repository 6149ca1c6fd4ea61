"""A pytest plugin: scikit-learn's own tests of its searches, with casket's in their place.

Every search they make logs into a file, and a warning of casket's fails the test. Nothing is
copied: the tests are those that come with scikit-learn.

    python -m pytest -c /dev/null -p tests.conformance.sklearn_search --pyargs \
        sklearn.model_selection.tests.test_search \
        sklearn.model_selection.tests.test_successive_halving
"""

import tempfile
from pathlib import Path

import sklearn.model_selection

import casket
import casket_integrations.sklearn as ours

NAMES = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
folder = tempfile.TemporaryDirectory(prefix="casket-conformance-")
url = str(Path(folder.name, "runs.json"))


def pytest_configure(config):
    """Put casket's searches where the tests import theirs from, and let each of them log."""
    config.addinivalue_line("filterwarnings", "error::casket.CasketWarning")
    model = casket.Experiment.use(url, exp_id="conformance").model("searches")
    for name in NAMES:
        logged = getattr(ours, f"Logged{name}")
        logged.__init__.__kwdefaults__["casket_model"] = model
        setattr(sklearn.model_selection, name, logged)


def pytest_terminal_summary(terminalreporter):
    with casket.open(url) as runs:
        sessions = runs.sessions()
    results = sum(len(session.logged("result")) for session in sessions)
    terminalreporter.write_line(f"casket: {results} results in {len(sessions)} sessions")
    open_ends = [session for session in sessions if session.status not in ("completed", "failed")]
    assert results > 1000, "the searches did not log"
    assert not open_ends, open_ends


def pytest_unconfigure(config):
    folder.cleanup()
