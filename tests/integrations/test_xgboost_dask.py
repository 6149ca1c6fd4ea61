"""`CasketCallback` of XGBoost in a training that Dask distributes: the first worker logs."""

import pytest

import casket
from casket import Experiment

pytest.importorskip("xgboost")
distributed = pytest.importorskip("distributed")
datasets = pytest.importorskip("sklearn.datasets")

import dask.array  # noqa: E402
from xgboost import dask as dxgb  # noqa: E402

from casket_integrations.xgboost import CasketCallback  # noqa: E402

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore"),  # of Dask, about its own event loop
]


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        client.wait_for_workers(2)
        yield client


def train(client, callback, labels=None, **params):
    X, y = datasets.load_breast_cancer(return_X_y=True)
    arrays = [dask.array.from_array(each, chunks=(300, *each.shape[1:])) for each in (X, y)]
    data = dxgb.DaskDMatrix(client, *arrays)
    options = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1, **params}
    return dxgb.train(
        client, options, data, num_boost_round=4, evals=[(data, "train")], callbacks=[callback]
    )


def test_a_training_on_two_workers_is_one_session(client, tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="cancer").model("trees")
    history = train(client, CasketCallback(model, {"mine": 1}))["history"]
    with casket.open(tmp_path / "runs.json") as runs:
        (session,) = runs.sessions()
    assert session.status == "completed"
    assert [each["train-logloss"] for each in session.epochs] == history["train"]["logloss"]
    assert [each["epoch_num"] for each in session.epochs] == [0, 1, 2, 3]
    expected = {"mine": 1, "max_depth": 2, "num_boost_round": 4}
    assert expected.items() <= session.params.items()


class Failing(CasketCallback):
    def after_iteration(self, model, epoch, evals_log):
        super().after_iteration(model, epoch, evals_log)
        if epoch == 1:
            raise ValueError("no more")
        return False


def test_a_training_whose_workers_raise_has_failed(client, tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="cancer").model("trees")
    with pytest.raises(Exception, match="no more"):
        train(client, Failing(model))
    with casket.open(tmp_path / "runs.json") as runs:
        (session,) = runs.sessions()
    assert (session.status, len(session.epochs)) == ("failed", 2)
