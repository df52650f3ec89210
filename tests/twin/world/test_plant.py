from math import inf, isclose
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.model import Minute
from twin.world.nodes import DRAIN_SECONDS, NOTICE_SECONDS, Nodes
from twin.world.plant import Plant, Served, count_minute
from twin.world.queues import CLIENT_SECONDS, DROPPED, LOST, NO_TARGET, NO_UNIT, SERVED

SERVICE = 0.5
FAST, SLOW = "fast-spot", "slow-spot"
Floats = NDArray[np.float64]


def fleet_of(**service_seconds: float) -> Fleet:
    """A fleet with one spot pool per unit, each node starting for 100 seconds."""
    profile: dict[str, float] = {"throughput_rpm": 100, "latency_seconds": 0.6, "start_seconds": 100}
    return parse_fleet(
        {
            "fleet": "small",
            "model": "any",
            "objective": {"latency_seconds": 2.0, "percentile": 50},
            "budget_usd_per_hour": 10,
            "units": [
                {
                    "name": name,
                    "instance_type": "g5.xlarge",
                    "accelerator": "nvidia",
                    "framework": "eager",
                    "profile": profile | {"service_seconds": seconds},
                    "pools": [{"market": "spot", "nodes": {"max": 100}, "price_usd_per_hour": 0.4}],
                }
                for name, seconds in service_seconds.items()
            ],
        }
    )


FLEET = fleet_of(fast=SERVICE, slow=1.0)


def world(ready: dict[str, int], seed: int = 1, **options: Any) -> tuple[Nodes, Plant]:
    """Nodes ready at second 0 and a plant over them."""
    nodes = Nodes(FLEET, 0.0)
    for pool, count in ready.items():
        nodes.start(pool, count, 0.0)
    return nodes, Plant(FLEET, nodes, seed, 0.0, **options)


def poisson(rate: float, count: int, seed: int = 7) -> Floats:
    """Arrival seconds of a Poisson process with `rate` requests per second."""
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


def by_minute(plant: Plant, arrivals: Floats, minutes: int, weights: dict[str, int]) -> Served:
    """Serve the arrivals of [0, 60·minutes) in calls of one minute."""
    ends = range(60, 60 * minutes + 60, 60)
    parts = [arrivals[(arrivals >= end - 60) & (arrivals < end)] for end in ends]
    return Served.joined([plant.serve(part, end, weights) for part, end in zip(parts, ends, strict=True)])


def test_service_times_have_the_profiles_mean_and_five_percent_spread() -> None:
    """An idle node's latency is its service time alone."""
    _, plant = world({FAST: 1})
    latency = plant.serve(np.linspace(0, 999_990, 100_000), 1e6, {"fast": 1}).latency.astype(np.float64)
    assert latency.mean() == pytest.approx(SERVICE, rel=0.001)
    assert latency.std() / latency.mean() == pytest.approx(0.05, rel=0.02)


def test_weights_are_the_shares_of_requests() -> None:
    """999 to 333 is three to one, whatever the queues look like."""
    _, plant = world({FAST: 50, SLOW: 50})
    served = plant.serve(np.arange(100_000) / 10, 1e4, {"fast": 999, "slow": 333})
    assert np.bincount(served.unit) / 100_000 == pytest.approx([0.75, 0.25], abs=0.005)


def test_idle_nodes_share_requests_evenly() -> None:
    """Ties are broken at random: the second of two simultaneous requests finds another node."""
    _, plant = world({FAST: 7}, variation=0.0)
    times = np.repeat(np.arange(1000) * 10.0, 7)
    assert plant.serve(times, 1e4, {"fast": 1}).latency.max() == pytest.approx(SERVICE)


def test_the_node_that_takes_a_tie_is_drawn_evenly() -> None:
    """The one of five idle nodes that is about to be taken away loses a fifth of its unit's requests."""
    nodes, _ = world({FAST: 1, SLOW: 5})
    nodes.set_capacity(SLOW, 4, 0.0)
    last = np.array([NOTICE_SECONDS - 0.1])
    plants = [Plant(FLEET, nodes, seed, 0.0) for seed in range(1000)]
    served = Served.joined([plant.serve(last, NOTICE_SECONDS, {"fast": 1, "slow": 1}) for plant in plants])
    assert (served.outcome[served.unit == 1] == LOST).mean() == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("weights", [None, {}, {"fast": 0, "slow": 0}])
def test_without_any_weight_the_load_balancer_answers_by_itself(weights: dict[str, int] | None) -> None:
    """A fixed 503: failed, and no unit's request."""
    _, plant = world({FAST: 1})
    served = plant.serve(np.array([1.0]), 60.0, weights)
    assert (served.unit[0], served.outcome[0], served.latency[0]) == (-1, NO_UNIT, inf)
    assert served.failed[0]


