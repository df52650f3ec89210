from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from containers.router.matching import (
    SAFETY,
    Decision,
    Dispatch,
    Instance,
    KairosMatching,
    LeastLaxity,
    Query,
    heterogeneity,
    price_of_time,
)
from containers.router.predictors import LatencyModel

# On the base 10 ms + 0.01 ms per unit of size, on the small type ten times the slope.
MODELS = {"base": LatencyModel(0.010, 0.00001, 0.0), "small": LatencyModel(0.010, 0.0001, 0.0)}
KAIROS = KairosMatching(base="base", largest_size=1000)
OURS = LeastLaxity(typical_size=200)
TARGET = 0.060


def query(size: float, arrived: float = 0.0) -> Query:
    """A query that must be done 60 ms after it came."""
    return Query(size, arrived, arrived + TARGET)


def idle(kind: str) -> Instance:
    """An instance that can begin at once."""
    return Instance(kind, idle=True, free_at=0.0)


def busy(kind: str, until: float) -> Instance:
    """An instance with a query on it."""
    return Instance(kind, idle=False, free_at=until)


def queries(now: float) -> st.SearchStrategy[list[Query]]:
    """Waiting queries in order of arrival."""
    pair = st.tuples(st.floats(1, 1000), st.floats(0, TARGET))
    drawn = st.lists(pair, min_size=1, max_size=12)
    return drawn.map(
        lambda pairs: [query(size, now - age) for size, age in sorted(pairs, key=lambda p: -p[1])]
    )


def pools() -> st.SearchStrategy[list[Instance]]:
    """Instances of both types, idle and busy."""
    one = st.builds(Instance, st.sampled_from(["base", "small"]), st.booleans(), st.floats(0.9, 1.1))
    return st.lists(one, min_size=1, max_size=6)


def kairos_cost(one: Query, instance: Instance, now: float) -> float:
    """An entry of KAIROS' matrix, written out from the paper."""
    model = MODELS[instance.type]
    end = (0.0 if instance.idle else max(instance.free_at - now, 0.0)) + model.seconds(one.size)
    left = one.deadline - now
    if left > 0 and end > left:
        return 10 * TARGET
    if left > 0 and end > left - 0.02 * TARGET:
        return 5 * TARGET
    return heterogeneity(model, MODELS["base"], 1000) * end


def test_the_coefficient_is_the_ratio_of_the_largest_query() -> None:
    """C_j is the largest query's latency on the base over that on j."""
    assert heterogeneity(MODELS["small"], MODELS["base"], 1000) == pytest.approx(0.020 / 0.110)
    assert heterogeneity(MODELS["base"], MODELS["base"], 1000) == 1.0


def test_time_on_few_instances_is_dearer_than_on_many() -> None:
    """A second costs (1 + SAFETY/√n) typical queries."""
    assert price_of_time(MODELS["base"], 200, 4) == pytest.approx((1 + SAFETY / 2) / 0.012)
    assert price_of_time(MODELS["base"], 200, 1) > price_of_time(MODELS["base"], 200, 4)


@pytest.mark.parametrize("distributor", [KAIROS, OURS])
def test_a_small_query_leaves_the_base_free(distributor: KairosMatching | LeastLaxity) -> None:
    """What the small type serves in time goes there, though the base would be faster."""
    decision = distributor.decide(0.0, [query(50)], [idle("base"), idle("small")], MODELS)
    assert decision == Decision((Dispatch(0, 1),))


@pytest.mark.parametrize("distributor", [KAIROS, OURS])
def test_a_large_query_waits_for_the_base(distributor: KairosMatching | LeastLaxity) -> None:
    """It is not sent to an idle instance that would answer it too late."""
    decision = distributor.decide(0.0, [query(900)], [busy("base", 0.03), idle("small")], MODELS)
    assert decision == Decision()


