"""The laboratory's results as Markdown tables, ready for docs/evaluation.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from twin.mixes.curves import ARTIFACT, ATTAINMENTS, DRIFT, MEANS, NOISE, Curve, Curves
from twin.mixes.diffusion import Diffusion, OnRequests
from twin.mixes.jobs import (
    CLOCKWORK,
    FIRST_COME,
    KAIROS,
    LABELS,
    OURS,
    DecisionTime,
    Homogeneous,
    Measured,
    OnMix,
    Sweep,
    label,
)
from twin.mixes.picks import Picks
from twin.mixes.planning import AtBudget, LargeCatalogue
from twin.mixes.samples import BUDGET_USD_PER_HOUR, TYPES
from twin.mixes.search import Mix
from twin.mixes.simulator import Distributor

THRESHOLD: Final = LABELS[Distributor.THRESHOLD]
BASELINES: Final = (label(FIRST_COME), THRESHOLD, label(CLOCKWORK))
PROMISE: Final = 0.99


@dataclass(frozen=True, slots=True)
class MixResults:
    """Everything that the bench of mixes has measured."""

    picks: tuple[Picks, ...]
    sweeps: tuple[Sweep, ...]
    homogeneous: tuple[Homogeneous, ...]
    on_mix: tuple[OnMix, ...]
    curves: tuple[Curves, ...]
    decisions: tuple[DecisionTime, ...]
    at_budget: tuple[AtBudget, ...]
    catalogues: tuple[LargeCatalogue, ...]
    diffusion: tuple[Diffusion, ...]

    @property
    def models(self) -> list[str]:
        """The measured models, in the order in which they were asked for."""
        return [one.model for one in self.picks]

    def sweep(self, model: str, distributor: str) -> Sweep:
        """A distributor on all mixes."""
        return next(one for one in self.sweeps if one.model == model and one.distributor == distributor)

    def alone(self, model: str) -> Homogeneous:
        """The model's homogeneous pools."""
        return next(one for one in self.homogeneous if one.model == model)

    def pick(self, model: str) -> Picks:
        """What we and the paper take for the model."""
        return next(one for one in self.picks if one.model == model)

    def on(self, model: str, mix: Mix) -> OnMix:
        """Every distributor on one mix."""
        return next(one for one in self.on_mix if one.model == model and one.mix == mix)

    def best(self, model: str) -> OnMix:
        """Every distributor on the mix where ours carries most."""
        return self.on(model, self.sweep(model, label(OURS)).best.mix)


def tables(results: MixResults) -> str:
    """Every table."""
    parts = [
        ("Throughput, each distributor on the mix where it carries most", _throughputs(results)),
        ("Every distributor on the same mix", _same_mix(results)),
        ("Our pick among all measured mixes", _picks(results)),
        ("Our pick at other budgets, among all mixes", _budgets(results)),
        ("Searching catalogues", _catalogues(results)),
        ("Recorded requests for pictures", _diffusion(results)),
        ("Targets", _targets(results)),
        ("Throughput under disturbances, on the mix where ours carries most", _throughput_curves(results)),
        ("Answered in time after a disturbance, by load", _attainment_curves(results)),
        ("Processor time of a decision", _decisions(results)),
    ]
    return "\n\n".join(f"### {title}\n\n" + "\n".join(lines) for title, lines in parts) + "\n"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def short(mix: Mix) -> str:
    """The counts alone, in the order of the types."""
    return ",".join(map(str, mix))


def _value(measured: Measured) -> str:
    return f"{measured.mean:.4g} ± {measured.spread:.2g}"


def _throughputs(results: MixResults) -> Iterator[str]:
    """Queries per second, mean ± standard deviation over the seeds, and times the best homogeneous pool."""
    order = ", ".join(kind.name for kind in TYPES)
    yield f"Queries per second (mean ± standard deviation over the seeds), and the mix: counts of {order}."
    yield ""
    names = (*BASELINES, label(KAIROS), label(OURS))
    yield from _table(
        ("model", "homogeneous", *names, "ours / homogeneous", "ours / KAIROS"),
        (_throughput_row(results, model, names) for model in results.models),
    )


