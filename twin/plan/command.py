"""What `plan` does: read, plan, tell, and write only after all has succeeded."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from control_lambda.core.fleet import Fleet
from control_lambda.core.mix.mix import cheapest_mix
from control_lambda.core.mix.model import Mix, MixError, Problem
from control_lambda.core.mix.search import MixChoice
from control_lambda.fleet_file import load_fleet
from twin.errors import InputError
from twin.plan.fleet import proposed
from twin.plan.inputs import catalogue_problem, fleet_problem, read_catalogue
from twin.plan.page import page
from twin.plan.plan import MixPlan, plan_budget, plan_demand
from twin.plan.sizes import read_requests, read_sizes, up_to
from twin.plan.words import certainty, headline, named, why_less
from twin.report import results

PLAN: Final = "plan.json"
PAGE: Final = "plan.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The command line, parsed: exactly one of `fleet` and `catalogue`, one of `sizes` and `requests`."""

    fleet: Path | None
    catalogue: Path | None
    sizes: str | None
    requests: Path | None
    budget: float | None
    demand: float | None
    quiet: float | None
    largest: float | None
    latency_seconds: float | None
    profile_size: float
    out: Path | None


def plan_command(question: Question, console: Console) -> None:
    """Answer the question on the console, and in `out` where it is given.

    Raises:
        FleetError, InputError: an input cannot be used; naming the file, the key and what would be valid.
    """
    _check(question)
    fleet = load_fleet(question.fleet) if question.fleet else None
    problem = _problem(question, fleet)
    try:
        plan = _plan(question, problem, fleet)
        quiet = cheapest_mix(problem, question.quiet).mix if question.quiet else None
    except MixError as error:
        raise InputError(str(error)) from None
    files = _files(question, plan, fleet, quiet) if question.out else {}
    if question.out:
        results.write_files(question.out, files)
    _tell(plan, question.out, files, console, is_fleet=fleet is not None)


def _check(question: Question) -> None:
    if question.out:
        results.check_out(question.out)
    if question.catalogue and question.budget is None and question.demand is None:
        raise InputError("budget: missing; valid: --budget USD per hour, or --demand requests per minute")
    if question.catalogue and question.quiet is not None:
        raise InputError("quiet: a catalogue has no node counts to propose; valid: with --fleet")
    for name in ("budget", "demand", "quiet", "largest", "latency_seconds", "profile_size"):
        value = getattr(question, name)
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{name.replace('_', '-')}: {value:g}; valid: a number above 0")


def _problem(question: Question, fleet: Fleet | None) -> Problem:
    sizes = read_requests(question.requests) if question.requests else read_sizes(question.sizes or "")
    if question.largest is not None:
        sizes = up_to(sizes, question.largest)
    if fleet and question.fleet:
        return fleet_problem(question.fleet, fleet, sizes, question.profile_size, question.latency_seconds)
    path = question.catalogue or Path()
    catalogue = read_catalogue(path)
    if question.latency_seconds is not None:
        catalogue = catalogue.model_copy(update={"latency_seconds": question.latency_seconds})
    return catalogue_problem(path, catalogue, sizes)


def _plan(question: Question, problem: Problem, fleet: Fleet | None) -> MixPlan:
    budget = question.budget
    if budget is None and fleet:
        budget = fleet.budget_usd_per_hour
    if question.demand is None:
        return plan_budget(problem, budget or 0.0)
    plan = plan_demand(problem, question.demand)
    if budget is not None and plan.chosen.cost_usd_per_hour > budget:
        raise InputError(
            f"demand: {question.demand:g} requests per minute need {plan.chosen.cost_usd_per_hour:.2f} USD "
            f"per hour; valid: a budget of at least that (it is {budget:g}), or a lower demand"
        )
    return plan


def _files(question: Question, plan: MixPlan, fleet: Fleet | None, quiet: Mix | None) -> dict[str, str]:
    """The files to write, by name.

    Raises:
        InputError: the proposed fleet would overwrite another one.
    """
    files = {PLAN: json.dumps(as_json(plan), indent=2) + "\n", PAGE: page(plan)}
    if fleet and question.fleet and question.out:
        name = f"{question.fleet.stem}.planned.yaml"
        text = proposed(question.fleet, fleet, plan, quiet)
        path = question.out / name
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise InputError(
                f"out: {path} holds another proposal; valid: another folder, or that file removed"
            )
        files[name] = text
    return files


def as_json(plan: MixPlan) -> dict[str, Any]:
    """The plan as what `plan.json` holds; mixes by type name."""
    problem = plan.problem

    def choice(item: MixChoice) -> dict[str, Any]:
        return {**asdict(item), "mix": _by_name(problem, item.mix)}

    return {
        "latency_seconds": problem.latency_seconds,
        "percentile": problem.percentile,
        "budget_usd_per_hour": plan.budget_usd_per_hour,
        "demand_rpm": plan.demand_rpm,
        "chosen": choice(plan.chosen),
        "runners_up": [
            {**choice(item), "why": why_less(problem, plan.chosen, item)} for item in plan.runners_up
        ],
        "homogeneous": choice(plan.homogeneous),
        "paper": plan.paper and {"mix": _by_name(problem, plan.paper.mix), "bound_rpm": plan.paper.bound_rpm},
        "frontier": [
            {
                "budget_usd_per_hour": point.budget_usd_per_hour,
                "mix": _by_name(problem, point.mix.mix),
                "throughput_rpm": point.mix.throughput_rpm,
                "homogeneous_rpm": point.homogeneous.throughput_rpm,
                "bound_rpm": point.bound_rpm,
            }
            for point in plan.points
        ],
    }


def _by_name(problem: Problem, mix: Mix) -> dict[str, int]:
    return {name: count for name, count in zip(problem.names, mix, strict=True) if count}


def _tell(plan: MixPlan, out: Path | None, files: Iterable[str], console: Console, *, is_fleet: bool) -> None:
    console.print(headline(plan), style="bold", highlight=False, soft_wrap=True)
    console.print(certainty(plan), highlight=False, soft_wrap=True)
    if is_fleet:
        told = (
            "The figures take a distributor that looks at query sizes (routing: router); weights carry less."
        )
        console.print(told, highlight=False, soft_wrap=True)
    if plan.paper:
        same = "the same" if plan.paper.mix == plan.chosen.mix else named(plan.problem, plan.paper.mix)
        console.print(
            f"The paper's rule, highest upper bound, picks {same}.", highlight=False, soft_wrap=True
        )
    for item in plan.runners_up:
        share = item.throughput_rpm / plan.chosen.throughput_rpm
        console.print(
            f"  {share:.0%} with {named(plan.problem, item.mix)} at {item.cost_usd_per_hour:.2f} USD/h; "
            f"{why_less(plan.problem, plan.chosen, item)}",
            highlight=False,
            soft_wrap=True,
        )
    if out:
        console.print(f"Next: open {out / PAGE} in a browser.", highlight=False, soft_wrap=True)
        for name in files:
            if name.endswith(".yaml"):
                console.print(
                    f"      compare {out / name} with the fleet file.", highlight=False, soft_wrap=True
                )