@pytest.mark.parametrize("distributor", [KAIROS, OURS])
def test_nothing_is_decided_without_queries_or_without_instances(
    distributor: KairosMatching | LeastLaxity,
) -> None:
    """Both are no error."""
    assert distributor.decide(0.0, [], [idle("base")], MODELS) == Decision()
    assert distributor.decide(0.0, [query(50)], [], MODELS) == Decision()


def test_kairos_considers_the_oldest_queries_twice_the_instances() -> None:
    """The third query is not matched to a single instance, however well it would fit."""
    waiting = [query(500), query(500, 0.001), query(1, 0.002)]
    assert KAIROS.decide(0.002, waiting, [idle("small")], MODELS).dispatches[0].query != 2


def test_kairos_spends_time_on_a_query_that_is_already_late() -> None:
    """It carries no penalty, so that the cheaper query goes first though the other could still be in time."""
    waiting = [query(10, -1.0), query(300)]
    assert KAIROS.decide(0.0, waiting, [idle("base")], MODELS).dispatches == (Dispatch(0, 0),)


def test_ours_refuses_a_query_that_would_be_late_everywhere() -> None:
    """It would only delay the one that can still be in time."""
    waiting = [query(10, -1.0), query(300)]
    assert OURS.decide(0.0, waiting, [idle("base")], MODELS) == Decision((Dispatch(1, 0),), (0,))


def test_ours_refuses_a_hopeless_query_while_everything_is_busy() -> None:
    """The client learns at once, not when an instance becomes idle."""
    assert OURS.decide(0.0, [query(900)], [busy("base", 0.05)], MODELS) == Decision((), (0,))


def test_ours_serves_the_query_first_that_has_to_start_first() -> None:
    """A later query goes first when it takes longer and so has to start earlier."""
    waiting = [query(10, 0.0), query(1000, 0.001)]
    assert OURS.decide(0.030, waiting, [idle("base")], MODELS).dispatches == (Dispatch(1, 0),)


def test_ours_plans_several_queries_deep_on_an_instance() -> None:
    """A query that fits behind another on the small type does not take the base."""
    models = {"base": MODELS["base"], "small": LatencyModel(0.010, 0.00001, 0.0)}
    waiting = [query(10), query(10)]
    decision = LeastLaxity(typical_size=1).decide(0.0, waiting, [busy("base", 0.04), idle("small")], models)
    assert decision == Decision((Dispatch(0, 1),))


def test_ours_allows_for_the_spread_of_a_type() -> None:
    """A query that fits on average, but not a deviation above, goes to the steadier type."""
    shaky = {**MODELS, "small": LatencyModel(0.010, 0.0001, 0.3)}
    instances, tight = [idle("base"), idle("small")], [Query(100, 0.0, 0.022)]
    assert OURS.decide(0.0, tight, instances, MODELS).dispatches == (Dispatch(0, 1),)
    assert OURS.decide(0.0, tight, instances, shaky).dispatches == (Dispatch(0, 0),)


def test_ours_lets_an_unlikely_query_take_its_chance_after_the_others() -> None:
    """It would be late a deviation above its mean, but not at it: it begins only where nobody else does."""
    shaky = {"base": LatencyModel(0.010, 0.0, 0.3)}
    unlikely, likely = Query(1, 0.0, 0.011), Query(1, 0.001, 0.050)
    alone = OURS.decide(0.001, [unlikely], [idle("base")], shaky)
    both = OURS.decide(0.001, [unlikely, likely], [idle("base")], shaky)
    assert alone == Decision((Dispatch(0, 0),))
    assert both == Decision((Dispatch(1, 0),))


def test_ours_refuses_a_query_once_even_luck_would_not_help() -> None:
    """Late a deviation below its mean."""
    shaky = {"base": LatencyModel(0.010, 0.0, 0.3)}
    assert OURS.decide(0.0, [Query(1, 0.0, 0.0069)], [idle("base")], shaky) == Decision((), (0,))