def test_a_unit_without_a_ready_node_fails_its_share() -> None:
    """The load balancer's 503; weighted groups never fail over to each other."""
    _, plant = world({FAST: 1})
    served = plant.serve(np.array([1.0]), 60.0, {"slow": 1})
    assert (served.unit[0], served.outcome[0]) == (-1, NO_TARGET)


def test_a_node_takes_requests_from_the_second_it_is_ready() -> None:
    """Start 100 s: the request at 99.9 finds no target, the one at 100 does."""
    nodes, plant = world({})
    nodes.set_desired(FAST, 1, 0.0)
    nodes.advance(120.0)
    served = plant.serve(np.array([99.9, 100.0]), 120.0, {"fast": 1})
    assert served.outcome.tolist() == [NO_TARGET, SERVED]


def test_a_draining_node_finishes_its_queue_but_takes_no_new_request() -> None:
    """No request is lost by our own shrinking."""
    nodes, plant = world({FAST: 1}, variation=0.0)
    before = plant.serve(np.full(100, 59.0), 60.0, {"fast": 1})
    nodes.set_desired(FAST, 0, 60.0)
    nodes.advance(60.0 + DRAIN_SECONDS)
    after = plant.serve(np.array([60.0, 100.0]), 200.0, {"fast": 1})
    assert before.latency.max() == pytest.approx(50.0)
    assert after.outcome.tolist() == [NO_TARGET, NO_TARGET]


@pytest.mark.parametrize("nodes_first", [True, False])
def test_what_is_on_a_node_when_it_is_taken_away_is_lost(*, nodes_first: bool) -> None:
    """In flight and queued alike, at the exact second, whether nodes or plant advance first."""
    nodes, plant = world({FAST: 1}, variation=0.0)
    nodes.set_capacity(FAST, 0, 0.0)
    if nodes_first:
        nodes.advance(180.0)
    arrivals = np.array([119.0, 119.2, 119.4, 119.9, 120.0])
    served = plant.serve(arrivals, 180.0, {"fast": 1})
    assert served.outcome.tolist() == [SERVED, SERVED, LOST, LOST, NO_TARGET]
    assert served.latency.tolist() == pytest.approx([0.5, 0.8, inf, inf, inf])
    assert served.unit.tolist() == [0, 0, 0, 0, -1]


def test_a_request_that_would_wait_longer_than_the_client_costs_no_node_time() -> None:
    """At 0.5 s each, 121 simultaneous requests wait at most 60 s; the rest are dropped."""
    _, plant = world({FAST: 1}, variation=0.0)
    burst = plant.serve(np.zeros(200), 60.0, {"fast": 1})
    assert np.bincount(burst.outcome, minlength=2).tolist() == [121, 79]
    assert burst.latency[burst.outcome == SERVED].max() == pytest.approx(CLIENT_SECONDS + SERVICE)
    later = plant.serve(np.array([60.0]), 120.0, {"fast": 1})
    assert later.latency[0] == pytest.approx(0.5 + SERVICE)


def test_queues_carry_over_between_calls() -> None:
    """Serving minute by minute gives what serving at once gives."""
    arrivals = poisson(5.0, 3000)
    arrivals = arrivals[arrivals < 960]
    weights = {"fast": 3, "slow": 1}
    _, whole = world({FAST: 2, SLOW: 2})
    _, parts = world({FAST: 2, SLOW: 2})
    at_once = whole.serve(arrivals, 1000.0, weights)
    joined = by_minute(parts, arrivals, 16, weights)
    assert joined.latency.tolist() == at_once.latency.tolist()
    assert joined.unit.tolist() == at_once.unit.tolist()


def test_rings_that_grow_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many unfinished requests a node's ring holds at first is a matter of memory alone."""
    arrivals = poisson(7.0, 4000)
    _, ample = world({FAST: 3})
    monkeypatch.setattr("twin.world.plant.SHORTEST_RING", 1)
    _, short = world({FAST: 3})
    expected = by_minute(ample, arrivals, 9, {"fast": 1})
    assert expected.latency.max() > 10
    assert by_minute(short, arrivals, 9, {"fast": 1}).latency.tolist() == expected.latency.tolist()


def test_nodes_that_come_and_go_elsewhere_change_no_answer() -> None:
    """What waits on a node, and how much that is, outlives changes of other nodes."""
    arrivals = poisson(6.5, 3500)
    _, quiet = world({FAST: 3, SLOW: 4})
    nodes, busy = world({FAST: 3, SLOW: 4})
    expected = by_minute(quiet, arrivals, 9, {"fast": 1})
    parts = []
    for minute in range(9):
        nodes.set_desired(SLOW, minute % 4, 60.0 * minute)
        part = arrivals[(arrivals >= 60 * minute) & (arrivals < 60 * minute + 60)]
        parts.append(busy.serve(part, 60.0 * minute + 60, {"fast": 1}))
    assert Served.joined(parts).latency.tolist() == expected.latency.tolist()


