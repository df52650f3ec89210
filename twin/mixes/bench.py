"""`make bench-kairos`: every figure about mixes and query distributors, measured again."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

from rich.console import Console

from twin.errors import InputError
from twin.mixes import diffusion
from twin.mixes.curves import Curves, CurvesJob
from twin.mixes.diffusion import Diffusion
from twin.mixes.jobs import (
    KAIROS,
    OURS,
    SWEPT,
    DecisionTime,
    DecisionTimeJob,
    Homogeneous,
    HomogeneousJob,
    OnMix,
    OnMixJob,
    Size,
    Sweep,
    SweepJob,
    ThresholdJob,
    label,
)
from twin.mixes.page import page
from twin.mixes.picks import Picks, picks
from twin.mixes.planning import (
    BUDGETS_USD_PER_HOUR,
    CATALOGUE_BUDGETS_USD_PER_HOUR,
    AtBudget,
    BudgetJob,
    LargeCatalogue,
    LargeCatalogueJob,
)
from twin.mixes.samples import MODELS
from twin.mixes.tables import MixResults, tables
from twin.report import results as files

PROCESSES: Final = 2
BAD_INPUT: Final = 2
PROGRAM: Final = "python -m twin.mixes.bench"
RESULTS, TABLES, PAGE = "results.json", "results.md", "report.html"


class Job(Protocol):
    """Something to measure in a process of its own."""

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        ...

    def run(self) -> "Outcome":
        """Measure it."""
        ...


Outcome = Sweep | OnMix | Homogeneous | DecisionTime | Curves | AtBudget | LargeCatalogue | Diffusion
OneKind = TypeVar("OneKind", bound=Outcome)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; the process's exit code: 2 when it was given something that cannot be used."""
    given = _parser().parse_args(arguments)
    try:
        models = [name.strip() for name in given.models.split(",")]
        run(given.out, models, Size(queries=given.queries, seeds=given.seeds))
    except InputError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


def run(out: Path, models: Sequence[str], size: Size) -> MixResults:
    """Measure the models, print the tables, and write them with every figure and the pictures to `out`.

    Raises:
        InputError: there is no such model, the recorded data is absent, or `out` cannot be written.
    """
    files.check_out(out)
    chosen = [picks(model) for model in models]
    first_jobs = list(_first_jobs(models, size))
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{len(models)} models, {size.seeds} seeds of {size.queries} queries, {PROCESSES} at a time"
    )
    with _Workers(console) as workers:
        first = workers.run(first_jobs)
        sweeps = _of_kind(first, Sweep)
        second = workers.run(list(_second_jobs(sweeps, chosen, size)))
    results = MixResults(
        picks=tuple(chosen),
        sweeps=(*sweeps, *_of_kind(second, Sweep)),
        homogeneous=tuple(_of_kind(first, Homogeneous)),
        on_mix=tuple(_of_kind(second, OnMix)),
        curves=tuple(_of_kind(second, Curves)),
        decisions=tuple(_of_kind(first, DecisionTime)),
        at_budget=tuple(_of_kind(first, AtBudget)),
        catalogues=tuple(_of_kind(first, LargeCatalogue)),
        diffusion=tuple(_of_kind(first, Diffusion)),
    )
    text = tables(results)
    written = {RESULTS: json.dumps(asdict(results), indent=1) + "\n", TABLES: text, PAGE: page(results)}
    files.write_files(out, written)
    console.print(f"\n{text}", markup=False)
    console.print(f"Next: the pictures are in {out / PAGE}, every figure is in {out / RESULTS}.")
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    every = ",".join(model.name for model in MODELS)
    parser.add_argument("--out", type=Path, default=Path("out/bench-kairos"), help="folder for the results")
    parser.add_argument("--models", default=every, help="the models, with commas between; default: all")
    parser.add_argument("--seeds", type=_positive, default=Size().seeds, help="workloads a throughput")
    parser.add_argument("--queries", type=_positive, default=Size().queries, help="queries a workload")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}; valid: a whole number of 1 or more")
    return number


def _first_jobs(models: Sequence[str], size: Size) -> Iterator[Job]:
    yield DecisionTimeJob()
    for model in models:
        yield from (SweepJob(model, trial, size) for trial in SWEPT)
        yield HomogeneousJob(model, size)
        yield from (BudgetJob(model, budget, size) for budget in BUDGETS_USD_PER_HOUR)
    yield from (LargeCatalogueJob(budget) for budget in CATALOGUE_BUDGETS_USD_PER_HOUR)
    yield from diffusion.jobs(size)


def _second_jobs(sweeps: Sequence[Sweep], chosen: Sequence[Picks], size: Size) -> Iterator[Job]:
    """What depends on which mixes carry most."""
    for one in chosen:
        best = {sweep.distributor: sweep for sweep in sweeps if sweep.model == one.model}
        ours, kairos = best[label(OURS)], best[label(KAIROS)]
        for mix in dict.fromkeys((ours.best.mix, one.ours, one.paper)):
            yield OnMixJob(one.model, mix, size)
        yield CurvesJob(one.model, ours.best.mix, size)
        finalists = tuple(measured.mix for measured in kairos.measured[: size.finalists])
        yield ThresholdJob(one.model, finalists, size)


def _of_kind(outcomes: Sequence[Outcome], kind: type[OneKind]) -> list[OneKind]:
    return [outcome for outcome in outcomes if isinstance(outcome, kind)]


class _Workers:
    """The processes; spawned, not forked: a fork would inherit the locks of numba's threads."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pool = ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """The outcomes in the order of the jobs; a line is printed as each is done."""
        waiting = {self._pool.submit(_outcome, job): job for job in jobs}
        for number, future in enumerate(as_completed(waiting), 1):
            minutes = (time.monotonic() - self._began) / 60
            told = f"{waiting[future].name}: {future.result().told()}"
            self._console.print(f"{number} of {len(jobs)}, {minutes:.0f} min: {told}", markup=False)
        return [future.result() for future in waiting]


def _outcome(job: Job) -> Outcome:
    return job.run()


if __name__ == "__main__":
    sys.exit(main())
