"""Our choice of mixes at other budgets and on large catalogues, as the laboratory measures it."""

from collections.abc import Iterator

import pytest

from tests.twin.mixes.latencies import synthetic
from twin.mixes import jobs, picks, planning
from twin.mixes.jobs import OURS, Size, laboratory
from twin.mixes.planning import AtBudget, BudgetJob, LargeCatalogueJob, drawn_catalogue
from twin.mixes.samples import Latencies, ServedModel
from twin.mixes.search import mixes_within

LINES = [(0.0025, 0.000007), (0.0012, 0.00004), (0.0017, 0.000037), (0.0036, 0.000066)]
SMALL = Size(queries=400, seeds=2, finalists=2)
BUDGET = 1.6


@pytest.fixture(scope="module", autouse=True)
def _synthetic_latencies() -> Iterator[None]:
    """Seeded latencies in place of the recorded ones."""

    def drawn(model: ServedModel) -> Latencies:
        return synthetic(LINES, model.target_seconds, spread=0.05)

    with pytest.MonkeyPatch.context() as patch:
        for module in (jobs, picks, planning):
            patch.setattr(module, "load", drawn)
        yield


@pytest.fixture(scope="module")
def found() -> AtBudget:
    """One model at one budget."""
    return BudgetJob("WND", BUDGET, SMALL).run()


def test_the_best_mix_is_the_best_of_all(found: AtBudget) -> None:
    """What is measured of a few mixes only is not beaten by any other, beyond what one seed may err."""
    exact = laboratory("WND", SMALL)
    every = {mix: exact.throughput(mix, OURS, guess=found.best.mean) for mix in mixes_within(BUDGET)}
    assert found.mixes == len(every)
    assert found.best.mean >= 0.97 * max(every.values())


def test_both_picks_are_measured_with_every_seed(found: AtBudget) -> None:
    """Whether or not they are among the best, and neither exceeds the best."""
    for pick in (found.ours, found.paper):
        assert len(pick.throughputs) == SMALL.seeds
        assert found.regret(pick) == pytest.approx(1 - pick.mean / found.best.mean)
        assert found.regret(pick) >= 0


def test_a_large_catalogue_is_searched_for_each_seed_with_a_stated_gap() -> None:
    """The gap is a share below one."""
    measured = LargeCatalogueJob(2.5, types=50).run()
    assert len(measured.seconds) == len(measured.gaps)
    assert all(0 <= gap < 1 for gap in measured.gaps)


def test_a_drawn_catalogue_is_the_same_for_the_same_seed_and_has_a_base() -> None:
    """The first type serves the largest size within the promise."""
    problem = drawn_catalogue(1, 20)
    assert problem == drawn_catalogue(1, 20)
    assert 0 in problem.bases
