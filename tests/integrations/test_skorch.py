"""`CasketCallback` of skorch in small real trainings."""

import pickle

import pytest

import casket
from casket import Experiment

pytest.importorskip("skorch")
sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from skorch.callbacks import Callback  # noqa: E402

from casket_integrations.skorch import CasketCallback  # noqa: E402
from tests.integrations.scenarios.skorch import classifier, data, rows_of  # noqa: E402

pytestmark = pytest.mark.frameworks

X, y = data()


class Raises(Callback):
    def __init__(self, event, error):
        self.error = error
        setattr(self, event, self.fail)

    def fail(self, net, *_, **__):
        if len(net.history) in (0, 2):
            raise self.error


def logged(session):
    rows = [dict(row) for row in session.epochs]
    return [{name: row[name] for name in row if name != "timestamp"} for row in rows]


def only(model):
    (session,) = model.sessions()
    return session


def test_params_are_the_parameters_that_differ_from_the_defaults(memory):
    net = classifier(CasketCallback(memory, {"seed": 0}), optimizer__momentum=0.9)
    net.fit(X, y)
    session = only(memory)
    assert session.params.pop("module").startswith("Sequential")
    assert session.params == {"lr": 0.1, "max_epochs": 4, "optimizer__momentum": 0.9, "seed": 0}
    assert session.meta["net"]["optimizer"] == "torch.optim.sgd.SGD"
    assert session.meta["net"]["batch_size"] == 128


def test_ctrl_c_which_skorch_hides_reads_failed(memory):
    net = classifier(CasketCallback(memory), Raises("on_epoch_end", KeyboardInterrupt()))
    net.fit(X, y)
    session = only(memory)
    assert (session.status, session.error) == ("failed", "KeyboardInterrupt")
    assert logged(session) == rows_of(net.history)


@pytest.mark.parametrize("event", ["on_train_begin", "initialize"])
def test_a_fit_that_fails_before_its_first_epoch_is_a_failed_session(memory, event):
    net = classifier(CasketCallback(memory))
    if event == "initialize":
        net.set_params(optimizer__no_such_thing=1)
    else:
        net.set_params(callbacks=[Raises(event, ValueError("no")), CasketCallback(memory)])
    with pytest.raises((TypeError, ValueError)):
        net.fit(X, y)
    assert only(memory).status == "failed"
    assert only(memory).params["max_epochs"] == 4


def test_a_partial_fit_goes_on_in_its_session_and_a_fit_does_not(memory):
    net = classifier(CasketCallback(memory))
    net.partial_fit(X, y)
    net.partial_fit(X, y)
    assert logged(only(memory)) == rows_of(net.history)
    assert [row["epoch_num"] for row in only(memory).epochs] == list(range(1, 9))
    net.fit(X, y)
    assert [session.meta.get("repeat") for session in memory.sessions()] == [None, 1]
    with pytest.raises(casket.ExistingParamsException):
        classifier(CasketCallback(memory, ensure_unique=True)).fit(X, y)


def test_each_fit_of_a_grid_search_is_a_session(memory):
    net = classifier(CasketCallback(memory))
    grid = {"lr": [0.1, 0.2], "max_epochs": [1]}
    search = GridSearchCV(net, grid, cv=2, refit=False).fit(X, y)
    assert len(search.cv_results_["params"]) == 2
    sessions = memory.sessions()
    assert sorted(session.params["lr"] for session in sessions) == [0.1, 0.1, 0.2, 0.2]
    assert {session.status for session in sessions} == {"completed"}
    assert {len(session.epochs) for session in sessions} == {1}


@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
def test_a_net_is_cloned_and_pickled_with_the_callback(tmp_path, monkeypatch):
    # skorch 1.1 unpickles modules by a default of torch that has changed since.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    callback = CasketCallback(model)
    net = clone(classifier(callback))
    (copied,) = net.callbacks
    assert copied is not callback
    assert "callbacks__CasketCallback" in net.initialize().get_params()
    pickle.loads(pickle.dumps(net)).fit(X, y)
    assert len(only(model).epochs) == 4
