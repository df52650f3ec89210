"""The diffusion case: what mixing and matching save on recorded Stable Diffusion requests.

Query sizes are images x steps of the recorded requests, rounded up to the laboratory's next size; service
times are each unit's `service_seconds` for one image of thirty steps, in proportion to size, spread by
5 % as in the twin's plant. Both are assumptions. The promise is the laboratory's: 99 % within the target.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from control_lambda.core.fleet import Fleet, FleetError
from control_lambda.core.mix import best_mix, homogeneous
from control_lambda.core.mix_model import MixError, Problem, Sizes
from control_lambda.fleet_file import load_fleet
from twin import results
from twin.errors import InputError
from twin.mixes.jobs import LABELS, Measured
from twin.mixes.samples import SIZE_STEP, Latencies
from twin.mixes.samples import SIZES as LABORATORY_SIZES
from twin.mixes.search import Laboratory, Mix, Trial
from twin.mixes.simulator import Distributor
from twin.mixes.workload import Workload, draw
from twin.plan_inputs import fleet_problem
from twin.plan_sizes import read_requests, up_to
from twin.plan_words import named
from twin.plant import SPREAD

PROGRAM: Final = "python -m twin.plan_diffusion"
BAD_INPUT: Final = 2
PROFILE_SIZE: Final = 30.0  # service_seconds stand for one image of thirty steps
LARGEST: Final = 320.0  # eight images of forty steps; 0.3 % of the recorded requests are larger
PERCENTILE: Final = 99.0  # the laboratory's
SAMPLES: Final = 99  # of each size's service time
TOLERANCE: Final = 0.01
MINUTE: Final = 60.0
LEAST_RPM: Final = 1.0  # a mix that carries less is late with queries that come alone
DISTRIBUTORS: Final = (
    Distributor.WEIGHTED_RANDOM,
    Distributor.LEAST_OUTSTANDING,
    Distributor.FIRST_COME,
    Distributor.KAIROS,
    Distributor.LEAST_LAXITY,
)
OUT: Final = "diffusion.json"


@dataclass(frozen=True, slots=True)
class Case:
    """A promise, a budget, and how many nodes of a unit can be had at most (others: as in the fleet file)."""

    name: str
    latency_seconds: float
    budget_usd_per_hour: float
    most: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one mix carries in a case, requests per minute: estimated, and measured by distributor."""

    case: str
    mix: str
    cost_usd_per_hour: float
    estimated_rpm: float
    measured_rpm: Mapping[str, float]
    spread_rpm: Mapping[str, float]


def measure(case: Case, fleet: Fleet, path: Path, sizes: Sizes, queries: int, seeds: int) -> list[Outcome]:
    """The planner's mix and the best homogeneous one under every distributor.

    Raises:
        InputError: the fleet cannot serve the sizes within the case's latency.
        MixError: the budget does not pay for one base node.
    """
    problem = _problem(case, fleet, path, sizes)
    laboratory = _laboratory(problem, queries, seeds)
    budget = case.budget_usd_per_hour
    chosen = {choice.mix: choice for choice in (best_mix(problem, budget), homogeneous(problem, budget))}
    outcomes = []
    for mix, choice in chosen.items():
        measured = _measured(laboratory, mix, choice.throughput_rpm)
        outcomes.append(
            Outcome(
                case=case.name,
                mix=named(problem, mix),
                cost_usd_per_hour=choice.cost_usd_per_hour,
                estimated_rpm=choice.throughput_rpm,
                measured_rpm={label: one.mean for label, one in measured.items()},
                spread_rpm={label: one.spread for label, one in measured.items()},
            )
        )
    return outcomes


def rounded_up(sizes: Sizes) -> Sizes:
    """The sizes that the laboratory has: the next multiple of its step."""
    steps = (float(np.ceil(size / SIZE_STEP) * SIZE_STEP) for size in sizes.values)
    return Sizes.counted(list(zip(steps, sizes.shares, strict=True)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the cases, print a table and write every figure; the process's exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--fleet", metavar="FILE", type=Path, default=Path("fleet.yaml"))
    parser.add_argument("--requests", metavar="CSV", type=Path, required=True, help="n_images and steps")
    parser.add_argument("--queries", metavar="N", type=int, default=6000, help="a run (default: 6000)")
    parser.add_argument("--seeds", metavar="N", type=int, default=5, help="(default: 5)")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        results.check_out(given.out)
        outcomes = run(given.fleet, given.requests, given.queries, given.seeds)
    except (FleetError, InputError, MixError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return BAD_INPUT
    text = json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n"
    results.write_files(given.out, {OUT: text})
    return 0


def run(path: Path, requests: Path, queries: int, seeds: int) -> list[Outcome]:
    """Measure every case of the fleet, telling each outcome as it comes.

    Raises:
        FleetError, InputError, MixError: an input cannot be used.
    """
    fleet = load_fleet(path)
    sizes = rounded_up(up_to(read_requests(requests), LARGEST))
    outcomes = []
    for case in cases(fleet):
        for outcome in measure(case, fleet, path, sizes, queries, seeds):
            outcomes.append(outcome)
            print(told(outcome), flush=True)
    return outcomes


def cases(fleet: Fleet) -> list[Case]:
    """Ten USD per hour and the fleet's budget; all nodes to be had, and the first unit's short."""
    first = fleet.units[0]
    some = {first.name: max(1, sum(pool.nodes.max for pool in first.pools) // 10)}
    small, whole = 10.0, fleet.budget_usd_per_hour
    return [
        Case("10 USD/h within 6 s", 6.0, small, {}),
        Case(f"10 USD/h within 6 s, {first.name} short", 6.0, small, some),
        Case("10 USD/h within 5 s", 5.0, small, {}),
        Case(f"10 USD/h within 5 s, {first.name} short", 5.0, small, some),
        Case(f"{whole:g} USD/h within 6 s, {first.name} short", 6.0, whole, some),
    ]


def told(outcome: Outcome) -> str:
    """An outcome in one line: requests per minute, and USD per 1,000 requests at that rate."""
    figures = ", ".join(
        f"{label} {rpm:,.0f} ({_usd_per_thousand(outcome, rpm)})"
        for label, rpm in outcome.measured_rpm.items()
    )
    return f"{outcome.case}: {outcome.mix}: estimated {outcome.estimated_rpm:,.0f}; {figures}"


def _usd_per_thousand(outcome: Outcome, rpm: float) -> str:
    if rpm < LEAST_RPM:
        return "keeps no promise"
    return f"${outcome.cost_usd_per_hour / (rpm * MINUTE) * 1000:.3f}"


def _problem(case: Case, fleet: Fleet, path: Path, sizes: Sizes) -> Problem:
    whole = fleet_problem(path, fleet, sizes, PROFILE_SIZE, case.latency_seconds)
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


def _measured(laboratory: Laboratory, mix: Mix, guess_rpm: float) -> dict[str, Measured]:
    """Requests per minute by distributor, one for each seed."""
    found = {}
    for distributor in DISTRIBUTORS:
        trial = Trial(distributor=distributor)
        rates = laboratory.throughputs(mix, trial, tolerance=TOLERANCE, guess=guess_rpm / MINUTE)
        found[LABELS[distributor]] = Measured(mix, tuple(MINUTE * rate for rate in rates))
    return found


if __name__ == "__main__":
    sys.exit(main())
