"""The diffusion case: what mixing and matching save on recorded Stable Diffusion requests.

Query sizes are images x steps of the recorded requests, rounded up to the laboratory's next size; service
times are each unit's `service_seconds` for one image of thirty steps, in proportion to size, spread by
5 % as in the twin's plant. Both are assumptions. The promise is the laboratory's: 99 % within the target.
Weights alone are what the load balancer does without the router: rows are tuned for the mix, and inside a
type the node with the fewest queries takes the next.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from control_lambda.core.fleet import Fleet
from control_lambda.core.mix.mix import best_mix, homogeneous
from control_lambda.core.mix.model import Problem, Sizes
from control_lambda.fleet_file import load_fleet
from twin.bench.scenarios import ROOT
from twin.mixes.jobs import KAIROS, LABELS, OURS, Measured, Size, label
from twin.mixes.samples import SIZE_STEP, Latencies, data_file
from twin.mixes.samples import SIZES as LABORATORY_SIZES
from twin.mixes.search import Laboratory, Mix, Trial
from twin.mixes.simulator import Distributor
from twin.mixes.workload import Workload, draw
from twin.plan.inputs import fleet_problem
from twin.plan.sizes import read_requests, up_to
from twin.plan.words import named
from twin.world.plant import SPREAD

FLEET: Final = ROOT / "fleet.yaml"
REQUESTS: Final = Path("dev", "sd_requests.csv")
PROFILE_SIZE: Final = 30.0  # service_seconds stand for one image of thirty steps
LARGEST: Final = 320.0  # eight images of forty steps; 0.3 % of the recorded requests are larger
PERCENTILE: Final = 99.0  # the laboratory's
SAMPLES: Final = 99  # of each size's service time
TOLERANCE: Final = 0.01
MINUTE: Final = 60.0
LEAST_OUTSTANDING: Final = Trial(distributor=Distributor.LEAST_OUTSTANDING)
ONE_ROW: Final = "one row of weights"
ROW_BY_SIZE: Final = "a row by size"


@dataclass(frozen=True, slots=True)
class Case:
    """A promise, a budget, and how many nodes of a unit can be had at most (others: as in the fleet file)."""

    name: str
    latency_seconds: float
    budget_usd_per_hour: float
    most: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OnRequests:
    """What one mix carries in a case, requests per minute: estimated, and measured by distributor."""

    case: str
    mix: str
    cost_usd_per_hour: float
    estimated_rpm: float
    measured_rpm: Mapping[str, Measured]


@dataclass(frozen=True, slots=True)
class Diffusion:
    """A case's mixes: ours, then the best of one type if that is another one."""

    outcomes: tuple[OnRequests, ...]

    def told(self) -> str:
        """The outcome in a few words."""
        first = self.outcomes[0]
        return f"ours {first.measured_rpm[label(OURS)].mean:.4g} requests a minute on {first.mix}"


@dataclass(frozen=True, slots=True)
class DiffusionJob:
    """Measure our mix and the best homogeneous one under every distributor."""

    case: Case
    size: Size
    fleet: Path
    requests: Path

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"recorded requests, {self.case.name}"

    def run(self) -> Diffusion:
        """Both mixes, with all seeds.

        Raises:
            FleetError: the fleet file cannot be used.
            InputError: the requests cannot be used, or the fleet cannot serve them within the latency.
            MixError: the budget does not pay for one base node.
        """
        sizes = rounded_up(up_to(read_requests(self.requests), LARGEST))
        problem = _problem(self.case, self.fleet, sizes)
        budget = self.case.budget_usd_per_hour
        chosen = {choice.mix: choice for choice in (best_mix(problem, budget), homogeneous(problem, budget))}
        return Diffusion(
            tuple(
                OnRequests(
                    case=self.case.name,
                    mix=named(problem, mix),
                    cost_usd_per_hour=choice.cost_usd_per_hour,
                    estimated_rpm=choice.throughput_rpm,
                    measured_rpm=_measured(problem, mix, choice.throughput_rpm, self.size),
                )
                for mix, choice in chosen.items()
            )
        )