def _throughput_row(results: MixResults, model: str, names: Sequence[str]) -> Sequence[str]:
    alone = results.alone(model).best
    best = {name: results.sweep(model, name).best for name in names}
    ours = best[label(OURS)].mean
    return (
        model,
        f"{_value(alone)} @ {short(alone.mix)}",
        *(f"{_value(one)} @ {short(one.mix)}" for one in best.values()),
        f"{ours / alone.mean:.2f}",
        f"{ours / best[label(KAIROS)].mean:.3f}",
    )


def _same_mix(results: MixResults) -> Iterator[str]:
    names = [LABELS[one] for one in Distributor]
    yield from _table(
        ("model", "mix", *names, "ours / best of " + ", ".join(BASELINES), "bound", "ours / bound"),
        (_same_mix_row(one, names) for one in results.on_mix),
    )


def _same_mix_row(one: OnMix, names: Sequence[str]) -> Sequence[str]:
    ours = one.measured[label(OURS)].mean
    return (
        one.model,
        short(one.mix),
        *(_value(one.measured[name]) for name in names),
        f"{lead(one):.2f}",
        f"{one.bound:.4g}",
        f"{ours / one.bound:.2f}",
    )


def lead(one: OnMix) -> float:
    """Ours over the best of first come, threshold and Clockwork on the same mix."""
    return one.measured[label(OURS)].mean / max(one.measured[name].mean for name in BASELINES)


def _picks(results: MixResults) -> Iterator[str]:
    """Regret: what the pick carries below the best mix, both with all seeds, under ours."""
    yield from _table(
        ("model", "best mix", "our pick", "rank", "regret", "paper's pick", "rank", "regret"),
        (_pick_row(results, model) for model in results.models),
    )


def _pick_row(results: MixResults, model: str) -> Sequence[str]:
    sweep, chosen = results.sweep(model, label(OURS)), results.pick(model)
    cells = [model, short(sweep.best.mix)]
    for mix in (chosen.ours, chosen.paper):
        cells += [
            short(mix),
            f"{sweep.rank(mix)} of {len(sweep.measured)}",
            f"{regret(results, model, mix):.1%}",
        ]
    return cells


def regret(results: MixResults, model: str, mix: Mix) -> float:
    """By which share the mix carries less than the best one, under ours."""
    carried = results.on(model, mix).measured[label(OURS)].mean
    return max(0.0, 1.0 - carried / results.sweep(model, label(OURS)).best.mean)


def _budgets(results: MixResults) -> Iterator[str]:
    """Regret under ours, all seeds; the processor time of our pick."""
    picked = ("our pick", "regret", "paper's pick", "regret")
    yield from _table(
        ("model", "USD/h", "mixes", "best mix", *picked, "planning"),
        (_budget_row(one) for one in results.at_budget),
    )


def _budget_row(one: AtBudget) -> Sequence[str]:
    cells = [one.model, f"{one.budget_usd_per_hour:g}", f"{one.mixes:,}", short(one.best.mix)]
    for pick in (one.ours, one.paper):
        cells += [short(pick.mix), f"{one.regret(pick):.1%}"]
    return (*cells, f"{one.planning_ms:.1f} ms")


def _catalogues(results: MixResults) -> Iterator[str]:
    yield from _table(
        ("types", "USD/h", "processor time", "stated gap"),
        (
            (
                f"{one.types:,}",
                f"{one.budget_usd_per_hour:g}",
                _range(one.seconds, "{:.1f} s"),
                _range(one.gaps, "{:.0%}"),
            )
            for one in results.catalogues
        ),
    )


def _range(values: Sequence[float], form: str) -> str:
    return f"{form.format(min(values))} to {form.format(max(values))}"


def _diffusion(results: MixResults) -> Iterator[str]:
    """Requests per minute, mean ± standard deviation over the seeds."""
    outcomes = [outcome for one in results.diffusion for outcome in one.outcomes]
    yield "Requests per minute within the promise: our mix, and the best of one type."
    yield ""
    yield from _table(
        ("case", "mix", "estimate", *outcomes[0].measured_rpm),
        (_diffusion_row(outcome) for outcome in outcomes),
    )


def _diffusion_row(one: OnRequests) -> Sequence[str]:
    return (one.case, one.mix, f"{one.estimated_rpm:.4g}", *map(_value, one.measured_rpm.values()))