@pytest.mark.parametrize(("size", "deviations"), [(0.0, 1.0), (200.0, -0.1), (float("nan"), 1.0)])
def test_a_size_or_an_allowance_that_makes_no_sense_is_refused(size: float, deviations: float) -> None:
    """The error names it and what would be valid."""
    with pytest.raises(ValueError, match="valid: a number"):
        LeastLaxity(size, deviations)


@given(queries(1.0), pools())
def test_kairos_matches_at_the_least_total_cost(waiting: list[Query], instances: list[Instance]) -> None:
    """No other assignment of the matched queries and instances is cheaper."""
    few = instances[:3]
    small = waiting[: min(3, 2 * len(few))]
    dispatches = KAIROS.decide(1.0, small, [Instance(one.type, True, 0.0) for one in few], MODELS).dispatches
    everything_idle = [Instance(one.type, True, 0.0) for one in few]
    cost = sum(kairos_cost(small[d.query], everything_idle[d.instance], 1.0) for d in dispatches)
    pairs = min(len(small), len(few))
    assert len(dispatches) == pairs
    least = min(
        sum(kairos_cost(small[i], everything_idle[j], 1.0) for i, j in zip(rows, columns, strict=True))
        for rows in permutations(range(len(small)), pairs)
        for columns in permutations(range(len(few)), pairs)
    )
    assert cost == pytest.approx(least)


@pytest.mark.parametrize("distributor", [KAIROS, OURS])
@given(waiting=queries(1.0), instances=pools())
def test_each_idle_instance_gets_one_query_at_most_and_no_busy_one_any(
    distributor: KairosMatching | LeastLaxity, waiting: list[Query], instances: list[Instance]
) -> None:
    """Nobody is dispatched twice, to two places, to a busy instance, or dispatched and refused."""
    decision = distributor.decide(1.0, waiting, instances, MODELS)
    taken = [dispatch.instance for dispatch in decision.dispatches]
    served = [dispatch.query for dispatch in decision.dispatches]
    assert len(set(taken)) == len(taken)
    assert all(instances[instance].idle for instance in taken)
    assert len({*served, *decision.sheds}) == len(served) + len(decision.sheds)


@given(queries(1.0), pools())
def test_ours_refuses_exactly_the_hopeless(waiting: list[Query], instances: list[Instance]) -> None:
    """Refused is who cannot be answered in time on any instance, even next; nobody else."""
    decision = OURS.decide(1.0, waiting, instances, MODELS)
    for index, one in enumerate(waiting):
        starts = [(1.0 if i.idle else max(i.free_at, 1.0), MODELS[i.type]) for i in instances]
        hopeless = all(start > one.deadline - model.seconds(one.size) for start, model in starts)
        assert (index in decision.sheds) == hopeless


@given(queries(1.0), pools())
def test_ours_dispatches_only_what_is_predicted_to_be_in_time(
    waiting: list[Query], instances: list[Instance]
) -> None:
    """Every dispatched query ends by its deadline if the prediction holds."""
    for dispatch in OURS.decide(1.0, waiting, instances, MODELS).dispatches:
        one = waiting[dispatch.query]
        end = 1.0 + MODELS[instances[dispatch.instance].type].seconds(one.size)
        assert end <= one.deadline + 1e-9


@given(queries(1.0), pools())
def test_ours_never_stalls(waiting: list[Query], instances: list[Instance]) -> None:
    """With everything idle, every query is refused or at least one begins."""
    everything_idle = [Instance(one.type, True, 0.0) for one in instances]
    decision = OURS.decide(1.0, waiting, everything_idle, MODELS)
    assert decision.dispatches or len(decision.sheds) == len(waiting)


def test_a_decision_over_200_waiting_queries_uses_every_idle_instance() -> None:
    """A hundred idle instances and a long queue of small queries: a hundred begin."""
    random = np.random.default_rng(1)
    waiting = [query(float(size)) for size in random.uniform(1, 100, 200)]
    instances = [idle("base" if index % 4 == 0 else "small") for index in range(100)]
    assert len(OURS.decide(0.0, waiting, instances, MODELS).dispatches) == 100
