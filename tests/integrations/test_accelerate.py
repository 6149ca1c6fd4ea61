"""`CasketTracker` of Accelerate, and Lightning's logger in Fabric: loops of the user's own."""

import pytest

import casket

pytest.importorskip("accelerate")
torch = pytest.importorskip("torch")

from accelerate import Accelerator  # noqa: E402

from casket_integrations.accelerate import CasketTracker  # noqa: E402

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def test_logs_without_steps_are_numbered_and_epochs_get_the_latest_values(memory):
    accelerator = Accelerator(log_with=CasketTracker(memory), cpu=True)
    accelerator.init_trackers("digits")
    for epoch in range(2):
        for loss in (3.0, 2.0):
            accelerator.log({"loss": loss, "epoch": epoch})
        accelerator.log({"acc": torch.tensor(0.5)})
    session = memory.sessions()[0]
    assert session.status == "running"
    accelerator.end_training()
    session = memory.sessions()[0]
    assert [row["batch_num"] for row in session.batches] == list(range(6))
    epochs = [(row["epoch_num"], row["loss"]) for row in session.epochs]
    assert epochs == [(0, 2.0), (1, 2.0)]
    assert [row.get("acc") for row in session.batches] == [None, None, 0.5, None, None, 0.5]
    assert session.status == "completed"


def test_the_tracker_gives_the_session(memory):
    tracker = CasketTracker(memory, {"seed": 1})
    accelerator = Accelerator(log_with=tracker, cpu=True)
    accelerator.init_trackers("digits", config={"lr": 0.1, "seed": 2})
    session = accelerator.get_tracker("casket").tracker
    session.add_artifact("note.txt", b"text")
    accelerator.end_training()
    assert tracker.tracker is None
    (view,) = memory.sessions()
    assert view.params == {"lr": 0.1, "seed": 1}
    assert list(view.artifacts) == ["note.txt"]


def test_known_params_are_refused_if_asked_for(memory):
    for _ in range(2):
        accelerator = Accelerator(log_with=CasketTracker(memory), cpu=True)
        accelerator.init_trackers("digits", config={"lr": 0.1})
        accelerator.end_training()
    assert [session.meta.get("repeat") for session in memory.sessions()] == [None, 1]
    accelerator = Accelerator(log_with=CasketTracker(memory, ensure_unique=True), cpu=True)
    with pytest.raises(casket.ExistingParamsException):
        accelerator.init_trackers("digits", config={"lr": 0.1})


SCRIPT = """
import sys
from accelerate import Accelerator
from casket_integrations.accelerate import CasketTracker

accelerator = Accelerator(log_with=CasketTracker("runs.json", exp_id="e"), cpu=True)
accelerator.init_trackers("digits", config={"lr": 0.1})
if "log" in sys.argv:
    accelerator.log({"loss": 1.0})
if "fail" in sys.argv:
    raise ValueError("no")
"""


@pytest.mark.parametrize(
    ("arguments", "status"), [(["log"], "completed"), ([], "completed"), (["fail"], "failed")]
)
def test_a_script_without_end_training_reads_as_it_ended(fork_server, tmp_path, arguments, status):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    fork_server.load("accelerate")
    fork_server.run(script, *arguments, expecting=int(status == "failed"))
    with casket.open(tmp_path / "runs.json") as runs:
        (session,) = runs.sessions()
        assert (session.status, session.params) == (status, {"lr": 0.1})


def test_fabric_logs_to_lightnings_logger(memory):
    fabric_module = pytest.importorskip("lightning.fabric")
    from casket_integrations.lightning import CasketLogger

    logger = CasketLogger(memory, {"lr": 0.1})
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1, loggers=logger)
    fabric.launch()
    torch.manual_seed(0)
    net = torch.nn.Linear(2, 1)
    net, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), 0.1))
    losses = []
    for step in range(4):
        loss = net(torch.ones(1, 2)).square().mean()
        fabric.backward(loss)
        optimizer.step()
        losses.append(loss.item())
        fabric.log_dict({"loss": loss, "epoch": step // 2}, step=step)
    logger.finalize("success")
    (session,) = memory.sessions()
    assert [row["loss"] for row in session.batches] == pytest.approx(losses)
    assert [row["batch_num"] for row in session.batches] == [0, 1, 2, 3]
    assert [row["epoch_num"] for row in session.epochs] == [0, 1]
    assert (session.status, session.params) == ("completed", {"lr": 0.1})
