"""A slow, cut or silent network before a real server: nothing is lost, nothing comes twice."""

import contextlib
import random
import time

import pytest

import casket
from casket import CasketWarning, Experiment
from casket.cli.app import app
from tests.remote.test_remote import numbers, waiting
from tests.waiting import IN_TIME

CUTS = 10
EPOCHS = 60


def test_a_connection_cut_after_any_number_of_bytes_loses_nothing(far):
    url, (proxy, through) = far.url, far.proxy()
    cuts = random.Random(7)
    experiment = Experiment.use(through, exp_id="digits")
    model = experiment.model("net")
    for seed in range(CUTS):
        with model.session({"seed": seed}) as session:
            proxy.cut_after(cuts.randrange(1, 20_000))
            for epoch in range(EPOCHS):
                session.add_epoch(epoch, {"loss": 1.0})
            if seed % 4 == 0:
                proxy.cut_before_answers()
    experiment.close()
    assert waiting() == 0
    assert numbers(url) == {seed: list(range(EPOCHS)) for seed in range(CUTS)}


def test_a_network_that_falls_silent_stops_no_training(far):
    url, (proxy, through) = far.url, far.proxy()
    experiment = Experiment.use(through, exp_id="digits", flush_timeout=0.5)
    session = experiment.model("net").session({"seed": 1})
    session.add_epoch(0, {"loss": 1.0})
    proxy.fall_silent()
    begun = time.monotonic()
    for epoch in range(1, 100):
        session.add_epoch(epoch, {"loss": 1.0})
    with pytest.warns(CasketWarning, match="records wait"):
        session.end()
    experiment.close()
    assert time.monotonic() - begun < IN_TIME
    proxy.speak()
    proxy.cut()
    with pytest.raises(SystemExit) as left:
        app(["sync", through])
    assert left.value.code == 0
    assert numbers(url) == {1: list(range(100))}


def test_writing_costs_the_journal_and_not_the_network(far):
    """At 0.04 s each way, 1,000 round trips would take 80 seconds."""
    _, through = far.proxy(delay=0.04)
    experiment = Experiment.use(through, exp_id="x")
    with experiment.model("net").session({"seed": 1}) as session:
        begun = time.monotonic()
        for epoch in range(1000):
            session.add_epoch(epoch, {"loss": 1.0})
        assert time.monotonic() - begun < IN_TIME
    experiment.close()
    assert numbers(far.url) == {1: list(range(1000))}


def test_two_hosts_that_start_the_same_params_at_once(far):
    """Each has journals of its own; of twenty sessions each is won once, whoever asks first."""
    here, there = (
        Experiment.use(each, exp_id="digits").model("net") for each in (far.url, far.proxy()[1])
    )
    won = 0
    for seed in range(20):
        for model in random.Random(seed).sample((here, there), 2):
            with contextlib.suppress(casket.ExistingParamsException):
                model.session({"seed": seed}).end()
                won += 1
    assert won == 20
    for model in (here, there):
        model.experiment.close()