def rounded_up(sizes: Sizes) -> Sizes:
    """The sizes that the laboratory has: the next multiple of its step."""
    steps = (float(np.ceil(size / SIZE_STEP) * SIZE_STEP) for size in sizes.values)
    return Sizes.counted(list(zip(steps, sizes.shares, strict=True)))


def cases(fleet: Fleet) -> Iterator[Case]:
    """Ten USD per hour and the fleet's budget; all nodes to be had, and the first unit's short."""
    first = fleet.units[0]
    some = {first.name: max(1, sum(pool.nodes.max for pool in first.pools) // 10)}
    small, whole = 10.0, fleet.budget_usd_per_hour
    for seconds in (6.0, 5.0):
        yield Case(f"10 USD/h within {seconds:g} s", seconds, small, {})
        yield Case(f"10 USD/h within {seconds:g} s, {first.name} short", seconds, small, some)
    yield Case(f"{whole:g} USD/h within 6 s, {first.name} short", 6.0, whole, some)


def jobs(size: Size) -> list[DiffusionJob]:
    """One for each case of the shipped fleet.

    Raises:
        FleetError: the fleet file cannot be used.
        InputError: the recorded requests are absent.
    """
    requests = data_file(REQUESTS)
    return [DiffusionJob(case, size, FLEET, requests) for case in cases(load_fleet(FLEET))]


def _problem(case: Case, fleet: Path, sizes: Sizes) -> Problem:
    whole = fleet_problem(fleet, load_fleet(fleet), sizes, PROFILE_SIZE, case.latency_seconds)
    types = tuple(
        replace(kind, most=min(kind.most, case.most.get(kind.name, kind.most))) for kind in whole.types
    )
    return replace(whole, types=types, percentile=PERCENTILE)


def _laboratory(problem: Problem, queries: int, seeds: int) -> Laboratory:
    """The units on the laboratory's sizes, and workloads of the problem's sizes."""
    random = np.random.default_rng(0)
    largest = problem.sizes.values[-1]
    slowest = np.array([kind.seconds[-1] / largest for kind in problem.types])
    luck = np.maximum(
        1.0 + SPREAD * random.standard_normal((len(slowest), len(LABORATORY_SIZES), SAMPLES)), 0.1
    )
    seconds = slowest[:, np.newaxis, np.newaxis] * LABORATORY_SIZES[np.newaxis, :, np.newaxis] * luck
    workloads = [_workload(problem.sizes, queries, seed) for seed in range(1, seeds + 1)]
    return Laboratory(Latencies(problem.latency_seconds, seconds), workloads)


def _workload(sizes: Sizes, queries: int, seed: int) -> Workload:
    drawn = np.random.default_rng((seed, 1)).choice(np.array(sizes.values), queries, p=np.array(sizes.shares))
    return replace(draw(queries, seed), sizes=drawn)


def _measured(problem: Problem, mix: Mix, guess_rpm: float, size: Size) -> dict[str, Measured]:
    """Requests per minute by distributor, one for each seed; weights are tuned on the first one."""
    rough, exact = _laboratory(problem, size.queries, 1), _laboratory(problem, size.queries, size.seeds)
    trials = {
        ONE_ROW: rough.with_weights(mix, by_size=False),
        ROW_BY_SIZE: rough.with_weights(mix, by_size=True),
        LABELS[LEAST_OUTSTANDING.distributor]: LEAST_OUTSTANDING,
        label(KAIROS): KAIROS,
        label(OURS): OURS,
    }
    by_distributor = {}
    for name, trial in trials.items():
        rates = exact.throughputs(mix, trial, tolerance=TOLERANCE, guess=guess_rpm / MINUTE)
        by_distributor[name] = Measured(mix, tuple(MINUTE * rate for rate in rates))
    return by_distributor
