"""The rules that the loop never breaks, over random histories; and that each check can fail."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings

from control_lambda.core.decide import decide
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Cause, Decision, EvidenceKind, Mode, Snapshot, State, Termination
from tests.control_lambda.core.histories import histories
from twin.bench.histories import History, broken_rules, run_histories
from twin.bench.rules import RULES, Decide

Mutate = Callable[[Snapshot, Fleet, Decision, State], tuple[Decision, State]]


# A smaller seed makes no simpler history: there is nothing to shrink.
@settings(max_examples=100, phases=[Phase.explicit, Phase.generate])
@given(history=histories)
def test_no_history_breaks_a_rule(history: History) -> None:
    """Every rule of `twin.bench.rules.RULES` holds in every tick, whatever AWS, clock and owner do."""
    assert broken_rules(history) == []


def test_the_same_seed_makes_the_same_history() -> None:
    """A violation that names its seed and tick can be looked at again."""
    first, again = ([tick.snapshot for tick in History(7).run(20)] for _ in range(2))

    assert first == again


def test_running_histories_reports_how_far_it_is() -> None:
    """The long run of `make bench` shows its progress."""
    told: list[tuple[int, int]] = []

    run_histories(2, seed=0, progress=lambda done, total: told.append((done, total)))

    assert told == [(1, 2), (2, 2)]


def test_a_tick_that_fails_names_its_history() -> None:
    """A crash is found again by its seed and tick."""

    def crash(*_: object) -> tuple[Decision, State]:
        raise ArithmeticError("no decision")

    with pytest.raises(ArithmeticError) as caught:
        broken_rules(History(3, crash))

    assert caught.value.__notes__ == ["in history 3, tick 1"]


# --- What a wrong decision would look like, by the rule that it breaks ---------------------------------


def weighted(decision: Decision, after: State, weights: Mapping[str, int]) -> tuple[Decision, State]:
    """The decision with other weights."""
    return replace(decision, weights=weights), replace(after, weights=weights)


def resized(decision: Decision, sizes: Mapping[str, int]) -> Decision:
    """The decision with other sizes, which are also told."""
    pools = {
        name: replace(report, desired=sizes[name], planned=sizes[name])
        for name, report in decision.pools.items()
    }
    return replace(decision, sizes=sizes, pools=pools)


def overweight(_: Snapshot, fleet: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """One weight above what a load balancer takes."""
    return weighted(decision, after, {unit.name: 1000 for unit in fleet.units})


def silence(_: Snapshot, fleet: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """No weight at all."""
    return weighted(decision, after, dict.fromkeys((unit.name for unit in fleet.units), 0))


def cut_off(_: Snapshot, fleet: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """All weight to the first unit where none is ready."""
    if any(report.ready for report in decision.units.values()):
        return decision, after
    return weighted(decision, after, {unit.name: 999 * (unit == fleet.units[0]) for unit in fleet.units})


def feed_the_dead(_: Snapshot, fleet: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """Some weight for every unit, ready or not."""
    return weighted(decision, after, dict.fromkeys((unit.name for unit in fleet.units), 1))


def punish_refusals(seen: Snapshot, fleet: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """No weight for a unit whose launch was refused."""
    refused = {
        fleet.unit_of[item.pool].name for item in seen.evidence if item.kind is not EvidenceKind.INTERRUPTION
    }
    kept = {name: 0 if name in refused else weight for name, weight in after.weights.items()}
    return weighted(decision, after, kept)


def jump(_: Snapshot, fleet: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """All weight to one unit that is ready, another one every few ticks."""
    ready = [name for name, report in decision.units.items() if report.ready] or [fleet.units[0].name]
    chosen = ready[decision.tick // 3 % len(ready)]
    return weighted(decision, after, {unit.name: 999 * (unit.name == chosen) for unit in fleet.units})


def shrink_all(_: Snapshot, fleet: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """Every pool at its minimum."""
    return resized(decision, {pool.name: pool.nodes.min for pool in fleet.pools}), after


def grow_all(_: Snapshot, fleet: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """Every pool at its maximum."""
    return resized(decision, {pool.name: pool.nodes.max for pool in fleet.pools}), after


def outgrow(_: Snapshot, fleet: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """Every pool above its maximum."""
    return resized(decision, {pool.name: pool.nodes.max + 1 for pool in fleet.pools}), after


def keep_silent(_: Snapshot, __: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """No reason for anything."""
    return replace(decision, reasons=()), after


def flip(_: Snapshot, __: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """Capacity mode, whatever was refused."""
    return replace(decision, mode=Mode.CAPACITY), replace(after, mode=Mode.CAPACITY)


def believe_errors(_: Snapshot, __: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """A latency percentile for every unit."""
    units = {name: replace(report, latency_seconds=0.1) for name, report in decision.units.items()}
    return replace(decision, units=units), after


def purge(seen: Snapshot, _: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """Every node that does not serve is terminated at once."""
    idle = tuple(
        Termination(name, node, decrement=False, why=Cause.DEAD)
        for name, signals in seen.pools.items()
        for node in signals.starting
    )
    return replace(decision, terminate=idle), after


def change_its_mind() -> Mutate:
    """Another decision every time."""
    calls = itertools.count()

    def mutate(_: Snapshot, __: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
        return replace(decision, forecast_rpm=float(next(calls))), after

    return mutate


def live_in_the_future(seen: Snapshot, _: Fleet, decision: Decision, after: State) -> tuple[Decision, State]:
    """A mode that begins tomorrow."""
    return decision, replace(after, mode_since=seen.at + 86400)


WRONG: tuple[tuple[str, Mutate], ...] = (
    ("valid-weights", overweight),
    ("something-serves", silence),
    ("no-dead-weight", feed_the_dead),
    ("fails-open", cut_off),
    ("no-shrinking-under-traffic", shrink_all),
    ("refusal-takes-no-weight", punish_refusals),
    ("ramp", jump),
    ("limits", outgrow),
    ("budget", grow_all),
    ("budget", keep_silent),
    ("stale-holds", shrink_all),
    ("stale-holds", grow_all),
    ("refusal-caps", grow_all),
    ("pace", purge),
    ("right-node", purge),
    ("breaker", purge),
    ("only-shortage-flips", flip),
    ("errors-hide-latency", believe_errors),
    ("same-again", change_its_mind()),
    ("nothing-from-the-future", live_in_the_future),
)


def mutated(mutate: Mutate) -> Decide:
    """The loop's decisions, made wrong."""

    def decide_wrongly(seen: Snapshot, before: State, fleet: Fleet) -> tuple[Decision, State]:
        return mutate(seen, fleet, *decide(seen, before, fleet))

    return decide_wrongly


@pytest.mark.parametrize(("rule", "mutate"), WRONG)
def test_the_check_of_every_rule_can_fail(rule: str, mutate: Mutate) -> None:
    """A wrong decision is found by the check of the rule that it breaks, within a few histories."""
    wrong = (
        found
        for seed in range(30)
        for tick in History(seed, mutated(mutate)).run(60)
        for found in RULES[rule].broken(tick)
    )

    assert next(wrong, None) is not None


def test_every_rule_is_known_to_fail() -> None:
    """No check is taken on trust."""
    assert {rule for rule, _ in WRONG} == set(RULES)
