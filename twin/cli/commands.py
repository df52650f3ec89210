"""What `replay`, `compare`, `report` and `explain` do; files are written only after all has succeeded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from pathlib import Path

from rich.console import Console
from rich.table import Table

from control_lambda.core.record import Answer, DecisionRecord
from twin import progress
from twin.errors import InputError
from twin.inputs import Inputs, describe, load_scenario
from twin.report import results
from twin.report.explain import explain
from twin.report.figures import TABLE_HEADER, headline, table_rows
from twin.report.report import report
from twin.report.results import Result, Summary
from twin.steering.oracle import least_cost
from twin.steering.policies import ALL, LOOP, Through, check_policy, run_policy
from twin.steering.replay import UNSCORED_MINUTES, Run, summarise
from twin.world.kinds import KINDS
from twin.world.steady import steady
from twin.world.trouble import example
from twin.world.world import Scenario


def replay_command(inputs: Inputs, policy: str | None, through: Through, out: Path, console: Console) -> None:
    """Replay under one policy, by default the fleet's own, and write the results to `out`.

    Raises:
        FleetError, TraceError, InputError: an input cannot be used.
    """
    results.check_out(out)
    if policy:
        check_policy(policy)
    scenario = _checked(load_scenario(inputs))
    chosen = policy or scenario.fleet.policy
    if through == "aws" and chosen not in LOOP:
        raise InputError(f"through: aws runs the loop, {chosen} is a baseline; valid: core")
    run = _run(scenario, chosen, through, console)
    setting = {**describe(inputs), "through": through}
    result = Result(summarise(run), results.minutes_of(run, setting), run.records)
    results.save(result, report(result), out)
    tell(result, out, console)


def compare_command(
    inputs: Inputs, policies: Sequence[str], through: Through, out: Path, console: Console
) -> None:
    """Replay under every policy and write the results to `out`; the report shows the first in full.

    Raises:
        FleetError, TraceError, InputError: an input cannot be used.
        OracleError: the solver gave no optimum.
    """
    results.check_out(out)
    check_policies(policies)
    scenario = _checked(load_scenario(inputs))
    setting = {**describe(inputs), "through": through}
    result = compare(scenario, policies, through, setting, console)
    results.save(result, report(result), out)
    tell(result, out, console)


def compare(
    scenario: Scenario,
    policies: Sequence[str],
    through: Through,
    setting: Mapping[str, str],
    console: Console,
) -> Result:
    """The first policy's result, with the summaries of all; each against the least possible cost.

    `through` is for the loop's policies: baselines have no handler that could run on AWS.

    Raises:
        OracleError: the solver gave no optimum.
    """
    bounds = _Bounds(scenario, {})
    first, *others = policies
    run = _run(scenario, first, through, console)
    lead = Result(bounds.summarise(run), results.minutes_of(run, setting), run.records)
    rest = [bounds.summarise(_run(scenario, policy, through, console)) for policy in others]
    return replace(lead, comparison=(lead.summary, *rest))


def report_command(folder: Path, console: Console) -> None:
    """Write the report anew from what a replay left in `folder`.

    Raises:
        InputError: the folder does not hold what a replay writes.
    """
    result = results.load(folder)
    results.write_files(folder, {results.REPORT: report(result)})
    tell(result, folder, console)


def explain_command(path: Path, tick: int | None, console: Console) -> None:
    """Tell the record of `tick`, by default the last one, in plain words.

    Raises:
        InputError: the file holds no such decision record.
    """
    records = results.read_answers(path)
    if not records:
        raise InputError(f"{path}: no decision record; valid: a file that a replay of the loop has written")
    record = records[-1] if tick is None else _record_of(records, tick, path)
    console.print(explain(record), markup=False, highlight=False, soft_wrap=True)
    if len(records) > 1 and tick is None:
        first, last = _ticks(records)
        console.print(f"\nNext: --tick N tells another one, {first} to {last}.", highlight=False)


def trouble_command(console: Console) -> None:
    """List every kind of trouble: what happens, and a line of a trouble file."""
    console.print(
        "trouble:  # minutes count from the replay's first; without minutes: to the end", highlight=False
    )
    for what, kind in KINDS.items():
        console.print(f"  # {kind.sentence}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"  {example(what)}", markup=False, highlight=False, soft_wrap=True)


def demand_command(rpm: Sequence[str], minutes: int, out: Path, console: Console) -> None:
    """Write a steady demand trace to `out`.

    Raises:
        InputError: a level, the minutes or `out` cannot be used; nothing is written.
    """
    if minutes < 1:
        raise InputError(f"minutes: {minutes}; valid: a whole number of 1 or more")
    counts = steady(_levels(rpm), minutes)
    rows = "".join(f"{minute},{count}\n" for minute, count in enumerate(counts))
    results.write_files(out.parent, {out.name: f"minute,requests\n{rows}"})
    console.print(f"{out}: {minutes} minutes, {sum(counts):,} requests")
    console.print(
        f"Next: python -m twin replay --fleet fleet.yaml --demand {out} --out out/steady", markup=False
    )


def _levels(told: Sequence[str]) -> list[tuple[int, float]]:
    levels = [_level(text) for text in told]
    if levels[0][0] != 0 or any(one[0] >= other[0] for one, other in pairwise(levels)):
        raise InputError(
            f"rpm: {' '.join(told)}; valid: the first from minute 0, each later than the one before"
        )
    return levels


def _level(text: str) -> tuple[int, float]:
    rpm, _, minute = text.partition("@")
    try:
        level = int(minute or 0), float(rpm)
    except ValueError:
        level = -1, -1.0
    if level[0] < 0 or not 0 <= level[1] < inf:
        raise InputError(f"rpm: {text!r}; valid: requests per minute, or RPM@MINUTE, such as 900@180")
    return level


def tell(result: Result, out: Path, console: Console) -> None:
    """Print the headline, the comparison where there is one, and where to look next."""
    objective = result.minutes.fleet.objective
    told = headline(result.summary, objective, result.comparison)
    console.print(told, style="bold", highlight=False, soft_wrap=True)
    if result.comparison:
        console.print(comparison_table(result.comparison))
    console.print(f"Next: open {out / results.REPORT} in a browser.", highlight=False, soft_wrap=True)
    if result.records:
        last = result.records[-1].tick
        command = f"python -m twin explain {out / results.DECISIONS} --tick {last}"
        console.print(f"      {command}", highlight=False, soft_wrap=True)


def comparison_table(comparison: Sequence[Summary]) -> Table:
    """The summaries side by side."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, name in enumerate(TABLE_HEADER):
        table.add_column(name, justify="right" if number else "left", no_wrap=not number)
    for row in table_rows(comparison):
        table.add_row(*row)
    return table


