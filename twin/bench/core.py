"""How fast and how well the loop's core does on its own: decisions, forecasts and its rules."""

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

import numpy as np

from control_lambda import loop
from control_lambda.core.decide import decide
from control_lambda.core.demand import forecast
from control_lambda.core.demand.counts import LATENESS_SECONDS
from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.model import Decision, DemandMemory, Snapshot, State
from control_lambda.core.outlook import TICK_SECONDS
from control_lambda.core.record import Answer
from control_lambda.fleet_file import load_fleet
from twin import traces
from twin.bench import histories
from twin.bench.scenarios import ROOT, SETTINGS, data_folder
from twin.steering.replay import UNSCORED_MINUTES, replay
from twin.steering.steering import CoreSteering, Steering
from twin.world.trace import CapacityTrace, Demand, DemandOptions, PoolColumn, PriceTrace
from twin.world.world import EPOCH, Scenario, World

SEED: Final = 1
# Minutes from the last counted one until a node that takes ten minutes to start would serve.
RECORDED_HORIZON: Final = 13

# Decisions are slowest on the widest fleet: five units in both markets.
WIDE_FLEET: Final = ROOT / "fleets" / "spot-twins.yaml"
WIDE_NODES: Final = 100
WIDE_SCALE: Final = 25.0  # some 300 nodes at the shipped day's peak, of 1,000
WIDE_COLUMNS: Final = (("inf2-neuron-spot", "inf2"), ("g5-inductor-spot", "g5"))

Question = tuple[Snapshot, State, Fleet]


@dataclass(frozen=True, slots=True)
class DecisionTimes:
    """Processor time of `decide` in milliseconds, over so many decisions; `nodes` were billed at most."""

    decisions: int
    pools: int
    nodes: int
    mean_ms: float
    p99_ms: float

    def told(self) -> str:
        """The outcome in a few words."""
        return f"mean {self.mean_ms:.2f} ms, p99 {self.p99_ms:.2f} ms over {self.decisions:,} decisions"


@dataclass(frozen=True, slots=True)
class DecisionTimesJob:
    """Time the decisions on the shipped day with ten pools of 100 nodes."""

    minutes: int | None = None

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return "decision time"

    def run(self) -> DecisionTimes:
        """Replay the day, then take all its decisions again, one after the other, and time each."""
        wide = wide_scenario(self.minutes)
        asked: list[Question] = []

        def steer(world: World) -> Steering:
            return _NotingSteering(world, asked)

        run = replay(wide, "merit-order", steer)
        milliseconds = np.array(_seconds_of(asked)) * 1000
        return DecisionTimes(
            decisions=len(milliseconds),
            pools=len(wide.fleet.pools),
            nodes=max(sum(past.nodes.values()) for past in run.past),
            mean_ms=float(milliseconds.mean()),
            p99_ms=float(np.percentile(milliseconds, 99)),
        )


@dataclass(frozen=True, slots=True)
class ForecastErrors:
    """Mean absolute (rpm) and mean squared error (rpm²) at the horizon, of the forecast and last value."""

    job: "ForecastJob"
    minutes: int
    mae: float
    mae_last_value: float
    mse: float
    mse_last_value: float

    def told(self) -> str:
        """The outcome in a few words."""
        mae, mse = self.mae / self.mae_last_value, self.mse / self.mse_last_value
        return f"MAE {mae:.2f} and MSE {mse:.2f} of the last value's"


@dataclass(frozen=True, slots=True)
class ForecastJob:
    """Hold the forecast against the last value on the demand of one scenario, or on a trace as recorded.

    `horizon` is in minutes from the last counted one.
    """

    name: str
    demand: str
    options: DemandOptions
    horizon: int

    def run(self) -> ForecastErrors:
        """Forecast every minute from those before it."""
        path = data_folder() / self.demand
        counts = Demand.read(path, self.options, seed=SEED, epoch=EPOCH).rpm()
        return forecast_errors(self, counts.tolist())


@dataclass(frozen=True, slots=True)
class Histories:
    """How many random histories were tried, and what broke a rule in them."""

    count: int
    violations: tuple[str, ...]

    def told(self) -> str:
        """The outcome in a few words."""
        return f"{len(self.violations)} violations in {self.count:,} histories"


