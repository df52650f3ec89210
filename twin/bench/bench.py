"""`make bench`: every figure of docs/evaluation.md, measured again, two jobs at a time."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from rich.console import Console

from control_lambda.core.demand import worth
from twin.bench.cases import CASES, CaseJob, Struck
from twin.bench.core import (
    DecisionTimes,
    DecisionTimesJob,
    ForecastErrors,
    ForecastJob,
    Histories,
    HistoriesJob,
    forecast_jobs,
)
from twin.bench.matrix import MatrixJob, MatrixRow, matrix_jobs
from twin.bench.replays import OURS, POLLING, Bounded, BoundJob, Replayed, ReplayJob
from twin.bench.scenarios import NAMES, data_folder
from twin.bench.tables import TARGETS, Results, tables
from twin.errors import InputError
from twin.report import results as files
from twin.steering.baselines import BASELINES
from twin.world.trace import TraceError
from twin.world.world import ServersRule

PROCESSES: Final = 2
DONE: Final = 0
BROKEN: Final = 1
RESULTS: Final = "results.json"
TABLES: Final = "results.md"

# One day at ten times the size of anything else: ours alone, once.
LARGEST: Final = "D2X"
# Where nodes are lost most often.
FAILOVER_SCENARIO: Final = "D4"
WORTHS: Final = (4.0, 24.0)
HISTORIES_AT_ONCE: Final = 250
SERVERS: Final[tuple[ServersRule, ...]] = ("refuse", "queue")

Job = ReplayJob | BoundJob | DecisionTimesJob | ForecastJob | HistoriesJob | CaseJob | MatrixJob
Outcome = Replayed | Bounded | DecisionTimes | ForecastErrors | Histories | Struck | MatrixRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What is measured: on which scenarios, with how many seeds, against which baselines.

    `minutes` cuts every replay short (None: whole); `worths` are the values of a late request that are
    swept; `histories` is how many random ones are tried; `trouble` whether the cases of trouble are, and
    every kind of it on several fleets.
    """

    scenarios: Sequence[str] = NAMES
    seeds: int = 5
    policies: Sequence[str] = tuple(BASELINES)
    minutes: int | None = None
    worths: Sequence[float] = WORTHS
    histories: int = 10_000
    trouble: bool = True

    def check(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            InputError: naming the choice and what would be valid.
        """
        for what, given, valid in (
            ("scenarios", self.scenarios, NAMES),
            ("policies", self.policies, tuple(BASELINES)),
        ):
            unknown = [name for name in given if name not in valid]
            if unknown:
                raise InputError(f"{what}: {unknown[0]!r}; valid: {', '.join(valid)}")
        if self.seeds < 1:
            raise InputError(f"seeds: {self.seeds}; valid: a whole number of 1 or more")
        if self.histories < 0:
            raise InputError(f"histories: {self.histories}; valid: a whole number of 0 or more")


FULL: Final = Choices()
QUICK: Final = Choices(
    seeds=1, policies=("sample-loop", "reactive"), minutes=60, worths=(), histories=20, trouble=False
)


def run(out: Path, choices: Choices = FULL) -> int:
    """Measure, print the tables and write `results.json` and `results.md` to `out`.

    The exit code: 1 when a rule was broken in a random history, else 0, targets reached or not.

    Raises:
        InputError: a choice is not valid, or `out` cannot be written.
    """
    choices.check()
    files.check_out(out)
    console = Console(highlight=False, soft_wrap=True)
    results = gathered(_measured(_jobs(choices, console), console))
    text = tables(results)
    written = {RESULTS: json.dumps(asdict(results), indent=1) + "\n", TABLES: text}
    files.write_files(out, written)
    console.print(f"\n{text}", markup=False)
    for broken in (violation for one in results.histories for violation in one.violations):
        console.print(f"rule broken: {broken}", markup=False)
    console.print(f"Next: the tables are in {out / TABLES}, every figure is in {out / RESULTS}.")
    return BROKEN if any(one.violations for one in results.histories) else DONE


def gathered(outcomes: Sequence[Outcome]) -> Results:
    """The outcomes by kind, each kind in the order in which its jobs were listed."""
    return Results(
        replays=tuple(one for one in outcomes if isinstance(one, Replayed)),
        bounds=tuple(one for one in outcomes if isinstance(one, Bounded)),
        decisions=tuple(one for one in outcomes if isinstance(one, DecisionTimes)),
        forecasts=tuple(one for one in outcomes if isinstance(one, ForecastErrors)),
        histories=tuple(one for one in outcomes if isinstance(one, Histories)),
        cases=tuple(one for one in outcomes if isinstance(one, Struck)),
        matrix=tuple(one for one in outcomes if isinstance(one, MatrixRow)),
    )


def jobs_for(choices: Choices) -> list[Job]:
    """All jobs. Random histories come first: a loop that breaks in them is not worth measuring."""
    return [*_own_jobs(choices), *_recorded_jobs(choices)]


def _jobs(choices: Choices, console: Console) -> list[Job]:
    try:
        data_folder()
    except TraceError as error:
        console.print(f"Without recorded data no replay and no forecast can be measured ({error}).")
        return _own_jobs(choices)
    return jobs_for(choices)


def _recorded_jobs(choices: Choices) -> list[Job]:
    minutes = choices.minutes
    jobs: list[Job] = []
    for name in choices.scenarios:
        seeds = 1 if name == LARGEST else choices.seeds
        policies = () if name == LARGEST else choices.policies
        worths = choices.worths if name in TARGETS else ()
        jobs += [ReplayJob(name, OURS, seed, minutes) for seed in range(1, seeds + 1)]
        jobs += [ReplayJob(name, policy, 1, minutes) for policy in policies]
        jobs += [ReplayJob(name, OURS, 1, minutes, value) for value in worths if value != worth.WORTH]
        jobs.append(BoundJob(name, 1, minutes))
    if FAILOVER_SCENARIO in choices.scenarios:
        jobs.append(ReplayJob(FAILOVER_SCENARIO, POLLING, 1, minutes))
    return jobs + list(forecast_jobs([name for name in choices.scenarios if name != LARGEST], minutes))


def _own_jobs(choices: Choices) -> list[Job]:
    """The jobs that need no recorded data."""
    begins = range(0, choices.histories, HISTORIES_AT_ONCE)
    batches = [HistoriesJob(min(HISTORIES_AT_ONCE, choices.histories - begin), begin) for begin in begins]
    return [DecisionTimesJob(choices.minutes), *batches, *_trouble_jobs(choices)]


def _trouble_jobs(choices: Choices) -> list[Job]:
    if not choices.trouble:
        return []
    return [*(CaseJob(case, servers) for case in CASES for servers in SERVERS), *matrix_jobs()]


def _measured(jobs: Sequence[Job], console: Console) -> list[Outcome]:
    """The outcomes in the order of the jobs; a line is printed as each is done."""
    console.print(f"{len(jobs)} jobs, {PROCESSES} at a time")
    began = time.monotonic()
    # What is timed runs first and alone.
    timed = [_outcome(job) for job in jobs if isinstance(job, DecisionTimesJob)]
    # Spawned, not forked: a fork would inherit the locks of numba's and rich's threads.
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_outcome, job): job for job in jobs if not isinstance(job, DecisionTimesJob)}
        for number, future in enumerate(as_completed(waiting), 1):
            minutes = (time.monotonic() - began) / 60
            told = f"{waiting[future].name}: {future.result().told()}"
            console.print(f"{number} of {len(jobs)}, {minutes:.0f} min: {told}", markup=False)
        return [*timed, *(future.result() for future in waiting)]


def _outcome(job: Job) -> Outcome:
    return job.run()
