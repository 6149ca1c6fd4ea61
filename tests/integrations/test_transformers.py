"""`CasketCallback` in real trainings by the Trainer of transformers."""

import math

import pytest

import casket

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from transformers import BertConfig, BertForSequenceClassification, TrainerCallback  # noqa: E402
from transformers.trainer_utils import get_last_checkpoint  # noqa: E402

from casket_integrations.transformers import CasketCallback  # noqa: E402

pytestmark = [
    pytest.mark.frameworks,
    # Those of transformers and torch.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*pin_memory", "ignore:.*lr_scheduler.step"),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, i):
        return {"input_ids": torch.tensor([i % 8, (i + 1) % 8]), "labels": i % 2}


def network():
    config = BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=4,
    )  # fmt: skip
    return BertForSequenceClassification(config)


@pytest.fixture
def trainer_of(tmp_path):
    """Make a Trainer of a tiny network."""

    def trainer_of(*callbacks, **options):
        options = {
            "output_dir": str(tmp_path / "out"), "num_train_epochs": 2, "logging_steps": 3,
            "per_device_train_batch_size": 8, "eval_strategy": "epoch", "save_strategy": "no",
            "report_to": "none", "disable_tqdm": True, "use_cpu": True, **options,
        }  # fmt: skip
        arguments = transformers.TrainingArguments(**options)
        data = {"train_dataset": Data(), "eval_dataset": Data()}
        return transformers.Trainer(network(), arguments, callbacks=list(callbacks), **data)

    return trainer_of


def only(model):
    (session,) = model.sessions()
    return session


def check_records(session, history):
    """Compare batches and epochs with the history of the Trainer, value by value."""
    rows = [{k: v for k, v in row.items() if k != "timestamp"} for row in session.batches]
    latest = {}
    for row, logged in zip(rows, history, strict=True):
        logged = dict(logged)
        assert row.pop("batch_num") == logged.pop("step")
        epoch = math.ceil(logged.pop("epoch"))
        assert row.pop("epoch") == epoch
        assert row == logged
        latest.setdefault(epoch, {}).update(logged)
    epochs = {row["epoch_num"]: row for row in session.epochs.latest}
    assert list(epochs) == list(latest)
    for number, values in latest.items():
        assert values.items() <= epochs[number].items()


class Raises(TrainerCallback):
    def __init__(self, event, error):
        self.error = error
        setattr(self, event, self.fail)

    def fail(self, args, state, control, **_):
        if state.global_step in (0, 6):
            raise self.error


def test_what_is_stored_equals_the_history_value_by_value(model, trainer_of):
    trainer = trainer_of(CasketCallback(model, {"seed of data": 1}), learning_rate=0.1)
    trainer.train()
    session = only(model)
    check_records(session, trainer.state.log_history)
    assert session.status == "completed"
    assert {"eval_loss", "loss", "learning_rate", "train_runtime"} <= session.last.keys()
    params = session.params
    assert {
        "learning_rate": 0.1,
        "num_train_epochs": 2,
        "seed of data": 1,
    }.items() <= params.items()
    assert params.keys().isdisjoint(
        {"output_dir", "report_to", "warmup_steps", "activation_checkpointing"}
    )
    assert session.meta["training_arguments"]["weight_decay"] == 0
    assert session.meta["transformers_model"]["hidden_size"] == 8


def test_an_evaluate_after_train_is_a_result(memory, trainer_of):
    trainer = trainer_of(CasketCallback(memory), num_train_epochs=1)
    trainer.train()
    before = len(only(memory).batches)
    metrics = trainer.evaluate()
    assert only(memory).results("evaluate") == [metrics]
    assert len(only(memory).batches) == before
    assert only(memory).status == "completed"


def test_each_train_is_a_session_and_known_params_are_refused_if_asked_for(model, trainer_of):
    trainer = trainer_of(CasketCallback(model), num_train_epochs=1)
    trainer.train()
    trainer.train()
    assert [session.meta.get("repeat") for session in model.sessions()] == [None, 1]
    assert [len(session.epochs) for session in model.sessions()] == [1, 1]
    with pytest.raises(casket.ExistingParamsException):
        trainer_of(CasketCallback(model, ensure_unique=True), num_train_epochs=1).train()
    assert [session.status for session in model.sessions()] == ["completed"] * 2


def test_a_train_from_a_checkpoint_continues_the_session(memory, trainer_of, tmp_path):
    options = {"save_strategy": "epoch"}
    raises = Raises("on_step_end", ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        trainer_of(CasketCallback(memory, ensure_unique=True), raises, **options).train()
    assert only(memory).status == "failed"
    logged = len(only(memory).batches)
    trainer = trainer_of(CasketCallback(memory, ensure_unique=True), **options)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(tmp_path / "out"))
    session = only(memory)
    assert session.status == "completed"
    assert [row["epoch_num"] for row in session.epochs.latest] == [1, 2]
    steps = [row["batch_num"] for row in session.batches[logged:]]
    assert steps == [entry["step"] for entry in trainer.state.log_history if entry["step"] > 4]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("event", ["on_train_begin", "on_step_end"])
def test_a_train_left_by_an_exception_reads_failed_while_it_is_held(
    event, error, memory, trainer_of
):
    with pytest.raises(type(error)) as held:
        trainer_of(CasketCallback(memory), Raises(event, error)).train()
    session = only(memory)
    assert session.status == "failed"
    assert session.error.startswith(type(error).__name__)
    assert session.params["num_train_epochs"] == 2
    assert bool(session.batches) is (event == "on_step_end")
    assert held.tb is not None


def test_a_train_that_fails_before_its_callbacks_know_is_a_failed_session(memory, trainer_of):
    trainer = trainer_of(CasketCallback(memory))
    trainer.train_dataset = None
    with pytest.raises(ValueError, match="train_dataset"):
        trainer.train()
    assert only(memory).status == "failed"


def test_each_trial_of_a_hyperparameter_search_is_a_session(memory, trainer_of):
    optuna = pytest.importorskip("optuna")
    optuna.logging.disable_default_handler()
    trainer = trainer_of(CasketCallback(memory), num_train_epochs=1)
    trainer.model_init = network
    best = trainer.hyperparameter_search(
        lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1)},
        lambda metrics: metrics["eval_loss"],
        n_trials=2,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    sessions = memory.sessions()
    rates = {session.params["learning_rate"]: session.last["eval_loss"] for session in sessions}
    assert len(rates) == len(sessions) == 2
    assert rates[best.hyperparameters["learning_rate"]] == best.objective == min(rates.values())
    assert {session.status for session in sessions} == {"completed"}


def test_another_process_than_the_main_one_logs_nothing(memory, trainer_of):
    trainer = trainer_of(CasketCallback(memory), num_train_epochs=1)
    trainer.state.is_world_process_zero = False
    callback = trainer.pop_callback(CasketCallback)
    callback.on_train_begin(trainer.args, trainer.state, transformers.TrainerControl())
    callback.on_log(trainer.args, trainer.state, transformers.TrainerControl(), {"loss": 1.0})
    assert memory.sessions() == []


def test_a_failing_store_stops_no_training(memory, trainer_of, monkeypatch, one_warning):
    def fails(*_, **__):
        raise casket.StoreFull("runs.json", "make room", 28)

    monkeypatch.setattr(casket.Model, "session", fails)
    with one_warning("make room"):
        trainer_of(CasketCallback(memory), num_train_epochs=1).train()
