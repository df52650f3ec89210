"""Run a scenario under a controller, minute by minute, and measure what users and the bill see."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from math import inf
from operator import attrgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from control_lambda.core.fleet import Objective, Unit
from control_lambda.core.record import Answer, DecisionRecord
from control_lambda.core.traffic.weights import to_shares
from twin.steering.steering import Steering
from twin.world.trouble import Phase
from twin.world.world import Past, Scenario, World

# The first minutes start from an arbitrary state and are not scored.
UNSCORED_MINUTES: Final = 15
# Lambda reacts to an event within seconds: the event's way through EventBridge and two functions.
REACTION_SECONDS: Final = 2.0
# A unit's share that moves further than this in one tick is a flip.
FLIP_SHARE: Final = 0.20
# A launch refused by a reaction to a refusal ends here at the latest; back-off ends it after one.
REACTIONS_A_MINUTE: Final = 5

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Run:
    """What a replay leaves: minute by minute, decision by decision."""

    scenario: Scenario
    policy: str
    past: list[Past] = field(default_factory=list)
    records: list[DecisionRecord] = field(default_factory=list)
    tick_seconds: list[float] = field(default_factory=list)
    flips: int = 0
    node_launches: int = 0
    launches_refused: int = 0
    failover_seconds: list[float] = field(default_factory=list)
    failback_seconds: list[float] = field(default_factory=list)


def replay(
    scenario: Scenario,
    policy: str,
    steer: Callable[[World], Steering],
    progress: Progress | None = None,
) -> Run:
    """Replay the scenario; `steer` makes the controller for its world."""
    world = World(scenario)
    run = Run(scenario, policy)
    driver = _Driver(world, steer(world), run)
    for done in range(scenario.demand.minutes):
        world.begin_minute()
        driver.steer_minute()
        run.past.append(world.end_minute())
        if progress is not None:
            progress(done + 1, scenario.demand.minutes)
    run.node_launches = world.nodes.launches
    run.launches_refused = world.nodes.launches_refused
    return run


def summarise(run: Run, oracle_cost_usd: float | None = None) -> dict[str, Any]:
    """The measured figures of a run, its unscored beginning left out; seconds, USD and shares."""
    scored = run.past[UNSCORED_MINUTES:]
    latency = np.concatenate([past.latency for past in scored])
    objective = run.scenario.fleet.objective
    answered = latency[np.isfinite(latency)]
    attained = int(np.count_nonzero(latency <= objective.latency_seconds))
    cost = sum(past.cost_usd for past in scored)
    return {
        "policy": run.policy,
        "seed": run.scenario.seed,
        "minutes": len(scored),
        "requests": len(latency),
        "served": len(answered),
        "failed": len(latency) - len(answered),
        "slo_attainment": attained / len(latency) if len(latency) else None,
        **_percentiles(answered),
        "cost_usd": cost,
        "cost_per_thousand_usd": 1000 * cost / len(answered) if len(answered) else None,
        "oracle_cost_usd": oracle_cost_usd,
        "cost_over_oracle": cost / oracle_cost_usd if oracle_cost_usd else None,
        "flips": run.flips,
        "node_launches": run.node_launches,
        "launches_refused": run.launches_refused,
        "unmet_request_minutes": sum(_is_unmet(past, objective) for past in scored),
        "failover_seconds": run.failover_seconds,
        "failback_seconds": run.failback_seconds,
        "ticks": len(run.tick_seconds),
        "tick_ms_p50": _tick_ms(run, 50),
        "tick_ms_p99": _tick_ms(run, 99),
        "phases": _phases(run),
    }


def _phases(run: Run) -> list[dict[str, Any]]:
    """What users got and what it cost from one change of trouble to the next; unscored minutes count, too."""
    objective = run.scenario.fleet.objective
    return [
        _phase(phase, run.past[phase.begin : phase.end], objective)
        for phase in run.scenario.trouble.phases(len(run.past))
    ]


def _phase(phase: Phase, past: Sequence[Past], objective: Objective) -> dict[str, Any]:
    requests = sum(len(minute.latency) for minute in past)
    attained = sum(np.count_nonzero(minute.latency <= objective.latency_seconds) for minute in past)
    return {
        "name": phase.name,
        "from": phase.begin,
        "to": phase.end,
        "requests": requests,
        "failed": sum(minute.failed for minute in past),
        "slo_attainment": int(attained) / requests if requests else None,
        "cost_usd": sum(minute.cost_usd for minute in past),
    }


def _percentiles(latency: NDArray[np.float32]) -> dict[str, float | None]:
    names = {"p50_seconds": 50, "p95_seconds": 95, "p99_seconds": 99}
    if not len(latency):
        return dict.fromkeys(names)
    return {name: float(np.percentile(latency, percent)) for name, percent in names.items()}


def _is_unmet(past: Past, objective: Objective) -> bool:
    """Whether a smaller share of the minute's requests than promised met the objective."""
    met = np.count_nonzero(past.latency <= objective.latency_seconds)
    return bool(met < objective.attainment * len(past.latency))


