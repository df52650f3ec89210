"""The cases of trouble: situations that operators have reported, each with its bar, replayed.

Their files stand in twin/traces/trouble; steady demand is `world.steady`'s. Attainment and cost are over
minutes [begin, end) from the replay's first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from control_lambda.core.fleet import Fleet
from control_lambda.fleet_file import load_fleet
from twin import traces
from twin.bench.scenarios import ROOT
from twin.steering.replay import replay
from twin.steering.steering import CoreSteering
from twin.world.steady import Levels, steady
from twin.world.trace import CapacityTrace, Demand, PriceTrace
from twin.world.trouble import NO_TROUBLE, Trouble
from twin.world.world import EPOCH, Past, Scenario, ServersRule

TROUBLE: Final = Path(traces.__file__).parent / "trouble"
FLEETS: Final = TROUBLE / "fleets"
HOUR: Final = 60


@dataclass(frozen=True, slots=True)
class Case:
    """One situation: `levels` None is the shipped day; `attainment` is what [begin, end) has to reach.

    `most_usd_per_hour` is what (first minute, last minute, USD per hour) may cost, `calm` how many times as
    much as without trouble; `ready` the pool and the nodes that have to be ready no later than so many
    minutes after they are without trouble. `servers` are the worlds in which the bar holds.
    """

    fleet: Path
    levels: Levels | None
    minutes: int
    begin: int
    end: int
    attainment: float
    most_usd_per_hour: tuple[int, int, float] | None = None
    calm: float | None = None
    ready: tuple[str, int, int] | None = None


DEFAULT: Final = ROOT / "fleet.yaml"
GPUS: Final = FLEETS / "standing-gpus.yaml"
CASES: Final[Mapping[str, Case]] = {
    "dead-nodes": Case(DEFAULT, [(0, 600)], 360, 210, 360, 0.99, calm=1.10),
    "hung-boots": Case(DEFAULT, [(0, 500), (180, 900)], 360, 220, 360, 0.99),
    "one-sense-fails": Case(GPUS, [(0, 400)], 240, 123, 150, 0.90),
    "table-down": Case(GPUS, [(0, 400)], 240, 120, 165, 0.92),
    "counts-late": Case(DEFAULT, [(0, 1000)], 360, 15, 360, 0.99),
    "checks-fail": Case(DEFAULT, [(0, 500)], 240, 120, 125, 0.99),
    "one-zone-refuses": Case(
        FLEETS / "inf2-alone.yaml",
        [(0, 500), (120, 1200)],
        240,
        0,
        120,
        0.0,
        ready=("inf2-neuron-on-demand", 12, 2),
    ),
    "profile-wrong": Case(DEFAULT, None, 1440, 15, 1440, 0.97),
    "maximum-lowered": Case(DEFAULT, [(0, 300), (120, 900)], 240, 145, 240, 0.99),
    # Eight inf2 nodes would do, at 6.07 USD per hour.
    "full-budget": Case(
        FLEETS / "small-budget.yaml",
        [(0, 700)],
        720,
        360,
        720,
        0.99,
        most_usd_per_hour=(360, 720, 6.07 * 1.05),
    ),
    "suspended-on-purpose": Case(DEFAULT, [(0, 300), (120, 700)], 240, 145, 240, 0.99),
    "spot-pool-gone": Case(
        ROOT / "fleets" / "spot-twins.yaml",
        [(0, 800)],
        480,
        240,
        300,
        0.90,
        most_usd_per_hour=(60, 240, 2.52),
    ),
}


@dataclass(frozen=True, slots=True)
class CaseJob:
    """One case in the world of one kind of servers."""

    case: str
    servers: ServersRule
    seed: int = 1

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"{self.case}, servers {self.servers}"

    def run(self) -> "Struck":
        """Replay it, and without trouble where the bar compares with that."""
        case, fleet = CASES[self.case], load_fleet(CASES[self.case].fleet)
        trouble = Trouble.read(TROUBLE / f"{self.case}.yaml", fleet, case.minutes)
        past = self._replayed(fleet, case, trouble)
        calm = self._replayed(fleet, case, NO_TROUBLE) if case.calm or case.ready else past
        attained = attainment(past[case.begin : case.end], fleet)
        return Struck(self, attained, case.attainment, _missed(case, past, calm))

    def _replayed(self, fleet: Fleet, case: Case, trouble: Trouble) -> Sequence[Past]:
        scenario = Scenario(
            fleet,
            demand_of(case.levels, case.minutes, self.seed),
            CapacityTrace({}),
            PriceTrace({}),
            self.seed,
            trouble=trouble,
            servers=self.servers,
        )
        return replay(scenario, "merit-order", CoreSteering).past


@dataclass(frozen=True, slots=True)
class Struck:
    """What a case reached within its minutes, its bar, and what else was missed (empty: nothing)."""

    job: CaseJob
    attainment: float
    bar: float
    missed: str

    @property
    def reached(self) -> bool:
        """Whether all that the case asks for was reached."""
        return self.attainment >= self.bar and not self.missed

    def told(self) -> str:
        """The outcome in a few words."""
        verdict = "reached" if self.reached else "MISSED"
        return f"{self.attainment:.1%} of {self.bar:.0%}, {verdict}{': ' if self.missed else ''}{self.missed}"


def demand_of(levels: Levels | None, minutes: int, seed: int) -> Demand:
    """Steady demand at the levels, or the shipped day."""
    if levels is None:
        return Demand.read(traces.DEMAND, seed=seed, epoch=float(EPOCH))
    return Demand(np.array(steady(levels, minutes), dtype=np.int64), seed=seed, epoch=float(EPOCH))


def attainment(past: Sequence[Past], fleet: Fleet) -> float:
    """The share of the minutes' requests that were answered within the objective; 1 without requests."""
    requests = sum(len(minute.latency) for minute in past)
    attained = sum(
        int(np.count_nonzero(minute.latency <= fleet.objective.latency_seconds)) for minute in past
    )
    return attained / requests if requests else 1.0


def usd_per_hour(past: Sequence[Past]) -> float:
    """What the minutes cost, by the hour."""
    return sum(minute.cost_usd for minute in past) / len(past) * HOUR


def _missed(case: Case, past: Sequence[Past], calm: Sequence[Past]) -> str:
    """What of cost and readiness the case asks for and the replay missed, in words."""
    if case.most_usd_per_hour is not None:
        begin, end, most = case.most_usd_per_hour
        cost = usd_per_hour(past[begin:end])
        if cost > most:
            return f"{cost:.2f} USD per hour, at most {most:.2f}"
    if case.calm is not None:
        cost, usual = usd_per_hour(past[-HOUR:]), usd_per_hour(calm[-HOUR:])
        if cost > case.calm * usual:
            return f"{cost:.2f} USD per hour in the last hour, {usual:.2f} without trouble"
    if case.ready is not None:
        pool, nodes, later = case.ready
        at, usual_at = _ready_at(past, pool, nodes), _ready_at(calm, pool, nodes)
        if at > usual_at + later:
            return f"{nodes} nodes ready at minute {at}, {usual_at} without trouble"
    return ""


def _ready_at(past: Sequence[Past], pool: str, nodes: int) -> int:
    return next((place for place, minute in enumerate(past) if minute.ready[pool] >= nodes), len(past))