@dataclass(frozen=True, slots=True)
class HistoriesJob:
    """Hold the loop against its rules in random histories."""

    count: int
    seed: int

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"random histories, seed {self.seed}"

    def run(self) -> Histories:
        """Try them."""
        violations = histories.run_histories(self.count, self.seed, lambda *_: None)
        return Histories(self.count, tuple(violations))


def forecast_jobs(scenarios: Sequence[str], minutes: int | None = None) -> list[ForecastJob]:
    """The traces as they were recorded, then the demand of the given scenarios; cut short at `minutes`."""
    plain = DemandOptions(minutes=minutes)
    recorded = [
        ForecastJob("sd_rpm as recorded", "dev/sd_rpm.csv", plain, RECORDED_HORIZON),
        ForecastJob("twitter_rpm as recorded", "dev/twitter_rpm.csv", plain, RECORDED_HORIZON),
    ]
    return recorded + [
        ForecastJob(name, SETTINGS[name].demand, _cut(SETTINGS[name].options, minutes), _horizon(name))
        for name in scenarios
    ]


def forecast_errors(job: ForecastJob, counts: Sequence[float]) -> ForecastErrors:
    """The errors of `demand.forecast` and of the last value; the first minutes are not scored."""
    memory = DemandMemory()
    made = np.zeros(len(counts))
    for index, count in enumerate(counts):
        start = EPOCH + 60 * index
        memory = forecast.observe(memory, {start: float(count)}, job.horizon)
        seen_at = start + 60 + LATENESS_SECONDS
        made[index] = forecast.look_ahead(memory, seen_at, job.horizon, miss_share=0.01).mean
    came = np.asarray(counts, dtype=np.float64)
    actual = came[UNSCORED_MINUTES + job.horizon :]
    ours, last = (values[UNSCORED_MINUTES : -job.horizon] for values in (made, came))
    return ForecastErrors(
        job=job,
        minutes=len(actual),
        mae=float(np.abs(ours - actual).mean()),
        mae_last_value=float(np.abs(last - actual).mean()),
        mse=float(np.square(ours - actual).mean()),
        mse_last_value=float(np.square(last - actual).mean()),
    )


def wide_scenario(minutes: int | None = None) -> Scenario:
    """The shipped day at a scale that needs hundreds of nodes, on ten pools of 100; two of them get short."""
    fleet = _wide_fleet()
    options = DemandOptions(scale=WIDE_SCALE, minutes=minutes)
    columns = [PoolColumn(pool, column) for pool, column in WIDE_COLUMNS]
    return Scenario(
        fleet=fleet,
        demand=Demand.read(traces.DEMAND, options, seed=SEED, epoch=EPOCH),
        capacity=CapacityTrace.read(traces.CAPACITY, fleet, columns),
        prices=PriceTrace({}),
        seed=SEED,
    )


def _cut(options: DemandOptions, minutes: int | None) -> DemandOptions:
    return options if minutes is None else replace(options, minutes=minutes)


def _horizon(name: str) -> int:
    """From the last counted minute to when a node launched now serves, in minutes."""
    return ceil((LATENESS_SECONDS + TICK_SECONDS + SETTINGS[name].start_seconds) / 60)


def _wide_fleet() -> Fleet:
    raw = load_fleet(WIDE_FLEET).model_dump(mode="json", exclude_defaults=True)
    raw["budget_usd_per_hour"] = 100_000.0
    for unit in raw["units"]:
        for pool in unit["pools"]:
            pool["nodes"] = {"min": 0, "max": WIDE_NODES}
    return parse_fleet(raw)


def _seconds_of(asked: Sequence[Question]) -> list[float]:
    """The processor time of each decision, without collecting the garbage that the replay has left."""
    gc.collect()
    gc.freeze()
    seconds = []
    for snapshot, state, fleet in asked:
        began = time.process_time()
        decide(snapshot, state, fleet)
        seconds.append(time.process_time() - began)
    gc.unfreeze()
    return seconds


class _NotingSteering(CoreSteering):
    """The loop over in-memory ports, which notes what it has to decide."""

    def __init__(self, world: World, asked: list[Question]) -> None:
        super().__init__(world)
        self._asked = asked

    def _tick(self, event: Mapping[str, Any]) -> Answer:
        return loop.tick(event, self._ports, self._ports, self._ports, self._decide)

    def _decide(self, snapshot: Snapshot, state: State, fleet: Fleet) -> tuple[Decision, State]:
        self._asked.append((snapshot, state, fleet))
        return decide(snapshot, state, fleet)