def _tick_ms(run: Run, percent: float) -> float | None:
    return float(np.percentile(run.tick_seconds, percent)) * 1000 if run.tick_seconds else None


class _Driver:
    """Calls the controller when its time comes, and watches how fast it moves traffic away and back."""

    def __init__(self, world: World, steering: Steering, run: Run) -> None:
        self._world = world
        self._steering = steering
        self._run = run
        self._shares = to_shares(world.weights)
        self._dead_since: dict[str, float] = {}
        self._back_since: dict[str, float] = {}

    def steer_minute(self) -> None:
        """The scheduled tick, then one for each batch of announcements that follows."""
        announced = self._world.events()
        self._watch()
        for _ in range(self._world.strikes.ticks()):
            self._call(self._steering.schedule)
        announced += self._world.events()
        for _ in range(REACTIONS_A_MINUTE):
            if not announced:
                return
            self._world.advance(self._world.now + REACTION_SECONDS)
            for _, together in groupby(announced, key=attrgetter("at")):
                self._call(partial(self._steering.react, list(together)))
            announced = self._world.events()

    def _call(self, act: Callable[[], Answer | None]) -> None:
        began = time.perf_counter()
        answer = act()
        if isinstance(answer, DecisionRecord):
            self._run.tick_seconds.append(time.perf_counter() - began)
        self._note(answer)
        self._watch()

    def _note(self, answer: Answer | None) -> None:
        """Count a flip; the last unit that loses its weight, and the first that gets some, count too."""
        before, after = self._shares, to_shares(self._world.weights)
        units = {*before, *after}
        moved = max((abs(after.get(unit, 0.0) - before.get(unit, 0.0)) for unit in units), default=0.0)
        self._shares = after
        switched = False
        if isinstance(answer, DecisionRecord):
            previous = self._run.records[-1].mode if self._run.records else answer.mode
            switched = answer.mode is not previous
            self._run.records.append(answer)
        if switched or moved > FLIP_SHARE:
            self._run.flips += 1

    def _watch(self) -> None:
        """Time how long units without a staying node keep their weight, and how soon they get it back.

        A node whose interruption is announced does not stay. Traffic that has nowhere else to go is no
        delay.
        """
        staying = {unit.name for unit in self._world.fleet.units if self._has_staying_node(unit)}
        for unit in self._world.fleet.units:
            carries = self._world.weights.get(unit.name, 0) > 0
            self._watch_failover(unit.name, dead=unit.name not in staying and bool(staying), carries=carries)
            self._watch_failback(unit.name, stays=unit.name in staying, carries=carries)

    def _has_staying_node(self, unit: Unit) -> bool:
        now, nodes = self._world.now, self._world.nodes
        return any(node.noticed_at > now for pool in unit.pools for node in nodes.ready(pool.name))

    def _watch_failover(self, unit: str, *, dead: bool, carries: bool) -> None:
        if dead and carries:
            self._dead_since.setdefault(unit, self._world.now)
        elif (since := self._dead_since.pop(unit, None)) is not None and dead:
            self._run.failover_seconds.append(self._world.now - since)

    def _watch_failback(self, unit: str, *, stays: bool, carries: bool) -> None:
        if not stays:
            self._back_since[unit] = inf
        elif unit in self._back_since:
            self._back_since[unit] = since = min(self._back_since[unit], self._world.now)
            if carries:
                self._run.failback_seconds.append(self._world.now - since)
                del self._back_since[unit]
