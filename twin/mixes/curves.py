"""How well distributors bear what was not foreseen: wrong predictions, more load, other sizes, a loss."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final

from twin.mixes.jobs import FINE, KAIROS, OURS, Size, label, model_of, named
from twin.mixes.samples import load
from twin.mixes.search import Laboratory, Mix
from twin.mixes.workload import Workload, drifting, growing

Changes = dict[str, Any]

NOISES: Final = (0.0, 0.05, 0.1, 0.15, 0.2)
DRIFTS: Final = (1.0, 1.1, 1.25, 1.5, 2.0)
LOADS: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LOST_AFTER: Final = 0.5
GROWTH: Final = 2.0
BOTH: Final = (KAIROS, OURS)

NOISE: Final = "prediction error"
DRIFT: Final = "sizes grow"
GROWN: Final = "arrivals double"
BASE_LOST: Final = "a base instance is lost"
AUXILIARY_LOST: Final = "an auxiliary instance is lost"
MEANS: Final = "predictions from each size's mean"
ARTIFACT: Final = "the artifact's gaps"
# Their values are shares answered in time at a given load; the others' are queries per second.
ATTAINMENTS: Final = frozenset({GROWN, BASE_LOST, AUXILIARY_LOST})


@dataclass(frozen=True, slots=True)
class Curve:
    """One disturbance, and what each distributor makes of it at each strength, mean of the seeds.

    The strength is the prediction's standard error as a share, the factor by which sizes have grown in the
    end, or, for `ATTAINMENTS`, the load as a share of what ours carries undisturbed. MEANS and ARTIFACT are
    without (0) and with it (1).
    """

    kind: str
    strengths: tuple[float, ...]
    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Curves:
    """All curves of one model on one mix."""

    model: str
    mix: Mix
    curves: tuple[Curve, ...]

    def told(self) -> str:
        """The outcome in a few words."""
        noise = next(curve for curve in self.curves if curve.kind == NOISE)
        kept = (f"{name} keeps {values[-1] / values[0]:.0%}" for name, values in noise.values.items())
        return f"at {noise.strengths[-1]:.0%} prediction error " + ", ".join(kept)


@dataclass(frozen=True, slots=True)
class CurvesJob:
    """Measure both matching distributors under each disturbance."""

    model: str
    mix: Mix
    size: Size

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"{self.model}, disturbances on {named(self.mix)}"

    def run(self) -> Curves:
        """One curve a disturbance."""
        return Curves(self.model, self.mix, tuple(self._curves()))

    def _curves(self) -> Iterator[Curve]:
        workloads = self.size.workloads()
        calm = self._laboratory(workloads)
        noises = [calm] * len(NOISES)
        yield self._throughputs(NOISE, NOISES, noises, [{"noise": noise} for noise in NOISES])
        drifted = [
            self._laboratory([drifting(one, factor) for one in workloads], calm.typical_size)
            for factor in DRIFTS
        ]
        yield self._throughputs(DRIFT, DRIFTS, drifted, [{}] * len(DRIFTS))
        with_means: list[Changes] = [{}, {"predictions": "means"}]
        yield self._throughputs(MEANS, (0.0, 1.0), [calm, calm], with_means)
        uneven = self._laboratory([replace(one, gaps="artifact") for one in workloads])
        yield self._throughputs(ARTIFACT, (0.0, 1.0), [calm, uneven], [{}, {}])
        carried = calm.throughput(self.mix, OURS, tolerance=FINE)
        grown = self._laboratory([growing(one, GROWTH) for one in workloads])
        yield self._attainments(GROWN, grown, carried, {})
        yield self._attainments(BASE_LOST, calm, carried, {"loss": (0, LOST_AFTER)})
        yield self._attainments(AUXILIARY_LOST, calm, carried, {"loss": (sum(self.mix) - 1, LOST_AFTER)})

    def _laboratory(self, workloads: Sequence[Workload], typical_size: float | None = None) -> Laboratory:
        return Laboratory(load(model_of(self.model)), workloads, typical_size=typical_size)

    def _throughputs(
        self,
        kind: str,
        strengths: Sequence[float],
        laboratories: Sequence[Laboratory],
        changes: Sequence[Changes],
    ) -> Curve:
        values = {
            label(trial): tuple(
                one.throughput(self.mix, replace(trial, **change), tolerance=FINE)
                for one, change in zip(laboratories, changes, strict=True)
            )
            for trial in BOTH
        }
        return Curve(kind, tuple(strengths), values)

    def _attainments(self, kind: str, disturbed: Laboratory, carried: float, change: Changes) -> Curve:
        values = {
            label(trial): tuple(
                fmean(disturbed.attainments(self.mix, replace(trial, **change), share * carried))
                for share in LOADS
            )
            for trial in BOTH
        }
        return Curve(kind, LOADS, values)
