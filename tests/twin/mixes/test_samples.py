import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.twin.mixes.latencies import synthetic
from twin.errors import InputError
from twin.mixes.samples import ARCHIVE, MODELS, SIZES, TYPES, load
from twin.mixes.workload import draw, drifting, growing

SERVED = [3.0, 1.0, 50.0, 2.0]
LOADED = [0.5, 0.5, 0.5, 0.5]


def write_archive(folder: Path, *, left_out: str = "") -> None:
    """An archive as KAIROS' artifact lays it out, with four samples per type and size of the first model."""
    (folder / ARCHIVE).parent.mkdir(parents=True)
    with tarfile.open(folder / ARCHIVE, "w:gz") as archive:
        for kind in TYPES:
            for size in SIZES:
                for part, samples in (("", SERVED), ("logs_load/", LOADED)):
                    name = f"data/{part}{kind.name}/{MODELS[0].file_name}_{size:.0f}_1.json"
                    if name != left_out:
                        add(archive, name, json.dumps(samples))


def add(archive: tarfile.TarFile, name: str, text: str) -> None:
    """One file into the archive."""
    entry = tarfile.TarInfo(name)
    entry.size = len(text)
    archive.addfile(entry, io.BytesIO(text.encode()))


def test_a_latency_is_service_plus_loading_without_the_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In seconds; the first call on a cold process is left out."""
    write_archive(tmp_path)
    monkeypatch.setenv("FULCRUM_DATA", str(tmp_path))
    latencies = load(MODELS[0])
    assert latencies.seconds.shape == (len(TYPES), len(SIZES), 3)
    assert latencies.seconds[0, 0].tolist() == pytest.approx([0.0035, 0.0015, 0.0025])
    assert latencies.target_seconds == 0.005


def test_absent_data_is_told_with_what_would_be_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names the variable, the folder and the file."""
    monkeypatch.setenv("FULCRUM_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"FULCRUM_DATA: .* holds no .*latency_samples.tar.gz; valid: "):
        load(MODELS[0])


def test_an_archive_that_lacks_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the missing file."""
    missing = f"data/{TYPES[1].name}/{MODELS[0].file_name}_40_1.json"
    write_archive(tmp_path, left_out=missing)
    monkeypatch.setenv("FULCRUM_DATA", str(tmp_path))
    with pytest.raises(InputError, match=f"{missing}.* is missing"):
        load(MODELS[0])


def test_a_line_is_read_from_the_samples() -> None:
    """Intercept, slope and spread of what was drawn, within a few percent."""
    line = synthetic([(0.002, 0.00003)], 0.025, spread=0.1).line(0)
    assert line.intercept == pytest.approx(0.002, rel=0.05)
    assert line.slope == pytest.approx(0.00003, rel=0.02)
    assert line.spread == pytest.approx(0.1, rel=0.05)


def test_sizes_follow_the_papers_distribution() -> None:
    """8, 22 and 5 of 99 are below 100, in 200..600 and in 600..1000, the rest in 100..200; in tens."""
    sizes = draw(200_000, 1).sizes
    assert set((sizes % 10).tolist()) == {0.0}
    assert np.mean(sizes > 600) == pytest.approx(5 / 99, rel=0.03)
    assert np.mean((sizes > 200) & (sizes <= 600)) == pytest.approx(22 / 99, rel=0.02)
    assert np.mean((sizes > 100) & (sizes <= 200)) == pytest.approx(64 / 99, rel=0.02)
    assert sizes.min() == 10
    assert sizes.max() == 1000


def test_exponential_gaps_make_a_poisson_process() -> None:
    """Mean and standard deviation of the gaps are both 1 / rate."""
    gaps = np.diff(draw(100_000, 1).arrivals(50.0))
    assert gaps.mean() == pytest.approx(0.02, rel=0.02)
    assert gaps.std() == pytest.approx(0.02, rel=0.02)


def test_the_artifacts_gaps_are_whole_milliseconds_and_smoother() -> None:
    """Poisson distributed around 1 / rate: variance equals the mean, in milliseconds."""
    milliseconds = 1000 * np.diff(draw(100_000, 1, gaps="artifact").arrivals(50.0))
    assert np.abs(milliseconds - np.round(milliseconds)).max() < 1e-6
    assert milliseconds.mean() == pytest.approx(20, rel=0.02)
    assert milliseconds.var() == pytest.approx(20, rel=0.03)


def test_the_same_queries_meet_every_rate() -> None:
    """Arrivals scale with the rate, everything else stays."""
    workload = draw(100, 3)
    assert workload.arrivals(20.0) * 2 == pytest.approx(workload.arrivals(10.0))
    assert draw(100, 3).sizes.tolist() == workload.sizes.tolist()
    assert draw(100, 4).sizes.tolist() != workload.sizes.tolist()


def test_a_growing_workload_doubles_its_rate_halfway() -> None:
    """The second half takes half as long."""
    plain, grown = draw(10_000, 1), growing(draw(10_000, 1), 2.0)
    halves = [np.diff(one.arrivals(10.0))[5001:].sum() for one in (plain, grown)]
    assert halves[1] == pytest.approx(halves[0] / 2)
    assert grown.arrivals(10.0)[:5000].tolist() == plain.arrivals(10.0)[:5000].tolist()


def test_drifting_sizes_grow_up_to_the_factor_and_no_further_than_the_largest() -> None:
    """The last queries are twice as large, cut off at 1,000."""
    plain = draw(10_000, 1)
    drifted = drifting(plain, 2.0).sizes
    small = plain.sizes[-500:] <= 500
    assert drifted[-500:][small] == pytest.approx(2 * plain.sizes[-500:][small], abs=20)
    assert drifted.max() == 1000
    assert drifted[0] == plain.sizes[0]


@pytest.mark.parametrize(("queries", "gaps"), [(0, "exponential"), (10, "even")])
def test_a_workload_that_makes_no_sense_is_refused(queries: int, gaps: str) -> None:
    """The error names what is valid."""
    with pytest.raises(ValueError, match="valid: "):
        draw(queries, 1, gaps=gaps)  # type: ignore[arg-type]