def check_policies(policies: Sequence[str]) -> None:
    """Refuse a comparison of nothing, of unknown policies or of one policy twice.

    Raises:
        InputError: naming what would be valid.
    """
    if not policies:
        raise InputError(f"policies: none given; valid: {', '.join(ALL)}, joined by commas")
    for policy in policies:
        check_policy(policy)
        if policies.count(policy) > 1:
            raise InputError(f"policies: {policy} stands twice; valid: every policy once")


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The least possible costs of a scenario, in USD by answered requests, each computed once."""

    scenario: Scenario
    known: dict[int, float]

    def summarise(self, run: Run) -> Summary:
        """The run's summary against the least cost of what it answered."""
        served = int(summarise(run)["served"])
        if served not in self.known:
            self.known[served] = least_cost(self.scenario, served=served).cost_usd
        return summarise(run, self.known[served])


def _run(scenario: Scenario, policy: str, through: Through, console: Console) -> Run:
    with progress.shown(console, policy) as report_progress:
        return run_policy(scenario, policy, through, report_progress)


def _checked(scenario: Scenario) -> Scenario:
    """Refuse a replay of which nothing would be scored."""
    minutes = scenario.demand.minutes
    if minutes <= UNSCORED_MINUTES:
        raise InputError(
            f"minutes: {minutes}; valid: {UNSCORED_MINUTES + 1} or more, "
            f"because the first {UNSCORED_MINUTES} are not scored"
        )
    return scenario


def _record_of(answers: Sequence[Answer], tick: int, path: Path) -> DecisionRecord:
    for answer in answers:
        if isinstance(answer, DecisionRecord) and answer.tick == tick:
            return answer
    first, last = _ticks(answers)
    raise InputError(f"{path}: no tick {tick}; valid: {first} to {last}")


def _ticks(answers: Sequence[Answer]) -> tuple[int, int]:
    ticks = [answer.tick for answer in answers if isinstance(answer, DecisionRecord)]
    return min(ticks, default=0), max(ticks, default=0)
