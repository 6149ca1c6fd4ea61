"""Which way a metric is better, and intervals over several sessions."""

import math

import pytest

from casket.reading.metrics import better
from casket.statistics.intervals import interval


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("loss", "min"), ("val_loss", "min"), ("test.loss", "min"), ("train/loss", "min"),
        ("mse", "min"), ("val_rmse", "min"), ("root_mean_squared_error", "min"), ("WER", "min"),
        ("acc", "max"), ("val_acc", "max"), ("sparse_categorical_accuracy", "max"),
        ("f1", "max"), ("test.f1", "max"), ("best_score", "max"), ("mean_reward", "max"),
        ("learning_rate", None), ("units", None), ("x", None), ("lossless", None),
    ],
)  # fmt: skip
def test_the_name_tells_which_way_is_better(name, mode):
    assert better(name) == mode


@pytest.mark.parametrize("n", [2, 3, 4, 5, 10, 30, 200])
def test_the_interval_is_students(n):
    stats = pytest.importorskip("scipy.stats")
    sample = [math.sin(i) for i in range(n)]
    estimate = interval(sample)
    low, high = stats.t.interval(0.95, n - 1, loc=estimate.mean, scale=stats.sem(sample))
    assert estimate.n == n
    assert estimate.mean == pytest.approx(sum(sample) / n)
    assert estimate.mean - estimate.margin == pytest.approx(low, rel=3e-3, abs=3e-3)
    assert estimate.mean + estimate.margin == pytest.approx(high, rel=3e-3, abs=3e-3)
    assert estimate.margin == pytest.approx((high - low) / 2, rel=2e-3)


def test_a_sample_of_one_has_no_interval():
    assert interval([3.0])[0] == 3.0
    assert math.isnan(interval([3.0]).margin)


def test_what_is_not_finite_makes_the_mean_so():
    assert math.isnan(interval([1.0, math.nan]).mean)
    assert interval([1.0, math.inf]).mean == math.inf
    assert math.isnan(interval([1.0, math.inf]).margin)


@pytest.mark.parametrize(
    ("sample", "mean"),
    [
        ([0.5, 1e200], 5e199),
        ([1e308, 1e308, 1e308], 1e308),
        ([1e308, -1e308], 0.0),
        ([10**400, 1.0], math.inf),
        ([math.inf, -math.inf], math.nan),
        ([5e-324, 0.0], 0.0),
        ([], math.nan),
    ],
)
def test_an_interval_never_raises(sample, mean):
    estimate = interval(sample)
    assert estimate.mean == mean or math.isnan(mean)
    assert math.isnan(estimate.mean) == math.isnan(mean)
    assert estimate.n == len(sample)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e300, -7.3e-200])
@pytest.mark.parametrize("n", [2, 3, 10, 1001])
def test_equal_values_have_themselves_as_mean_and_no_margin(value, n):
    assert interval([value] * n) == (value, 0.0, n)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150, 1e300])
def test_the_interval_scales_with_the_sample(scale):
    estimate = interval([scale, 2 * scale, 4 * scale])
    assert estimate.mean / scale == pytest.approx(7 / 3)
    assert estimate.margin / scale == pytest.approx(3.7946, rel=1e-3)
