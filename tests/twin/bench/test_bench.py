import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from control_lambda.core.demand import worth
from twin.bench import bench, scenarios
from twin.bench.bench import Choices, gathered, jobs_for
from twin.bench.core import (
    DecisionTimesJob,
    ForecastJob,
    Histories,
    HistoriesJob,
    forecast_errors,
    wide_scenario,
)
from twin.bench.replays import OURS, POLLING, Bounded, BoundJob, Replayed, ReplayJob, worth_set_to
from twin.bench.scenarios import DATA_VARIABLE, SETTINGS
from twin.bench.tables import TARGETS, Results, missed, tables
from twin.errors import InputError
from twin.world.trace import DemandOptions

PRICES = """instance_type,region,spot_usd_per_hour
inf2.xlarge,us-east-1,0.15
trn1.2xlarge,us-east-1,0.24
g5.xlarge,us-east-1,0.44
g6.xlarge,us-east-1,0.38
"""
LOST_AT = 5
LOST_COLUMN = "us-west-2a_v100_8"  # what inf2 follows in D4


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the form of the recorded data: in minute `LOST_AT` one column loses its capacity."""
    folder = tmp_path / "data"
    demand = "minute,requests\n" + "".join(f"{minute},{2 + minute % 3}\n" for minute in range(21_600))
    texts = {"dev/sd_rpm.csv": demand, "dev/twitter_rpm.csv": demand, scenarios.SPOT_PRICES: PRICES}
    for setting in SETTINGS.values():
        columns = sorted({followed.column for followed in setting.units.values()})
        rows = "".join(
            ",".join([str(at), *(str(int(column != LOST_COLUMN or at < LOST_AT)) for column in columns)])
            + "\n"
            for at in range(40)
        )
        texts[setting.capacity] = ",".join(["minute", *columns]) + "\n" + rows
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv(DATA_VARIABLE, str(folder))
    return folder


def replayed(
    attainment: float,
    usd: float,
    flips: int = 0,
    job: ReplayJob | None = None,
    failover: Sequence[float] = (),
) -> Replayed:
    """The outcome of a replay with the given figures."""
    return Replayed(
        job=job or ReplayJob("D2s", OURS, seed=1),
        attainment=attainment,
        cost_per_thousand_usd=usd,
        requests=1000,
        failed=0,
        flips=flips,
        launches=5,
        failover_seconds=tuple(failover),
        wall_seconds=12.0,
    )


def row_of(text: str, title: str, first: str) -> list[str]:
    """The cells of the row that begins with `first`, in the table under the heading `title`."""
    section = text.split(f"### {title}\n")[1].split("###", maxsplit=1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines()]
    return next(row for row in rows if row[0] == first)


@pytest.mark.parametrize(
    ("attainment", "usd", "flips", "short"),
    [
        (0.95, 0.35, 150, []),
        (0.9499, 0.35, 150, ["attainment"]),
        (0.99, 0.351, 150, ["cost"]),
        (0.99, 0.30, 151, ["flips"]),
        (0.10, 9.0, 999, ["attainment", "cost", "flips"]),
    ],
)
def test_a_target_is_met_up_to_its_limit(attainment: float, usd: float, flips: int, short: list[str]) -> None:
    """The limits themselves count as reached, anything beyond is named."""
    assert missed(Results(replays=(replayed(attainment, usd, flips),)), "D2s") == short


def test_targets_are_held_against_the_mean_of_the_seeds() -> None:
    """One seed may miss what the mean of all reaches."""
    jobs = [ReplayJob("D2s", OURS, seed) for seed in (1, 2)]
    found = Results(replays=(replayed(0.94, 0.3, job=jobs[0]), replayed(0.97, 0.3, job=jobs[1])))
    assert missed(found, "D2s") == []
    row = row_of(tables(found), "The loop against its targets", "D2s")
    assert row[1:4] == ["≥ 95 @ ≤ 0.35, ≤ 150 flips", "95.50 ± 2.12", "0.300 ± 0.000"]
    assert row[6:8] == ["2", "yes"]


def test_the_distance_to_the_least_cost_is_told() -> None:
    """A cost of 0.30 against a least possible one of 0.20 is 1.50 times it."""
    bounds = (Bounded(BoundJob("D2s", 1), cost_per_thousand_usd=0.2, problem=""),)
    text = tables(Results(replays=(replayed(0.9, 0.3),), bounds=bounds))
    assert row_of(text, "The loop against its targets", "D2s")[7:] == ["no: attainment", "0.200", "1.50"]


def test_a_swept_worth_stands_beside_the_loops_own() -> None:
    """The loop's own worth is a column too, and no other seed or policy gets into it."""
    swept = replayed(0.9, 0.2, job=ReplayJob("D2s", OURS, 1, worth=2 * worth.WORTH))
    text = tables(Results(replays=(replayed(0.8, 0.1), swept)))
    title = "What another worth of a late request would give, one seed"
    assert row_of(text, title, "D2s") == ["D2s", "80.0 @ 0.100", "90.0 @ 0.200"]
    assert row_of(text, title, "scenario")[1] == f"{worth.WORTH:g} (the loop's)"


