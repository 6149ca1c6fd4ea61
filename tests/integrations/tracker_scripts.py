"""Scripts as people write them for W&B and MLflow, after the documentation of both.

`test_wandb.py` and `test_mlflow.py` run them with the one import changed, and
`tests/conformance/test_trackers.py` with the originals, too, and compare what is stored.
"""

WANDB = {
    "quickstart": """
import wandb

run = wandb.init(
    project="digits", name="warm start", config={"lr": 0.1, "opt": {"name": "adam"}},
    tags=["svm", "first"], notes="a note", group="seeds",
)
for epoch in range(3):
    wandb.log({"loss": 1 / (epoch + 1), "acc": 0.5 + epoch / 10})
run.summary["test_acc"] = 0.93
run.finish()
""",
    "several calls a step": """
import wandb

with wandb.init(project="digits") as run:
    for i in range(3):
        run.log({"loss": float(i)}, commit=False)
        run.log({"acc": i / 10}, commit=False)
        run.log({"lr": 0.1})
""",
    "explicit steps": """
import wandb

with wandb.init(project="digits") as run:
    for step in range(0, 300, 100):
        wandb.log({"train/loss": 1 / (step + 1)}, step=step)
        wandb.log({"val/loss": 2 / (step + 1)}, step=step)
    wandb.log({"end": 1})
    wandb.log({"after": 2})
""",
    "nested values": """
import wandb

with wandb.init(project="digits") as run:
    for i in range(2):
        run.log({"train": {"loss": i, "acc": {"top1": i / 2}}, "epoch": i})
""",
    "a config that changes": """
import argparse
import wandb

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
args = parser.parse_args([])
run = wandb.init(project="digits", config=args)
wandb.config.batch_size = 32
wandb.config.update({"epochs": 4, "lr": 0.01}, allow_val_change=True)
run.config["layers"] = [8, 4]
wandb.config.setdefaults({"lr": 1.0, "seed": 0})
assert wandb.config.lr == wandb.config["lr"] == run.config.get("lr") == 0.01
assert "seed" in wandb.config and dict(run.config)["epochs"] == 4
assert getattr(wandb.config, "missing", None) is None
wandb.log({"loss": 1.5})
wandb.finish()
assert wandb.run is None
""",
    "excluded keys": """
import wandb

config = {"lr": 0.1, "secret_path": "x", "seed": 3}
with wandb.init(project="digits", config=config, config_exclude_keys=["secret_path"]) as run:
    run.log({"loss": 1})
""",
    "summaries of metrics": """
import wandb

with wandb.init(project="digits") as run:
    run.define_metric("epoch")
    run.define_metric("val/*", step_metric="epoch")
    run.define_metric("acc", summary="max")
    run.define_metric("loss", summary="min,mean")
    for i, acc in enumerate([0.5, 0.9, 0.7]):
        run.log({"acc": acc, "loss": 3.0 - i, "val/loss": i, "epoch": i * 10})
    run.summary.update({"best": 0.9, "text": "fine"})
    assert run.summary["val/loss"] == 2
""",
    "a failed run": """
import wandb

try:
    with wandb.init(project="digits") as run:
        run.log({"loss": 1})
        raise ValueError("diverged")
except ValueError:
    pass
""",
    "an exit code": """
import wandb

wandb.init(project="digits")
wandb.log({"loss": 1})
wandb.finish(exit_code=3)
""",
    "runs in a loop": """
import wandb

for seed in range(2):
    run = wandb.init(project="digits", config={"seed": seed}, reinit="finish_previous")
    run.log({"loss": seed})
run.finish()
""",
    "saved files": """
import os
import wandb

with wandb.init(project="digits") as run:
    os.makedirs("out", exist_ok=True)
    with open("out/weights.txt", "w") as file:
        file.write("first")
    wandb.save("out/*.txt")
    with open(os.path.join(wandb.run.dir, "model.h5"), "w") as file:
        file.write("model")
    run.log({"loss": 1})
    run.name = "renamed"
    run.tags += ("late",)
""",
    "odd values": """
import math
import numpy as np
import wandb

with wandb.init(project="digits", config={"width": np.int64(4)}) as run:
    run.log({"loss": np.float32(0.5), "n": np.int64(3), "nan": math.nan, "inf": math.inf})
    run.log({"text": "a", "flag": True, "list": [1, 2]})
""",
}

