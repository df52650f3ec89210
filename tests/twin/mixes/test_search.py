from dataclasses import replace
from math import inf

import numpy as np
import pytest

from tests.twin.mixes.latencies import equal_queries, synthetic
from twin.mixes.clairvoyant import bound
from twin.mixes.samples import SIZES, TYPES
from twin.mixes.search import (
    Laboratory,
    Trial,
    answers_needed,
    first_scored,
    highest,
    homogeneous_within,
    mixes_within,
    price_of,
)
from twin.mixes.simulator import Distributor
from twin.mixes.workload import draw, growing

# A base that is fast at every size and three slower types, the last of them the slowest.
LINES = [(0.002, 0.000005), (0.002, 0.00003), (0.003, 0.00004), (0.004, 0.00007)]
TARGET = 0.025
OURS = Trial(distributor=Distributor.LEAST_LAXITY)
KAIROS = Trial(distributor=Distributor.KAIROS)
FIRST_COME = Trial(distributor=Distributor.FIRST_COME)
MIX = (1, 0, 6, 0)


@pytest.fixture(scope="module")
def laboratory() -> Laboratory:
    """Two workloads of 3,000 queries on the synthetic latencies."""
    return Laboratory(synthetic(LINES, TARGET, spread=0.05), [draw(3000, 1), draw(3000, 2)])


def test_the_papers_budget_pays_331_mixes_with_a_base() -> None:
    """As many as KAIROS counts, each within 2.5 USD per hour."""
    mixes = list(mixes_within())
    assert len(set(mixes)) == 331
    assert all(mix[0] >= 1 and price_of(mix) <= 2.5 for mix in mixes)


def test_a_budget_counts_to_the_cent() -> None:
    """What costs exactly the budget is within it."""
    assert (2, 0, 0, 0) in set(mixes_within(2 * TYPES[0].usd_per_hour))
    assert not list(mixes_within(0.5))


def test_homogeneous_pools_are_as_large_as_the_budget_pays() -> None:
    """Four, five, sixteen and fifteen instances."""
    assert homogeneous_within() == [(4, 0, 0, 0), (0, 5, 0, 0), (0, 0, 16, 0), (0, 0, 0, 15)]


@pytest.mark.parametrize("guess", [0.01, 3.0, 7.3, 5000.0])
def test_bisection_finds_the_highest_rate_that_holds(guess: float) -> None:
    """From any guess, to the tolerance, from below."""
    found = highest(lambda rate: rate <= 7.25, guess, 0.01)
    assert 7.25 / 1.01 <= found <= 7.25


def test_bisection_tells_that_no_rate_holds() -> None:
    """It ends, with 0."""
    assert highest(lambda _: False, 100.0, 0.01) == 0.0


@pytest.mark.parametrize(("guess", "tolerance"), [(0.0, 0.1), (inf, 0.1), (1.0, 0.0), (1.0, inf)])
def test_bisection_refuses_what_has_no_end(guess: float, tolerance: float) -> None:
    """The error names what is valid."""
    with pytest.raises(ValueError, match="valid: a finite number above 0"):
        highest(lambda _: True, guess, tolerance)


def test_a_generous_target_lets_an_instance_be_used_to_the_full() -> None:
    """With a target of 50 services one instance carries nearly one query per service time, and no more."""
    latencies = synthetic([(0.01, 0.0)] * len(TYPES), 0.5)
    lab = Laboratory(latencies, [equal_queries(3000, 100.0)])
    assert 90 <= lab.throughput((1, 0, 0, 0), FIRST_COME) <= 104


def test_twice_the_instances_carry_more_than_twice(laboratory: Laboratory) -> None:
    """Pooling: a larger pool waits less at the same load."""
    one, two = (laboratory.throughput((count, 0, 0, 0), FIRST_COME) for count in (1, 2))
    assert two > 2 * one


def test_the_throughput_is_where_99_percent_are_in_time(laboratory: Laboratory) -> None:
    """A little below it every workload attains it on average, well above it does not."""
    carried = laboratory.throughputs(MIX, OURS)
    assert laboratory.attainments(MIX, OURS, 0.98 * min(carried))[0] >= 0.989
    assert max(laboratory.attainments(MIX, OURS, 1.2 * max(carried))) < 0.99


def test_a_mix_needs_a_distributor_that_knows_sizes(laboratory: Laboratory) -> None:
    """First come, first served sends large queries to slow types; matching does not."""
    assert laboratory.throughput(MIX, KAIROS) > 1.5 * laboratory.throughput(MIX, FIRST_COME)


def test_ours_carries_more_than_kairos_matching(laboratory: Laboratory) -> None:
    """On a mix that is short of the base."""
    assert laboratory.throughput(MIX, OURS) > laboratory.throughput(MIX, KAIROS)


def test_one_run_tells_whether_a_rate_holds(laboratory: Laboratory) -> None:
    """On every workload: up to the throughput of the one that carries least."""
    least = min(laboratory.throughputs(MIX, OURS))
    assert laboratory.holds(MIX, OURS, 0.98 * least)
    assert not laboratory.holds(MIX, OURS, 1.2 * least)