def test_queues_survive_a_change_of_nodes() -> None:
    """A node that leaves or joins does not disturb what waits on the others."""
    nodes, plant = world({FAST: 1, SLOW: 1}, variation=0.0)
    plant.serve(np.full(30, 59.0), 60.0, {"slow": 1})
    nodes.set_desired(FAST, 0, 60.0)
    nodes.set_desired(SLOW, 2, 60.0)
    latency = plant.serve(np.array([60.0, *[130.0] * 20]), 140.0, {"slow": 1}).latency
    assert latency[[0, 1, 20]] == pytest.approx([89 - 60 + 1, 1, 20])
    nodes.advance(140.0)
    assert plant.serve(np.array([141.0]), 150.0, {"slow": 1}).latency[0] == pytest.approx(150 - 141 + 1)


def test_a_request_meets_the_same_chance_under_every_policy() -> None:
    """Common random numbers: a request's service time depends on its place in the stream alone."""
    arrivals = np.linspace(0, 4995, 1000)
    _, one = world({FAST: 1, SLOW: 1})
    _, other = world({FAST: 3, SLOW: 4})
    first = one.serve(arrivals, 5000.0, {"fast": 1})
    second = other.serve(arrivals, 5000.0, {"fast": 1, "slow": 1})
    both = (second.unit == 0) & (first.unit == 0)
    assert 400 < both.sum() < 600
    assert first.latency[both] == pytest.approx(second.latency[both])


def test_another_seed_draws_other_service_times() -> None:
    """Replications are independent."""
    arrivals = np.linspace(0, 4995, 1000)
    one, other = (world({FAST: 1}, seed)[1].serve(arrivals, 5000.0, {"fast": 1}).latency for seed in (1, 2))
    assert abs(np.mean((one - one.mean()) * (other - other.mean()))) < 0.1 * one.std() * other.std()


def test_a_service_factor_slows_later_requests_of_its_unit() -> None:
    """Profiles drift: the same unit may take longer than its profile says."""
    _, plant = world({FAST: 1, SLOW: 1}, variation=0.0)
    plant.set_service_factor("fast", 3.0)
    assert plant.serve(np.array([1.0]), 60.0, {"fast": 1}).latency[0] == pytest.approx(1.5)
    assert plant.serve(np.array([61.0]), 120.0, {"slow": 1}).latency[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arrivals", "weights", "message"),
    [
        ([3.0, 2.0], {"fast": 1}, "sorted"),
        ([-1.0], {"fast": 1}, "sorted and lie in"),
        ([60.0], {"fast": 1}, "sorted and lie in"),
        ([1.0], {"gpu": 1}, "no unit 'gpu'; valid: fast, slow"),
        ([1.0], {"fast": -1}, "weight of fast"),
    ],
)
def test_an_impossible_call_is_refused(arrivals: list[float], weights: dict[str, int], message: str) -> None:
    """Arrivals belong to the interval, weights to units."""
    _, plant = world({FAST: 1})
    with pytest.raises(ValueError, match=message):
        plant.serve(np.array(arrivals), 60.0, weights)


def test_a_service_factor_has_to_be_positive_and_of_a_unit() -> None:
    """Zero would serve for nothing."""
    _, plant = world({})
    with pytest.raises(ValueError, match="above 0"):
        plant.set_service_factor("fast", 0.0)
    with pytest.raises(ValueError, match="no unit"):
        plant.set_service_factor("gpu", 2.0)


