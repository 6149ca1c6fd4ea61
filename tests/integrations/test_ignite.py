"""`CasketLogger` of Ignite in small real trainings."""

import pytest

import casket

ignite = pytest.importorskip("ignite")
torch = pytest.importorskip("torch")

from ignite.engine import Engine, Events  # noqa: E402
from ignite.handlers import global_step_from_engine  # noqa: E402

from casket_integrations.ignite import CasketLogger, OutputHandler  # noqa: E402
from tests.integrations.scenarios.ignite import trainer_of  # noqa: E402

pytestmark = pytest.mark.frameworks

DATA = torch.rand(4, 4, 2)


def only(model):
    (session,) = model.sessions()
    return session


def test_iterations_epochs_an_evaluator_and_an_optimizer_are_logged(memory):
    trainer, optimizer = trainer_of()
    evaluator = Engine(lambda engine, batch: batch.mean().item())
    outputs = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(every=2), lambda engine: outputs.append(engine.state.output)
    )
    with CasketLogger(memory, {"lr": 0.1}) as logger:
        logger.attach_output_handler(
            trainer, Events.ITERATION_COMPLETED(every=2), tag="train",
            output_transform=lambda loss: {"loss": loss},
        )  # fmt: skip
        logger.attach_opt_params_handler(trainer, Events.ITERATION_STARTED(once=1), optimizer)
        logger.attach(
            evaluator,
            OutputHandler(
                "valid",
                output_transform=lambda mean: {"mean": mean},
                global_step_transform=global_step_from_engine(trainer),
            ),
            Events.EPOCH_COMPLETED,
        )
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run(DATA))
        trainer.run(DATA, max_epochs=2)
    session = only(memory)
    first, *rows = session.batches
    assert (first["batch_num"], first["lr/group_0"]) == (1, 0.1)
    assert [row["train/loss"] for row in rows] == outputs
    assert [(row["batch_num"], row["epoch"]) for row in rows] == [(2, 1), (4, 1), (6, 2), (8, 2)]
    mean = DATA[-1].mean().item()
    assert [(row["epoch_num"], row["valid/mean"]) for row in session.epochs] == [
        (1, mean),
        (2, mean),
    ]
    assert (session.status, session.params) == ("completed", {"lr": 0.1})


def test_a_logger_that_goes_on_keeps_its_session_until_it_is_closed(memory):
    logger = CasketLogger(memory)
    for epochs in (1, 2):
        trainer, _ = trainer_of()
        logger.attach_output_handler(trainer, Events.EPOCH_COMPLETED, "train", metric_names="all")
        trainer.run(DATA, max_epochs=epochs)
    assert [row["epoch_num"] for row in only(memory).epochs] == [1, 1, 2]
    logger.close()
    logger.close()
    trainer.run(DATA, max_epochs=3)
    assert [session.status for session in memory.sessions()] == ["completed", "running"]
    logger.close()


def test_a_handler_that_hides_an_exception_completes_the_training(memory):
    trainer, _ = trainer_of()
    with CasketLogger(memory) as logger:
        logger.attach_output_handler(trainer, Events.EPOCH_COMPLETED, "train", metric_names="all")
        trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: None)
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda _: 1 / 0)
        trainer.run(DATA, max_epochs=3)
    assert only(memory).status == "completed"


def test_known_params_are_refused_before_the_first_iteration(memory):
    memory.add_result({"loss": 1.0}, {"lr": 0.1})
    trainer, _ = trainer_of()
    logger = CasketLogger(memory, {"lr": 0.1}, ensure_unique=True)
    logger.attach_output_handler(trainer, Events.EPOCH_COMPLETED, "train", metric_names="all")
    with pytest.raises(casket.ExistingParamsException):
        trainer.run(DATA, max_epochs=1)
    assert trainer.state.iteration == 0
    assert only(memory).status == "completed"