def test_tuned_weights_carry_more_where_large_queries_have_their_own(laboratory: Laboratory) -> None:
    """A base and slow types: one row has to leave the slow ones out, which cannot serve the large queries."""
    one_row = laboratory.with_weights(MIX, by_size=False)
    by_size = laboratory.with_weights(MIX, by_size=True)
    assert one_row.weights[0][2] < 0.1 * sum(one_row.weights[0])
    assert laboratory.throughput(MIX, by_size) > 1.5 * laboratory.throughput(MIX, one_row)
    assert laboratory.throughput(MIX, OURS) > laboratory.throughput(MIX, by_size)


def test_weights_of_equal_types_are_tuned_without_a_size_that_is_large() -> None:
    """Where every type serves every size a row by size is one row."""
    lab = Laboratory(synthetic([LINES[0]] * 4, TARGET), [draw(1000, 1)])
    assert lab.with_weights((1, 1, 0, 0), by_size=True) == lab.with_weights((1, 1, 0, 0), by_size=False)


@pytest.mark.parametrize("distributor", list(Distributor))
def test_nobody_exceeds_the_clairvoyant_bound(distributor: Distributor) -> None:
    """Whatever the distributor; ours reaches more than half of it."""
    latencies, workload = synthetic(LINES, TARGET, spread=0.05), draw(3000, 1)
    highest_rate = bound(latencies, workload, MIX)
    carried = Laboratory(latencies, [workload]).throughput(MIX, Trial(distributor=distributor))
    assert carried <= highest_rate
    if distributor is Distributor.LEAST_LAXITY:
        assert carried > highest_rate / 2


def test_the_clairvoyant_bound_of_equal_queries_is_their_rate() -> None:
    """N instances serve n / s queries per second, and 1 % may be left out."""
    latencies = synthetic([(0.01, 0.0)] * len(TYPES), 0.02)
    assert bound(latencies, equal_queries(4000, 100.0), (3, 0, 0, 0)) == pytest.approx(300 / 0.99, rel=0.01)


def test_a_mix_that_serves_too_few_sizes_carries_nothing() -> None:
    """The bound is 0, and so is the throughput."""
    latencies, workload = synthetic(LINES, TARGET), draw(2000, 1)
    assert bound(latencies, workload, (0, 0, 0, 5)) == 0.0
    assert Laboratory(latencies, [workload]).throughput((0, 0, 0, 5), OURS) == 0.0


def test_hill_climbing_does_not_end_below_where_it_began(laboratory: Laboratory) -> None:
    """The tuned threshold carries at least what the largest size in time carries."""
    tuned = laboratory.with_threshold(MIX)
    untuned = replace(tuned, threshold=float(SIZES[SIZES * LINES[2][1] + LINES[2][0] <= TARGET].max()))
    assert laboratory.throughput(MIX, tuned) >= laboratory.throughput(MIX, untuned)


def test_prediction_errors_cost_throughput(laboratory: Laboratory) -> None:
    """A standard error of 20 % is felt by ours, and by KAIROS' slack of 2 % more."""
    kept = {
        trial: laboratory.throughput(MIX, replace(trial, noise=0.2)) / laboratory.throughput(MIX, trial)
        for trial in (OURS, KAIROS)
    }
    assert kept[KAIROS] < kept[OURS] < 1.0


def test_a_loss_and_a_doubling_are_felt(laboratory: Laboratory) -> None:
    """At 90 % of what is carried undisturbed, either leaves fewer queries in time."""
    rate = 0.9 * laboratory.throughput(MIX, OURS)
    calm = np.mean(laboratory.attainments(MIX, OURS, rate))
    lost = np.mean(laboratory.attainments(MIX, replace(OURS, loss=(0, 0.5)), rate))
    grown = Laboratory(synthetic(LINES, TARGET, spread=0.05), [growing(draw(3000, 1), 2.0)])
    assert lost < calm
    assert np.mean(grown.attainments(MIX, OURS, rate)) < calm


def test_predictions_by_size_are_used_when_asked_for() -> None:
    """Where latency bends, each size's mean tells more than a line."""
    latencies = synthetic(LINES, TARGET)
    bent = replace(latencies, seconds=latencies.seconds * np.where(SIZES > 200, 1.3, 0.8)[:, np.newaxis])
    lab = Laboratory(bent, [draw(3000, 1)])
    assert lab.throughput(MIX, replace(KAIROS, predictions="means")) > lab.throughput(MIX, KAIROS)


def test_the_first_tenth_is_warm_up() -> None:
    """99 % of the other queries are needed, rounded up."""
    workload = draw(1050, 1)
    assert first_scored(workload) == 105
    assert answers_needed(workload) == 945 - 9


@pytest.mark.parametrize("change", [{"predictions": "oracle"}, {"noise": 1.0}, {"noise": -0.1}])
def test_a_trial_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    """The error names the choice and what would be valid."""
    with pytest.raises(ValueError, match="valid: "):
        Trial(distributor=Distributor.KAIROS, **change)  # type: ignore[arg-type]
