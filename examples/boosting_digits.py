"""XGBoost and LightGBM on scikit-learn's handwritten digits, each training logged by a callback.

Each round is written as it ends; early stopping adds its best round as a result.

Usage: python boosting_digits.py [FILE]
"""

import sys

import lightgbm
import xgboost
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from casket import Experiment as E
from casket_integrations.lightgbm import casket_callback
from casket_integrations.xgboost import CasketCallback

exp = E.use(sys.argv[1] if len(sys.argv) > 1 else "runs.json", exp_id="digits")
X, y = load_digits(return_X_y=True)
X_train, X_valid, y_train, y_valid = train_test_split(X, y, random_state=0)

train, valid = xgboost.DMatrix(X_train, y_train), xgboost.DMatrix(X_valid, y_valid)
xgboost.train(
    {"objective": "multi:softmax", "num_class": 10, "max_depth": 3, "eta": 0.5, "nthread": 1},
    train,
    num_boost_round=20,
    evals=[(train, "train"), (valid, "valid")],
    early_stopping_rounds=3,
    verbose_eval=False,
    callbacks=[CasketCallback(exp.model("XGBoost"))],
)

dataset = lightgbm.Dataset(X_train, y_train)
lightgbm.train(
    {
        "objective": "multiclass",
        "num_class": 10,
        "num_leaves": 8,
        "num_threads": 1,
        "verbosity": -1,
    },
    dataset,
    num_boost_round=20,
    valid_sets=[lightgbm.Dataset(X_valid, y_valid, reference=dataset)],
    valid_names=["valid"],
    callbacks=[
        casket_callback(exp.model("LightGBM")),
        lightgbm.early_stopping(3, verbose=False),
    ],
)

for session in exp.sessions():
    metric = next(name for name in session.last if name.startswith("valid"))
    print(f"{session.model}: {session.status}, best {metric} {session.best(metric):.4f}")
