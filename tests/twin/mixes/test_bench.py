import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.twin.mixes.latencies import synthetic
from twin.mixes import bench, curves, jobs, picks, planning
from twin.mixes.curves import ATTAINMENTS, Curves, CurvesJob
from twin.mixes.diffusion import Case, DiffusionJob
from twin.mixes.jobs import (
    CLOCKWORK,
    FIRST_COME,
    KAIROS,
    OURS,
    DecisionTimeJob,
    HomogeneousJob,
    OnMixJob,
    Size,
    SweepJob,
    ThresholdJob,
    label,
    model_of,
)
from twin.mixes.page import page
from twin.mixes.picks import Picks
from twin.mixes.planning import BudgetJob, LargeCatalogueJob
from twin.mixes.samples import Latencies, ServedModel, load
from twin.mixes.search import mixes_within
from twin.mixes.tables import MixResults, regret, tables

LINES = [(0.0025, 0.000007), (0.0012, 0.00004), (0.0017, 0.000037), (0.0036, 0.000066)]
SMALL = Size(queries=400, seeds=2, finalists=2)
MODEL = "WND"


@pytest.fixture(scope="module", autouse=True)
def _synthetic_latencies() -> Iterator[None]:
    """Seeded latencies in place of the recorded ones."""

    def drawn(model: ServedModel) -> Latencies:
        return synthetic(LINES, model.target_seconds, spread=0.05)

    with pytest.MonkeyPatch.context() as patch:
        for module in (jobs, curves, picks, planning):
            patch.setattr(module, "load", drawn)
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> MixResults:
    """Everything, for one model, small."""
    requests = tmp_path_factory.mktemp("requests") / "requests.csv"
    requests.write_text("n_images,steps\n1,30\n4,30\n")
    sweeps = [SweepJob(MODEL, trial, SMALL).run() for trial in (FIRST_COME, CLOCKWORK, KAIROS, OURS)]
    ours = sweeps[-1]
    other = ours.measured[1].mix
    chosen = Picks(MODEL, ours.best.mix, other)
    return MixResults(
        picks=(chosen,),
        sweeps=(*sweeps, ThresholdJob(MODEL, (ours.best.mix, other), SMALL).run()),
        homogeneous=(HomogeneousJob(MODEL, SMALL).run(),),
        on_mix=tuple(OnMixJob(MODEL, mix, SMALL).run() for mix in (ours.best.mix, other)),
        curves=(CurvesJob(MODEL, ours.best.mix, SMALL).run(),),
        decisions=(DecisionTimeJob(decisions=20).run(),),
        at_budget=(BudgetJob(MODEL, 2.5, SMALL).run(),),
        catalogues=(LargeCatalogueJob(2.5, types=20).run(),),
        diffusion=(DiffusionJob(Case("a case", 6.0, 3.0, {}), SMALL, Path("fleet.yaml"), requests).run(),),
    )


def test_a_sweep_measures_every_mix_and_the_finalists_with_every_seed(results: MixResults) -> None:
    """331 mixes, best first; two with two seeds, the others with one."""
    sweep = results.sweep(MODEL, label(OURS))
    assert {one.mix for one in sweep.measured} == set(mixes_within())
    assert [len(one.throughputs) for one in sweep.measured[:3]] == [2, 2, 1]
    assert sweep.measured[0].mean >= sweep.measured[1].mean
    assert sweep.rank(sweep.best.mix) == 1


def test_every_distributor_is_measured_on_the_same_mix(results: MixResults) -> None:
    """And none exceeds the clairvoyant bound by more than another seed's luck."""
    one = results.best(MODEL)
    assert len(one.measured) == 7
    assert all(measured.mean <= 1.1 * one.bound for measured in one.measured.values())


def test_homogeneous_pools_of_types_that_are_too_slow_carry_nothing(results: MixResults) -> None:
    """Only the base serves the largest sizes in time."""
    alone = results.alone(MODEL)
    assert [one.mean > 0 for one in alone.first_come] == [True, False, False, False]
    assert alone.best.mix == (4, 0, 0, 0)


def test_the_regret_of_the_best_mix_is_nothing(results: MixResults) -> None:
    """And of another one it is what it carries less."""
    best = results.sweep(MODEL, label(OURS)).best
    assert regret(results, MODEL, best.mix) == 0.0
    other = results.pick(MODEL).paper
    carried = results.on(MODEL, other).measured[label(OURS)].mean
    assert regret(results, MODEL, other) == pytest.approx(max(0.0, 1 - carried / best.mean))


def test_curves_begin_undisturbed(results: MixResults) -> None:
    """Without an error, a drift, means or gaps of the artifact every curve is the plain throughput."""
    curves_found: Curves = results.curves[0]
    plain = {curve.values[label(OURS)][0] for curve in curves_found.curves if curve.kind not in ATTAINMENTS}
    assert len(plain) == 1
    assert all(
        0 <= share <= 1
        for curve in curves_found.curves
        if curve.kind in ATTAINMENTS
        for values in curve.values.values()
        for share in values
    )


def test_the_tables_name_each_target_with_what_was_measured(results: MixResults) -> None:
    """Reached or not."""
    text = tables(results)
    assert "| ours over homogeneous, least of all models | ≥ 1.50 | " in text
    assert text.count("| yes |") + text.count("| **no** |") == 10
    assert "1 of 331" in text
    assert "| WND | 2.5 | 331 | " in text
    assert "| a case | " in text


def test_the_page_is_self_contained_and_holds_three_figures(results: MixResults) -> None:
    """It opens offline: no address is loaded."""
    text = page(results)
    assert "<script src" not in text
    figures = json.loads(text.split("const figures = ")[1].split(";\nconst ink")[0])
    assert set(figures) == {"throughput", "ranking", "curves"}
    assert len(figures["ranking"]["data"][0]["y"]) == 331


def test_every_outcome_tells_itself_in_a_few_words(results: MixResults) -> None:
    """A line of progress for each kind."""
    told = [one.told() for one in results.sweeps]
    told += [one.told() for one in results.homogeneous]
    told += [one.told() for one in results.on_mix]
    told += [one.told() for one in results.curves]
    told += [one.told() for one in results.decisions]
    told += [one.told() for one in results.at_budget]
    told += [one.told() for one in results.catalogues]
    told += [one.told() for one in results.diffusion]
    assert all(0 < len(words) < 100 for words in told)


def test_an_unknown_model_is_refused_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2, nothing written."""
    code = bench.main(["--models", "GPT", "--out", str(tmp_path / "out")])
    assert code == 2
    assert "models: 'GPT'; valid: NCF, RM2, WND, MT-WND, DIEN" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_absent_data_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit code 2, nothing written."""
    monkeypatch.setattr(picks, "load", load)
    monkeypatch.setenv("FULCRUM_DATA", str(tmp_path))
    assert bench.main(["--out", str(tmp_path / "out")]) == 2
    assert "FULCRUM_DATA" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_models_are_named_as_in_the_paper() -> None:
    """And have its targets."""
    assert [model_of(name).target_seconds for name in ("NCF", "RM2", "DIEN")] == [0.005, 0.35, 0.035]