def _targets(results: MixResults) -> Iterator[str]:
    over_alone, over_kairos = [], []
    for model in results.models:
        ours = results.sweep(model, label(OURS)).best.mean
        over_alone.append(ours / results.alone(model).best.mean)
        over_kairos.append(ours / results.sweep(model, label(KAIROS)).best.mean)
    leads = fmean(lead(results.best(model)) for model in results.models)
    regrets = [regret(results, model, results.pick(model).ours) for model in results.models]
    regrets_elsewhere = [one.regret(one.ours) for one in results.at_budget]
    planning = [
        one.planning_ms for one in results.at_budget if one.budget_usd_per_hour == BUDGET_USD_PER_HOUR
    ]
    searching = [seconds for one in results.catalogues for seconds in one.seconds]
    decision = results.decisions[0].milliseconds[label(OURS)][1]
    rows = [
        ("ours over homogeneous, least of all models", min(over_alone), "≥", 1.5, "{:.2f}"),
        ("ours over homogeneous, second best model", _second(over_alone), "≥", 2.0, "{:.2f}"),
        ("ours over KAIROS' matching, least of all models", min(over_kairos), "≥", 1.0, "{:.3f}"),
        ("ours over KAIROS' matching, second best model", _second(over_kairos), "≥", 1.1, "{:.3f}"),
        ("ours over the best baseline on the same mix, mean", leads, "≥", 1.15, "{:.3f}"),
        ("regret of our pick, worst model", max(regrets), "≤", 0.03, "{:.1%}"),
        ("regret of our pick, worst model and budget", max(regrets_elsewhere), "≤", 0.03, "{:.1%}"),
        ("planning 331 mixes, worst model, ms", max(planning), "≤", 50.0, "{:.1f}"),
        ("searching a catalogue, the longest, s", max(searching), "≤", 60.0, "{:.1f}"),
        ("decision with 100 instances and 200 waiting, p99, ms", decision, "≤", 1.0, "{:.2f}"),
    ]
    yield from _table(("what", "target", "measured", "reached"), (_target_row(*row) for row in rows))


def _target_row(what: str, measured: float, sign: str, bound: float, form: str) -> Sequence[str]:
    reached = measured >= bound if sign == "≥" else measured <= bound
    return (what, f"{sign} {form.format(bound)}", form.format(measured), "yes" if reached else "**no**")


def _second(values: Sequence[float]) -> float:
    """The second highest value, or the only one."""
    return sorted(values, reverse=True)[min(1, len(values) - 1)]


def _curves(results: MixResults, kinds: Sequence[str]) -> Iterator[tuple[Curves, Curve]]:
    for kind in kinds:
        for one in results.curves:
            yield from ((one, curve) for curve in one.curves if curve.kind == kind)


def _throughput_curves(results: MixResults) -> Iterator[str]:
    yield "Queries per second that still keep 99 % in time; each cell is ours / KAIROS' matching."
    for kind in (NOISE, DRIFT, MEANS, ARTIFACT):
        rows = list(_curves(results, [kind]))
        yield ""
        strengths = [_strength(kind, strength) for strength in rows[0][1].strengths]
        yield from _table(("model", "mix", *strengths), (_curve_row(*row, "{:.4g}") for row in rows))


def _attainment_curves(results: MixResults) -> Iterator[str]:
    yield "Share of queries in time; the load is a share of what ours carries undisturbed; ours / KAIROS."
    for kind in sorted(ATTAINMENTS):
        rows = list(_curves(results, [kind]))
        yield ""
        yield f"{kind}:"
        yield ""
        loads = [f"load {load:.0%}" for load in rows[0][1].strengths]
        yield from _table(("model", "mix", *loads), (_curve_row(*row, "{:.1%}") for row in rows))


def _strength(kind: str, strength: float) -> str:
    if kind == NOISE:
        return f"{kind} {strength:.0%}"
    if kind == DRIFT:
        return f"{kind} to {strength:g} ×"
    return kind if strength else f"without {kind}"


def _curve_row(one: Curves, curve: Curve, form: str) -> Sequence[str]:
    pairs = zip(curve.values[label(OURS)], curve.values[label(KAIROS)], strict=True)
    return (
        one.model,
        short(one.mix),
        *(f"{form.format(ours)} / {form.format(other)}" for ours, other in pairs),
    )


def _decisions(results: MixResults) -> Iterator[str]:
    yield from _table(
        ("distributor", "median", "p99", "decisions"),
        (
            (name, f"{median:.2f} ms", f"{p99:.2f} ms", f"{one.decisions:,}")
            for one in results.decisions
            for name, (median, p99) in one.milliseconds.items()
        ),
    )