@given(
    servers=st.integers(1, 6),
    rate=st.floats(0.1, 40),
    loss=st.booleans(),
    seed=st.integers(0, 1000),
    variation=st.sampled_from([0.0, 0.05]),
)
@settings(deadline=None)
def test_every_request_is_served_failed_or_dropped_exactly_once(
    *, servers: int, rate: float, loss: bool, seed: int, variation: float
) -> None:
    """Conservation: one outcome each; an answer has a latency of at least its service, a failure none."""
    nodes, plant = world({FAST: servers}, seed, variation=variation)
    if loss:
        nodes.set_capacity(FAST, servers // 2, 0.0)
    arrivals = poisson(rate, 2000, seed)
    served = plant.serve(arrivals, inf, {"fast": 5, "slow": 1})
    assert len(served.outcome) == len(arrivals)
    assert set(served.outcome.tolist()) <= {SERVED, DROPPED, LOST, NO_TARGET}
    assert np.array_equal(np.isinf(served.latency), served.failed)
    assert np.array_equal(served.unit == -1, served.outcome == NO_TARGET)
    answered = served.latency[~served.failed]
    assert np.all(answered > SERVICE * 0.7)
    assert np.all(answered < CLIENT_SECONDS + SERVICE * 1.3)


@given(servers=st.integers(1, 6), load=st.floats(0.3, 3.0), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_no_node_serves_two_requests_at_once(servers: int, load: float, seed: int) -> None:
    """With constant service, c + 1 completions within one service time would need c + 1 nodes."""
    _, plant = world({FAST: servers}, seed, variation=0.0)
    served = plant.serve(poisson(load * servers / SERVICE, 2000, seed), inf, {"fast": 1})
    done = np.sort((served.arrival + served.latency)[~served.failed])
    assert np.all(done[servers:] - done[:-servers] > SERVICE - 1e-4)


@given(load=st.floats(0.3, 3.0), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_a_node_serves_first_come_first_served(load: float, seed: int) -> None:
    """Completions come in the order of arrivals, whatever the service times."""
    _, plant = world({FAST: 1}, seed, variation=0.5)
    served = plant.serve(poisson(load / SERVICE, 1000, seed), inf, {"fast": 1})
    done = (served.arrival + served.latency)[~served.failed]
    assert np.all(np.diff(done) > -1e-4)


def test_a_minute_counts_its_own_arrivals() -> None:
    """A request belongs to the minute of its arrival, wherever the calls were cut."""
    nodes, plant = world({FAST: 1, SLOW: 1}, variation=0.0)
    parts = [
        plant.serve(np.array([10.0, 50.0, 59.9]), 59.95, {"fast": 1}),
        plant.serve(np.array([59.95, 60.0]), 120.0, {"fast": 1}),
    ]
    minute = count_minute(FLEET, nodes, 0, parts).units["fast"]
    assert (minute.at, minute.requests, minute.samples, minute.errors) == (0, 4.0, 4.0, None)
    assert minute.latency_seconds == pytest.approx(SERVICE)
    assert count_minute(FLEET, nodes, 60, parts).units["fast"].requests == 1.0


def test_a_minute_without_requests_has_no_counts_but_reports_its_hosts() -> None:
    """CloudWatch holds no datum then, except for the hosts of a target group with any target."""
    nodes, plant = world({FAST: 2})
    nothing = plant.serve(np.empty(0), 60.0, {"fast": 1})
    for parts in ([], [nothing]):
        counts = count_minute(FLEET, nodes, 0, parts)
        assert counts.units["fast"] == Minute(at=0, healthy_hosts=2.0)
        assert counts.units["slow"] == Minute(at=0)
        assert counts.untargeted == 0.0


def test_a_target_group_of_starting_nodes_reports_no_healthy_host() -> None:
    """Registered but not ready is a count of zero, not a missing datum."""
    nodes, _ = world({})
    nodes.set_desired(FAST, 1, 0.0)
    assert count_minute(FLEET, nodes, 0, []).units["fast"].healthy_hosts == 0.0


def test_lost_and_dropped_requests_count_as_requests_and_only_lost_ones_as_errors() -> None:
    """A client that gives up is no 5xx of the target; neither has a response time.

    At 0.35 s each from 59.9 s on, 171 are done by 119.75 s, one is on the node when it goes at 120 s.
    """
    nodes, plant = world({FAST: 1}, variation=0.0)
    plant.set_service_factor("fast", 0.7)
    nodes.set_capacity(FAST, 0, 0.0)
    served = plant.serve(np.full(200, 59.9), 60.0, {"fast": 1})
    minute = count_minute(FLEET, nodes, 0, [served]).units["fast"]
    assert (minute.requests, minute.samples, minute.errors) == (200.0, 171.0, 1.0)
    assert (served.outcome == DROPPED).sum() == 28


def test_untargeted_requests_are_counted_apart() -> None:
    """RequestCount omits what found no target: what met no weight, and what met a unit without a node."""
    nodes, plant = world({FAST: 1})
    parts = [
        plant.serve(np.array([1.0, 2.0]), 30.0, None),
        plant.serve(np.array([31.0]), 60.0, {"slow": 1}),
    ]
    counts = count_minute(FLEET, nodes, 0, parts)
    assert counts.untargeted == 3.0
    assert counts.units["slow"].requests is None


def test_the_latency_is_the_objectives_percentile_by_nearest_rank() -> None:
    """Percentile 50 of four latencies is the second smallest."""
    nodes, _ = world({FAST: 1})
    latency = np.array([0.4, 0.1, 0.3, 0.2, inf], np.float32)
    outcome = np.array([SERVED] * 4 + [LOST], np.int8)
    served = Served(np.arange(5.0), np.zeros(5, np.int8), latency, outcome)
    minute = count_minute(FLEET, nodes, 0, [served]).units["fast"]
    assert minute.latency_seconds is not None
    assert isclose(minute.latency_seconds, 0.2, rel_tol=1e-6)
    assert (minute.requests, minute.samples, minute.errors) == (5.0, 4.0, 1.0)
