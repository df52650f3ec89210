from collections.abc import Sequence

import numpy as np
import pytest

from containers.router.predictors import LatencyModel, LatencyPredictor

PROFILE = LatencyModel(0.010, 0.0001, 0.05)


def learned(sizes: Sequence[float], seconds: Sequence[float]) -> LatencyModel:
    """The model after these completions, from the profile on."""
    predictor = LatencyPredictor(PROFILE, typical_size=200)
    for size, took in zip(sizes, seconds, strict=True):
        predictor.observe(size, took)
    return predictor.model


def drawn(count: int, model: LatencyModel, seed: int = 3) -> tuple[list[float], list[float]]:
    """Sizes and normally spread seconds of the model."""
    random = np.random.default_rng(seed)
    sizes = random.uniform(1, 1000, count)
    seconds = [model.seconds(size) * (1 + model.spread * random.standard_normal()) for size in sizes]
    return sizes.tolist(), seconds


def test_a_predictor_begins_with_the_profile() -> None:
    """Before the first completion nothing better is known."""
    assert LatencyPredictor(PROFILE, typical_size=200).model == PROFILE


@pytest.mark.parametrize("truth", [LatencyModel(0.02, 0.0002, 0.05), LatencyModel(0.005, 0.00003, 0.1)])
def test_completions_correct_a_wrong_profile(truth: LatencyModel) -> None:
    """After four thousand completions the line is within 5 % of the truth, the spread within 30 %."""
    model = learned(*drawn(4000, truth))
    for size in (50, 300, 900):
        assert model.seconds(size) == pytest.approx(truth.seconds(size), rel=0.05)
    assert model.spread == pytest.approx(truth.spread, rel=0.3)


def test_stalls_hardly_move_the_line() -> None:
    """One completion in fifty takes ten times as long; the line stays within 5 %."""
    sizes, seconds = drawn(2000, PROFILE)
    stalled = [10 * took if index % 50 == 0 else took for index, took in enumerate(seconds)]
    assert learned(sizes, stalled).seconds(300) == pytest.approx(PROFILE.seconds(300), rel=0.05)


def test_completions_of_one_size_scale_the_profile() -> None:
    """A single size says nothing about the slope, yet the level is learned for all sizes."""
    model = learned([500.0] * 1000, [2 * PROFILE.seconds(500)] * 1000)
    assert model.seconds(500) == pytest.approx(2 * PROFILE.seconds(500), rel=0.05)
    assert model.slope > 0


def test_the_line_is_never_negative() -> None:
    """Completions that get faster with size leave an intercept and a slope above 0."""
    model = learned([10.0, 1000.0] * 500, [0.11, 0.01] * 500)
    assert model.intercept > 0
    assert model.slope > 0


def test_the_tail_lies_so_many_deviations_above_the_mean() -> None:
    """It is mean · (1 + k·spread)."""
    assert PROFILE.tail_seconds(100, 2) == pytest.approx(0.020 * 1.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((-1.0, 0.1, 0.1), "intercept: -1.0; valid: a finite number of 0 or more"),
        ((0.1, float("nan"), 0.1), "slope: nan; valid"),
        ((0.0, 0.0, 0.1), "slope: 0 with intercept 0; valid: one of them above 0"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused(values: tuple[float, float, float], message: str) -> None:
    """The error names the number and what would be valid."""
    with pytest.raises(ValueError, match=message):
        LatencyModel(*values)


@pytest.mark.parametrize(
    ("size", "seconds"), [(-1.0, 0.1), (float("inf"), 0.1), (1.0, 0.0), (1.0, float("nan"))]
)
def test_a_completion_that_makes_no_sense_is_refused(size: float, seconds: float) -> None:
    """And the model stays as it was."""
    predictor = LatencyPredictor(PROFILE, typical_size=200)
    with pytest.raises(ValueError, match="valid: a finite number"):
        predictor.observe(size, seconds)
    assert predictor.model == PROFILE
