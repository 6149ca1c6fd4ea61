"""The config of Hydra's jobs beside another log, as OmegaConf reads and resolves it."""

import pytest

from casket.imports import load
from casket.imports.hydra import resolved
from tests.imports.sources import sessions


@pytest.mark.parametrize("place", ["hydra", "hydra/job", "hydra/job/logs"])
def test_the_config_of_a_job_becomes_the_params(place, data, target, expected):
    report = load(data / place, target)
    (session,) = sessions(target)
    assert (report.source, report.problems) == ("tensorboard", [])
    assert session.params == expected["hydra"]["config"]
    assert session.meta["hydra"] == {"overrides": expected["hydra"]["overrides"], "job": "train"}
    assert session.last["loss"] == session.params["opt"]["lr"]


def test_params_of_the_log_come_first(data, target, expected):
    (data / "hydra/job/logs/hparams.yaml").write_text("seed: 4\n")
    load(data / "hydra", target)
    assert sessions(target)[0].params == {**expected["hydra"]["config"], "seed": 4}


def test_every_log_in_a_job_has_the_config(data, target, expected):
    (data / "keras" / "training.csv").rename(data / "hydra/job/training.csv")
    load(data / "hydra/job/training.csv", target)
    assert sessions(target)[0].params == expected["hydra"]["config"]


def test_a_config_that_cannot_be_read_is_reported(data, target):
    (data / "hydra/job/.hydra/config.yaml").write_text("a: [")
    report = load(data / "hydra", target)
    assert [problem.what[-18:] for problem in report.problems] == [".hydra/config.yaml"]
    assert sessions(target)[0].params == {}


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("${a.b}", 1),
        ("x-${a.b}", "x-1"),
        ("${c}", 1),
        ("${gone}", "${gone}"),
        ("x-${gone}", "x-${gone}"),
        ("${oc.env:HOME}", "${oc.env:HOME}"),
        (["${a}"], [{"b": 1}]),
        ("${loop}", "${loop}"),
    ],
)
def test_references(value, result):
    assert resolved(value, {"a": {"b": 1}, "c": "${a.b}", "loop": "${loop}"}) == result
