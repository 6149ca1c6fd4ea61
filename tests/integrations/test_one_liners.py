"""Each line of the table in `docs/adapters/README.md` logs a session."""

import re
import textwrap
from importlib.util import find_spec

import pytest

from casket import Experiment
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore"),  # of the frameworks, about trainings of two rows
]

TABLE = (ROOT / "docs" / "adapters" / "README.md").read_text()
LINES = dict(re.findall(r"^\| \[([\w-]+)\]\(.*\| `(.*)` \|$", TABLE, re.MULTILINE))

# What stands before the line in a script, and after it, where `value` is what the line returns.
SCRIPTS = {
    "Keras": """
        from keras import Sequential, layers
        from casket import DBCallback
        network = Sequential([layers.Input((1,)), layers.Dense(1)])
        network.compile("sgd", "mse")
        ...
    """,
    "scikit-learn": """
        from sklearn.linear_model import LogisticRegression
        from casket_integrations.sklearn import LoggedGridSearchCV
        estimator, grid = LogisticRegression(), {"C": [1, 2]}
        ...
        value.fit(X, y)
    """,
    "Lightning": """
        from lightning import Trainer
        from casket_integrations.lightning import CasketLogger
        ...
        value.logger.log_metrics({"loss": 1.0}, 0)
        value.logger.finalize("success")
    """,
    "XGBoost": """
        import xgboost
        from casket_integrations.xgboost import CasketCallback
        params, data = {"nthread": 1}, xgboost.DMatrix(x, y)
        ...
    """,
    "LightGBM": """
        import lightgbm
        from casket_integrations.lightgbm import casket_callback
        params, data = {"num_threads": 1, "verbosity": -1}, lightgbm.Dataset(x, y)
        ...
    """,
    "CatBoost": """
        from catboost import CatBoostClassifier
        from casket_integrations.catboost import CasketCallback
        trees = CatBoostClassifier(iterations=2, verbose=False, allow_writing_files=False)
        ...
    """,
    "transformers": """
        from transformers import Trainer, TrainingArguments
        from casket_integrations.transformers import CasketCallback
        from tests.integrations.scenarios.transformers import DATA as data, Net
        arguments = TrainingArguments(
            "out", max_steps=1, report_to="none", use_cpu=True, save_strategy="no",
            disable_tqdm=True,
        )
        network = Net()
        ...
        value.train()
    """,
    "Accelerate": """
        from accelerate import Accelerator
        from casket_integrations.accelerate import CasketTracker
        ...
        value.init_trackers("lines")
        value.log({"loss": 1.0})
        value.end_training()
    """,
    "Optuna": """
        import optuna
        from casket_integrations.optuna import CasketCallback
        study = optuna.create_study()
        objective = lambda trial: trial.suggest_float("x", 0, 1)
        ...
    """,
    "skorch": """
        import torch
        from skorch import NeuralNetClassifier
        from casket_integrations.skorch import CasketCallback
        network = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.Softmax(dim=-1))
        ...
        value.set_params(max_epochs=1, verbose=0).fit(x, y)
    """,
    "Ignite": """
        from ignite.engine import Engine, Events
        from casket_integrations.ignite import CasketLogger
        trainer, event = Engine(lambda *_: 0), Events.EPOCH_COMPLETED
        ...
        trainer.run([1])
    """,
    "Fabric": """
        from lightning.fabric import Fabric
        from casket_integrations.lightning import CasketLogger
        ...
        value.log("loss", 1.0)
        value.logger.finalize("success")
    """,
    "PyTorch": """
        import torch
        from casket_integrations.torch import watch
        network = torch.nn.Linear(1, 1)
        session = model.session()
        ...
        torch.optim.SGD(network.parameters()).step()
        session.end()
    """,
}
MODULES = {"scikit-learn": "sklearn", "Fabric": "lightning", "PyTorch": "torch"}
OPEN = {"Ignite"}


def test_every_line_has_a_script():
    # That of Hydra is its configuration, which tests/integrations/test_hydra.py runs. That of
    # MLflow, and of W&B, is the import of the scripts of test_mlflow.py and test_wandb.py.
    assert LINES.keys() - SCRIPTS.keys() == {"Hydra", "MLflow"}
    assert SCRIPTS.keys() <= LINES.keys()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_line_logs_a_session(name, tmp_path, monkeypatch):
    module = MODULES.get(name, name.lower())
    if find_spec(module) is None:
        pytest.skip(f"not installed: {module}")
    np = pytest.importorskip("numpy")
    monkeypatch.chdir(tmp_path)
    model = Experiment.use(":memory:").model("net")
    x = np.arange(20, dtype="float32").reshape(-1, 1)
    names = {"model": model, "x": x, "X": x, "y": np.arange(20) % 2}
    before, after = textwrap.dedent(SCRIPTS[name]).split("...\n")
    exec(before, names)
    names["value"] = eval(LINES[name], names)
    exec(after, names)
    sessions = model.sessions()
    assert sessions
    assert {each.status for each in sessions} == {"running" if name in OPEN else "completed"}