def test_baselines_stand_beside_reference_figures() -> None:
    """What was measured here and what the same policy reached elsewhere share a row."""
    text = tables(Results(replays=(replayed(0.5, 0.25, job=ReplayJob("D2m", "reactive", 1)),)))
    row = row_of(text, "Two of them beside reference figures", "D2m")
    assert row == ["D2m", "–", "92.6 @ 1.340", "50.0 @ 0.250", "97.9 @ 0.344"]


def test_what_was_not_measured_has_no_table() -> None:
    """Nothing is printed for nothing."""
    assert tables(Results()) == ""


def test_the_notice_is_taken_off_the_failover() -> None:
    """Polling sees a node only when it is gone, two minutes after its announcement."""
    polled = replayed(0.9, 0.3, job=ReplayJob("D4", POLLING, 1), failover=[120.0, 180.0])
    text = tables(Results(replays=(replayed(0.9, 0.3, job=ReplayJob("D4", OURS, 1)), polled)))
    assert row_of(text, "Failover", "D4") == ["D4", "polling alone", "2", "180", "60"]


def test_the_whole_bench_measures_what_the_evaluation_shows() -> None:
    """Five seeds of ours, every baseline once, the bound and the sweep; the largest scenario once."""
    jobs = jobs_for(Choices())
    replays = [job for job in jobs if isinstance(job, ReplayJob)]
    for name in TARGETS:
        own = [job for job in replays if (job.scenario, job.policy, job.worth) == (name, OURS, None)]
        assert [job.seed for job in own] == [1, 2, 3, 4, 5]
        others = {job.policy for job in replays if job.scenario == name} - {OURS, POLLING}
        assert len(others) == 6
        assert {job.worth for job in replays if job.scenario == name and job.worth} >= {4, 24}
    assert [job.policy for job in replays if job.scenario == "D2X"] == [OURS]
    assert {job.scenario for job in jobs if isinstance(job, BoundJob)} == set(SETTINGS)
    assert sum(job.count for job in jobs if isinstance(job, HistoriesJob)) == 10_000
    assert len({job.seed for job in jobs if isinstance(job, HistoriesJob)}) > 1
    assert sum(isinstance(job, ForecastJob) for job in jobs) == 7
    assert sum(isinstance(job, DecisionTimesJob) for job in jobs) == 1


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        (Choices(scenarios=("D9",)), "scenarios: 'D9'; valid: D2m"),
        (Choices(policies=("best",)), "policies: 'best'; valid: equal-shares"),
        (Choices(seeds=0), "seeds: 0; valid: a whole number of 1 or more"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(choices: Choices, told: str, tmp_path: Path) -> None:
    """Nothing is measured or written; the message names what there is."""
    with pytest.raises(InputError, match=told):
        bench.run(tmp_path / "out", choices)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("recorded")
def test_every_figure_is_written_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A short bench from beginning to end: the tables that it prints are those that it writes."""
    choices = replace(bench.QUICK, scenarios=("D2m",), policies=("reactive",), minutes=40, worths=(48.0,))
    assert bench.run(tmp_path / "out", choices) == 0
    text = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert text in capsys.readouterr().out
    assert [(one["job"]["policy"], one["job"]["worth"]) for one in found["replays"]] == [
        (OURS, None),
        ("reactive", None),
        (OURS, 48.0),
    ]
    assert len(found["bounds"]) == len(found["decisions"]) == 1
    assert [one["job"]["name"] for one in found["forecasts"]][-1] == "D2m"
    assert row_of(text, "Rules in random histories", "20") == ["20", "0"]


def test_without_recorded_data_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what is missing, and the figures that need no data are there."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "nowhere"))
    measured: list[object] = []

    def remember(jobs: Sequence[object], console: object) -> list[object]:  # noqa: ARG001 - the original's
        measured.extend(jobs)
        return [Histories(count=20, violations=())]

    monkeypatch.setattr(bench, "_measured", remember)
    assert bench.run(tmp_path / "out", bench.QUICK) == 0
    assert {type(job) for job in measured} == {DecisionTimesJob, HistoriesJob}
    told = capsys.readouterr().out
    assert f"Without recorded data no replay and no forecast can be measured ({DATA_VARIABLE}:" in told
    assert "### Rules in random histories" in told


def test_a_broken_rule_fails_the_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A violation is printed, written, and the exit code."""
    monkeypatch.setattr(bench, "_measured", lambda *_: [Histories(5, ("history 3: weights above 999",))])
    assert bench.run(tmp_path, bench.QUICK) == 1
    assert "weights above 999" in (tmp_path / "results.json").read_text(encoding="utf-8")


def test_outcomes_are_kept_by_kind() -> None:
    """Every outcome is in the results, in the order of its job."""
    first, second, other = replayed(0.1, 1.0), replayed(0.2, 1.0), Histories(1, ())
    found = gathered([first, other, second])
    assert (found.replays, found.histories, found.bounds) == ((first, second), (other,), ())


@pytest.mark.usefixtures("recorded")
def test_polling_finds_a_lost_node_only_when_it_is_gone() -> None:
    """With events weight leaves within seconds of the announcement, without them after the notice."""
    by_event, polled = (ReplayJob("D4", policy, 1, minutes=30).run() for policy in (OURS, POLLING))
    assert by_event.failover_seconds
    assert max(by_event.failover_seconds) <= 5
    assert 120 <= max(polled.failover_seconds) <= 180


def test_a_swept_worth_is_put_back() -> None:
    """The loop's constant is replaced for one replay only."""
    before = worth.WORTH
    with worth_set_to(before + 1):
        assert before + 1 == worth.WORTH
    assert before == worth.WORTH
    with worth_set_to(None):
        assert before == worth.WORTH


def test_the_last_value_is_judged_at_the_horizon() -> None:
    """On a ramp of one rpm a minute the last value is wrong by the horizon."""
    job = ForecastJob("ramp", "", DemandOptions(), horizon=13)
    errors = forecast_errors(job, [float(minute) for minute in range(300)])
    assert errors.minutes == 300 - 15 - 13
    assert (errors.mae_last_value, errors.mse_last_value) == (13, 169)
    assert errors.mae < 13


def test_decisions_are_timed_on_ten_pools_of_a_hundred_nodes() -> None:
    """The widest fleet, with demand that uses hundreds of nodes at its peak."""
    found = wide_scenario()
    assert len(found.fleet.pools) == 10
    assert {pool.nodes.max for pool in found.fleet.pools} == {100}
    seconds = found.fleet.units[0].profile.service_seconds
    assert found.demand.rpm().max() * seconds / 60 > 150
    times = DecisionTimesJob(minutes=20).run()
    assert times.decisions >= 20
    assert 0 < times.mean_ms <= times.p99_ms
