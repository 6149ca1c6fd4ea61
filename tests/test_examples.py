"""Every example runs, on real data, and stores the values that it prints."""

import runpy
import sys
from pathlib import Path

import pytest

import casket

EXAMPLES = Path(__file__).parent.parent / "examples"

pytest.importorskip("sklearn")


def run(name, url, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name, str(url)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_no_example_is_left_out():
    tested = {
        "cross_validation.py",
        "svm_digits.py",
        "sklearn_grid_search.py",
        "grid_search_digits.py",
        "neural_network_digits.py",
        "lightning_digits.py",
        "keras_digits.py",
        "boosting_digits.py",
        "transformers_digits.py",
        "resume_from_checkpoint.py",
        "optuna_digits.py",
        "torch_digits.py",
    }
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_svm_logs_one_result(file_url, monkeypatch, capsys):
    run("svm_digits.py", file_url, monkeypatch)
    with casket.open(file_url) as runs:
        (session,) = runs.sessions(experiment="digits", model="SVM")
        assert session.last["accuracy"] > 0.98
        assert len(session.results()[0]["y_pred"]) == 450
        assert session.config["gamma"] == 0.001
    assert "completed" in capsys.readouterr().out


def test_cross_validation_has_a_child_for_each_fold_and_computes_none_twice(
    file_url, monkeypatch, capsys
):
    run("cross_validation.py", file_url, monkeypatch)
    with casket.open(file_url) as runs:
        sessions = runs.sessions(model="SVM folds")
        folds = {session.params["C"]: session.children for session in sessions}
        assert [len(children) for children in folds.values()] == [4] * 3
        for session in sessions:
            accuracies = [child.last["accuracy"] for child in session.children]
            assert session.last["accuracy"] == pytest.approx(sum(accuracies) / 4)
            assert min(accuracies) > 0.9
    shown = capsys.readouterr().out
    assert "folds of the best: [" in shown
    run("cross_validation.py", file_url, monkeypatch)
    assert capsys.readouterr().out == shown
    with casket.open(file_url) as runs:
        assert len(runs.sessions(children=True)) == 15


def test_a_training_continues_from_its_checkpoint(file_url, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["resume_from_checkpoint.py", file_url, "6"])
    with pytest.raises(RuntimeError):
        runpy.run_path(str(EXAMPLES / "resume_from_checkpoint.py"), run_name="__main__")
    run("resume_from_checkpoint.py", file_url, monkeypatch)
    assert "continuing after epoch 5" in capsys.readouterr().out
    with casket.open(file_url) as runs:
        (session,) = runs.sessions()
    assert [epoch["epoch_num"] for epoch in session.epochs] == list(range(1, 13))
    assert (session.status, len(session.meta["starts"])) == ("completed", 1)
    losses = [epoch["loss"] for epoch in session.epochs]
    assert max(losses[5:]) < losses[4]  # the network was not trained anew


def test_grid_search_logs_every_candidate_and_runs_once(file_url, monkeypatch, capsys):
    run("grid_search_digits.py", file_url, monkeypatch)
    with casket.open(file_url) as runs:
        (session,) = runs.sessions(experiment="digits-grid")
        assert session.indexes == ["precision", "recall"]
        for score in session.indexes:
            best, *candidates, test = session.results(index_by=score)
            assert len(candidates) == 12
            top = max(candidates, key=lambda row: row["dev_scores"]["mean"])
            assert top["grid_search_params"] == best["best_params"]
            assert len(test["test_scores"]["recall"]) == 10
    assert "on the test set" in capsys.readouterr().out

    run("grid_search_digits.py", file_url, monkeypatch)
    assert "not run again" in capsys.readouterr().out
    with casket.open(file_url) as runs:
        assert len(runs.sessions()) == 1


def test_a_logged_grid_search_computes_no_fold_again(file_url, monkeypatch, capsys):
    run("sklearn_grid_search.py", file_url, monkeypatch)
    with casket.open(file_url) as runs:
        (session,) = runs.sessions(experiment="digits", model="SVM search")
        assert session.params["estimator"]["class"] == "SVC"
        assert session.indexes == ["precision_macro", "recall_macro"]
        for scorer in session.indexes:
            *candidates, best = session.results(index_by=scorer)
            assert len(candidates) == 12
            assert best["best_score"] == max(row["dev_scores"]["mean"] for row in candidates)
        folds = len(session.batches)
        assert folds == 12 * 5
    assert "on the test set 0.99" in capsys.readouterr().out

    run("sklearn_grid_search.py", file_url, monkeypatch)
    with casket.open(file_url) as runs:
        (session,) = runs.sessions()
        assert len(session.batches) == folds


def test_neural_network_logs_batches_epochs_and_early_results(file_url, monkeypatch, capsys):
    run("neural_network_digits.py", file_url, monkeypatch)
    with casket.open(file_url) as runs:
        (session,) = runs.sessions(model="neural network")
        assert [row["epoch_num"] for row in session.epochs] == list(range(1, 13))
        assert session.batches[-1]["batch_num"] % 10 == 0
        assert session.results("best so far")[-1]["val_acc"] == session.best("val_acc", mode="max")
        assert session.last["test_acc"] > 0.9
        assert session.artifacts["network.joblib"].load().n_outputs_ == 10
    assert "best val_loss" in capsys.readouterr().out


# Lightning's own.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.frameworks
def test_lightning_logs_epochs_a_test_and_the_best_weights_and_runs_once(
    tmp_path, monkeypatch, capsys
):
    pytest.importorskip("lightning")
    file_url = tmp_path / "runs.json"
    run("lightning_digits.py", file_url, monkeypatch)
    with casket.open(file_url) as runs:
        (session,) = runs.sessions(experiment="digits", model="Lightning network")
        assert session.params == {"hidden": 64, "lr": 0.005}
        assert [row["epoch_num"] for row in session.epochs] == list(range(8))
        assert session.results("test")[0]["test_acc"] == session.last["test_acc"] > 0.9
        assert "best.ckpt" in session.artifacts
    assert "test accuracy" in capsys.readouterr().out

    run("lightning_digits.py", file_url, monkeypatch)
    assert "not run again" in capsys.readouterr().out
    with casket.open(file_url) as runs:
        assert len(runs.sessions()) == 1


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_keras_logs_epochs_and_the_test_score_and_runs_once(file_url, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip("keras")
    run("keras_digits.py", file_url, monkeypatch)
    with casket.open(file_url) as runs:
        (session,) = runs.sessions(model="keras network")
        assert session.status == "completed"
        assert [row["epoch_num"] for row in session.epochs] == list(range(1, 13))
        assert session.results("evaluate")[0]["accuracy"] > 0.9
        assert session.meta["keras_model"]["class_name"] == "Sequential"
    assert "best val_loss" in capsys.readouterr().out

    run("keras_digits.py", file_url, monkeypatch)
    assert "not run again" in capsys.readouterr().out
    with casket.open(file_url) as runs:
        assert len(runs.sessions()) == 1


@pytest.mark.frameworks
def test_xgboost_and_lightgbm_log_a_session_each(tmp_path, monkeypatch, capsys):
    pytest.importorskip("xgboost")
    pytest.importorskip("lightgbm")
    run("boosting_digits.py", tmp_path / "runs.json", monkeypatch)
    with casket.open(tmp_path / "runs.json") as runs:
        sessions = runs.sessions()
        assert [(s.model, s.status) for s in sessions] == [
            ("XGBoost", "completed"),
            ("LightGBM", "completed"),
        ]
        assert sessions[0].best("valid-mlogloss", mode="min") < 0.5
        assert sessions[1].best("valid-multi_logloss", mode="min") < 0.5
    assert capsys.readouterr().out.count("best valid") == 2


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:.*pin_memory", "ignore:.*lr_scheduler.step")
def test_transformers_logs_batches_and_epochs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    run("transformers_digits.py", tmp_path / "runs.json", monkeypatch)
    with casket.open(tmp_path / "runs.json") as runs:
        (session,) = runs.sessions(model="BERT")
        assert session.status == "completed"
        assert [row["epoch_num"] for row in session.epochs] == [1, 2]
        assert session.params["learning_rate"] == 0.01
    assert "completed, eval_loss by epoch" in capsys.readouterr().out


def test_each_trial_of_optuna_is_a_session(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    run("optuna_digits.py", tmp_path / "runs.json", monkeypatch)
    with casket.open(tmp_path / "runs.json") as runs:
        sessions = runs.sessions(model="SGD")
        pruned = [session for session in sessions if session.meta.get("pruned")]
    assert len(sessions) == 10
    assert 0 < len(pruned) < 10
    assert {session.status for session in sessions} == {"completed"}
    assert capsys.readouterr().out.count("pruned") == len(pruned)


def test_loops_of_pytorch_log_the_same_kind_of_session(tmp_path, monkeypatch, capsys):
    for name in ("accelerate", "ignite", "skorch"):
        pytest.importorskip(name)
    run("torch_digits.py", tmp_path / "runs.json", monkeypatch)
    with casket.open(tmp_path / "runs.json") as runs:
        sessions = {session.model: session for session in runs.sessions()}
    assert list(sessions) == ["PyTorch", "Accelerate", "Ignite", "skorch"]
    assert {session.status for session in sessions.values()} == {"completed"}
    assert {len(session.epochs) for session in sessions.values()} == {5}
    assert "grad_norm" in sessions["PyTorch"].last
    assert capsys.readouterr().out.count("completed, 5 epochs") == 4