MLFLOW = {
    "quickstart": """
import mlflow

mlflow.set_experiment("digits")
with mlflow.start_run(run_name="first") as run:
    mlflow.log_params({"lr": 0.1, "epochs": 3, "kernel": "rbf"})
    mlflow.log_param("shuffle", True)
    for epoch in range(3):
        mlflow.log_metric("loss", 1 / (epoch + 1), step=epoch)
    mlflow.log_metric("test_acc", 0.93)
    mlflow.set_tag("stage", "baseline")
assert run.info.run_name == "first"
""",
    "several metrics a step": """
import mlflow

mlflow.set_experiment("digits")
with mlflow.start_run(run_name="steps"):
    for step in range(0, 30, 10):
        mlflow.log_metrics({"train/loss": 1.0 + step, "train/acc": 0.5}, step=step)
        mlflow.log_metric("val/loss", 2.0 + step, step=step)
""",
    "without steps": """
import mlflow

mlflow.set_experiment("digits")
with mlflow.start_run(run_name="no steps"):
    for loss in (3.0, 2.0, 1.0):
        mlflow.log_metric("loss", loss)
    mlflow.log_metrics({"rmse": 0.5, "r2": 0.9})
""",
    "without a run": """
import mlflow

mlflow.set_experiment("digits")
mlflow.log_param("lr", 0.1)
mlflow.set_tag("mlflow.runName", "implicit")
mlflow.log_metric("loss", 2.5, step=1)
assert mlflow.active_run().info.run_id == mlflow.last_active_run().info.run_id
mlflow.end_run()
assert mlflow.active_run() is None
""",
    "nested runs": """
import mlflow

mlflow.set_experiment("digits")
with mlflow.start_run(run_name="parent"):
    for depth in (2, 4):
        with mlflow.start_run(run_name=f"child {depth}", nested=True):
            mlflow.log_metric("acc", depth / 10, step=1)
    mlflow.log_metric("best", 0.4)
""",
    "a run that is continued": """
import mlflow

mlflow.set_experiment("digits")
with mlflow.start_run(run_name="continued") as run:
    mlflow.log_param("lr", 0.5)
    mlflow.log_metric("loss", 2.0, step=1)
with mlflow.start_run(run_id=run.info.run_id):
    mlflow.log_metric("loss", 1.0, step=2)
""",
    "artifacts": """
import os
import mlflow

mlflow.set_experiment("digits")
with mlflow.start_run(run_name="artifacts"):
    os.makedirs("out/deep", exist_ok=True)
    for name in ("out/a.txt", "out/deep/b.txt"):
        with open(name, "w") as file:
            file.write(name)
    mlflow.log_artifact("out/a.txt")
    mlflow.log_artifact("out/a.txt", artifact_path="folder")
    mlflow.log_artifacts("out", artifact_path="all")
    mlflow.log_text("some notes", "notes/notes.txt")
    mlflow.log_dict({"classes": 10}, "about.json")
""",
    "tags and a description": """
import mlflow

mlflow.set_experiment("digits")
with mlflow.start_run(run_name="tags", tags={"team": "vision"}, description="a note"):
    mlflow.set_tags({"stage": "draft", "flag": ""})
    mlflow.set_tag("stage", "final")
    mlflow.set_tag("lost", "x")
    mlflow.delete_tag("lost")
""",
    "a failed run": """
import mlflow

mlflow.set_experiment("digits")
try:
    with mlflow.start_run(run_name="failed"):
        mlflow.log_metric("loss", 3.5, step=4)
        raise RuntimeError("diverged")
except RuntimeError:
    pass
""",
    "a killed run": """
import mlflow

mlflow.set_experiment("digits")
mlflow.start_run(run_name="killed")
mlflow.log_metric("loss", 1.0, step=7)
mlflow.end_run("KILLED")
""",
    "odd values": """
import math
import numpy as np
import mlflow

mlflow.set_experiment("digits")
with mlflow.start_run(run_name="odd"):
    mlflow.log_param("width", np.int64(4))
    mlflow.log_metric("loss", np.float64(0.25), step=1)
    mlflow.log_metric("nan", math.nan, step=1)
    mlflow.log_metric("inf", -math.inf, step=1)
""",
}


def with_casket(script: str, name: str) -> str:
    """Change the one import of a script."""
    changed = script.replace(f"import {name}\n", f"import casket_integrations.{name} as {name}\n")
    assert changed != script
    return changed


def stored(session) -> dict:
    """Return what a session holds, without what is empty, in a form that is equal if imported."""
    results: dict = {}
    for index in (None, *session.indexes):
        for each in session.results(index):
            values = {name: value for name, value in each.items() if name != "timestamp"}
            results.setdefault(index, {}).update(values)
    curves: dict = {}
    for row in session.epochs.latest:
        for name, value in row.items():
            if name not in ("epoch_num", "timestamp") and value is not None:
                curves.setdefault(name, {})[row["epoch_num"]] = value
    # Of a metric of MLflow that is logged again without a step, the last value is a result, too.
    alone = {name: each for name, each in results.pop(None, {}).items() if name not in curves}
    facts = {
        "params": session.params,
        "curves": curves,
        "results": {**alone, **results},
        "tags": sorted(session.tags),
        "note": session.note,
        "artifacts": sorted(session.artifacts),
        "is_child": session.parent is not None,
        "status": session.status,
    }
    return {name: fact for name, fact in facts.items() if fact}
