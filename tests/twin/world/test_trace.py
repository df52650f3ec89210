from pathlib import Path

import numpy as np
import pytest

from control_lambda.core.fleet import Fleet, parse_fleet
from twin.world.trace import (
    CapacityTrace,
    Demand,
    DemandOptions,
    PoolColumn,
    PriceTrace,
    TraceError,
    parse_map,
    triangular_mean,
)

PROFILE = {"service_seconds": 0.5, "throughput_rpm": 100, "latency_seconds": 0.6, "start_seconds": 300}
FLEET: Fleet = parse_fleet(
    {
        "fleet": "small",
        "model": "any",
        "objective": {"latency_seconds": 2.0},
        "budget_usd_per_hour": 10,
        "units": [
            {
                "name": name,
                "instance_type": "g5.xlarge",
                "accelerator": "nvidia",
                "framework": "eager",
                "profile": PROFILE,
                "pools": [{"market": "spot", "nodes": {"max": nodes}, "price_usd_per_hour": 0.4}],
            }
            for name, nodes in (("one", 10), ("two", 3))
        ],
    }
)


def written(folder: Path, text: str) -> Path:
    """A file with that text."""
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def steady(requests: int, minutes: int, options: DemandOptions, seed: int = 1) -> Demand:
    """The same number of source requests in every minute."""
    return Demand(np.full(minutes, requests, dtype=np.int64), options, seed=seed)


def test_demand_reads_minutes_and_requests_and_ignores_other_columns(tmp_path: Path) -> None:
    """The real traces carry more columns than the twin needs."""
    path = written(tmp_path, "minute,images,requests\n0,9,2\n1,9,0\n2,9,5\n")
    demand = Demand.read(path)
    assert demand.rpm().tolist() == demand.counts.tolist() == [2, 0, 5]


def test_every_request_is_replicated_and_stays_in_its_minute() -> None:
    """Scale 3 makes three requests of each, anywhere in the same minute; an epoch shifts them all."""
    demand = Demand(np.array([4, 0, 2]), DemandOptions(scale=3), seed=1, epoch=1.7e9)
    for minute, requests in enumerate([12, 0, 6]):
        arrivals = demand.arrivals(minute)
        begin = 1.7e9 + 60 * minute
        assert len(arrivals) == requests
        assert np.all((arrivals >= begin) & (arrivals < begin + 60))
        assert np.all(np.diff(arrivals) >= 0)


def test_jitter_is_uniform_over_the_minute() -> None:
    """The mean of U(0, 60) is 30 and its standard deviation 17.3 seconds."""
    arrivals = steady(1000, 1, DemandOptions(scale=200)).arrivals(0)
    assert arrivals.mean() == pytest.approx(30, abs=0.2)
    assert arrivals.std() == pytest.approx(60 / 12**0.5, abs=0.2)


@pytest.mark.parametrize("scale", [0.3, 2.5])
def test_a_fractional_scale_keeps_the_expected_number(scale: float) -> None:
    """Each request gives floor(K) or floor(K) + 1 copies, K in the mean."""
    demand = steady(100, 1000, DemandOptions(scale=scale))
    assert demand.counts.sum() == pytest.approx(100_000 * scale, rel=0.01)
    assert demand.counts.std() == pytest.approx((100 * (scale % 1) * (1 - scale % 1)) ** 0.5, rel=0.1)


def test_arrivals_depend_on_seed_and_minute_alone() -> None:
    """Whoever asks in whatever order gets the same requests; another seed gives others."""
    options = DemandOptions(scale=1.5, smooth=2)
    forward, backward = steady(50, 10, options), steady(50, 10, options)
    ahead = [forward.arrivals(minute).tolist() for minute in range(10)]
    back = [backward.arrivals(minute).tolist() for minute in reversed(range(10))]
    assert ahead == back[::-1]
    assert [len(arrivals) for arrivals in ahead] == forward.counts.tolist()
    assert steady(50, 10, options, seed=2).arrivals(0).tolist() != ahead[0]


def test_a_part_of_the_trace_has_the_arrivals_that_it_has_in_the_whole() -> None:
    """Start and minutes choose; they do not redraw."""
    source = np.arange(10) * 10
    whole = Demand(source, DemandOptions(smooth=3), seed=4)
    part = Demand(source, DemandOptions(start=5, minutes=2, smooth=3), seed=4)
    assert part.rpm().tolist() == whole.rpm()[5:7].tolist()
    assert part.arrivals(6).tolist() == whole.arrivals(6).tolist()
    with pytest.raises(TraceError, match="valid: 5 to 6"):
        part.arrivals(7)


def test_clip_caps_the_source_before_it_is_scaled() -> None:
    """A cap of 5 at scale 2 gives at most 10."""
    demand = Demand(np.array([3, 50]), DemandOptions(clip=5, scale=2))
    assert demand.counts.tolist() == [6, 10]


def test_the_triangular_mean_weighs_neighbours_and_is_normalised_at_the_ends() -> None:
    """Window 1 weighs 1, 2, 1; at an end the missing neighbour takes no weight."""
    assert triangular_mean(np.array([4, 0, 0, 8]), 1).tolist() == pytest.approx([8 / 3, 1, 2, 16 / 3])


def test_smoothing_draws_poisson_counts_around_the_scaled_mean() -> None:
    """Poisson: the variance equals the mean."""
    demand = steady(2, 5000, DemandOptions(scale=20, smooth=30))
    assert np.unique(demand.rpm().round(9)).tolist() == [40]
    assert demand.counts.mean() == pytest.approx(40, rel=0.01)
    assert demand.counts.var() == pytest.approx(40, rel=0.06)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minute,images\n0,1\n", "no column requests; it has: minute, images"),
        ("", "no column minute, requests; it has: none"),
        ("minute,requests\n", "no rows"),
        ("minute,requests\n0,1\n1,-1\n", "line 3, column requests: '-1'"),
        ("minute,requests\n0,\n", "line 2, column requests: ''"),
        ("minute,requests\n0,nan\n", "line 2, column requests: 'nan'"),
        ("minute,requests\n0,many\n", "line 2, column requests: 'many'"),
        ("minute,requests\n0,1.5\n", "line 2, column requests: '1.5'; valid: a whole number"),
        ("minute,requests\n0,1e300\n", "line 2, column requests: '1e300'; valid: a whole number"),
        ("minute,requests\n0,1\n2,1\n", "line 3, column minute: '2'; valid: 1"),
        ("minute,requests\n0\n", "line 2: 1 values; valid: 2"),
    ],
)
def test_an_unusable_demand_file_is_named_with_line_and_column(
    tmp_path: Path, text: str, message: str
) -> None:
    """One line: the file, the place, what would be valid."""
    path = written(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        Demand.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_a_trace_error(tmp_path: Path) -> None:
    """Neither ends in a stack trace."""
    with pytest.raises(TraceError, match="cannot be read"):
        Demand.read(tmp_path / "absent.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="is no CSV file"):
        Demand.read(binary)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (DemandOptions(start=3), "start: 3; valid: a minute from 0 to 2"),
        (DemandOptions(start=1, minutes=3), "minutes: 3; valid: 1 to 2"),
        (DemandOptions(minutes=0), "minutes: 0"),
        (DemandOptions(clip=0), "clip: 0"),
        (DemandOptions(scale=0), "scale: 0"),
        (DemandOptions(scale=float("nan")), "scale: nan"),
        (DemandOptions(smooth=-1), "smooth: -1"),
    ],
)
def test_an_option_out_of_range_is_refused_with_what_is_valid(
    tmp_path: Path, options: DemandOptions, key: str
) -> None:
    """The key is the command line's, the file the one that was read."""
    path = written(tmp_path, "minute,requests\n0,1\n1,1\n2,1\n")
    with pytest.raises(TraceError) as caught:
        Demand.read(path, options)
    assert str(caught.value).startswith(f"{path}: {key}")


def test_a_map_names_pool_column_and_roll() -> None:
    """The roll is optional and may point backwards; a column may hold any character but @."""
    assert parse_map("one-spot=us-east-2a_v100_1") == PoolColumn("one-spot", "us-east-2a_v100_1")
    assert parse_map("one-spot=a@1440") == PoolColumn("one-spot", "a", 1440)
    assert parse_map("one-spot=a@-5") == PoolColumn("one-spot", "a", -5)


@pytest.mark.parametrize("text", ["one-spot", "=a", "one-spot=", "one-spot=a@", "one-spot=a@x", "a=b@1.5"])
def test_a_map_of_another_form_is_refused(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(TraceError, match="valid: pool=column or pool=column@roll_minutes"):
        parse_map(text)


def capacity(folder: Path, text: str, *maps: str) -> CapacityTrace:
    """A capacity trace from the text of its file and maps as the command line writes them."""
    return CapacityTrace.read(written(folder, text), FLEET, [parse_map(each) for each in maps])


def test_a_limit_is_the_columns_share_of_its_maximum_times_the_pools_maximum(tmp_path: Path) -> None:
    """ceil(v / vmax × nodes.max): a share of a node is a node, an exact share stays exact."""
    text = "minute,a,b\n" + "".join(f"{m},{a},{b}\n" for m, (a, b) in enumerate([(4, 3), (1, 2), (0, 0)]))
    trace = capacity(tmp_path, text, "one-spot=a", "two-spot=b")
    assert [trace.limit("one-spot", minute) for minute in range(3)] == [10, 3, 0]
    assert [trace.limit("two-spot", minute) for minute in range(3)] == [3, 2, 0]


def test_a_pool_without_a_column_is_never_short(tmp_path: Path) -> None:
    """None is no limit."""
    trace = capacity(tmp_path, "minute,a\n0,0\n", "one-spot=a")
    assert trace.limit("two-spot", 0) is None
    assert trace.limits(0) == {"one-spot": 0}


def test_a_column_that_never_had_capacity_allows_nothing(tmp_path: Path) -> None:
    """A maximum of zero divides nothing."""
    assert capacity(tmp_path, "minute,a\n0,0\n1,0\n", "one-spot=a").limit("one-spot", 1) == 0


def test_a_column_that_ends_repeats_from_its_beginning(tmp_path: Path) -> None:
    """Each column has its own length, blank cells at its end being none."""
    trace = capacity(tmp_path, "minute,a,b\n0,1,1\n1,0,1\n2,,0\n", "one-spot=a", "two-spot=b")
    assert [trace.limit("one-spot", minute) for minute in range(5)] == [10, 0, 10, 0, 10]
    assert [trace.limit("two-spot", minute) for minute in range(5)] == [3, 3, 0, 3, 3]


def test_a_rolled_column_comes_later_and_round_again(tmp_path: Path) -> None:
    """Rolled by 1, minute 1 shows what minute 0 held."""
    text = "minute,a\n0,1\n1,0\n2,0\n"
    trace = capacity(tmp_path, text, "one-spot=a@1", "two-spot=a@-1")
    assert [trace.limit("one-spot", minute) for minute in range(3)] == [0, 10, 0]
    assert [trace.limit("two-spot", minute) for minute in range(3)] == [0, 0, 3]


def test_changes_are_the_limits_that_differ_from_the_minute_before(tmp_path: Path) -> None:
    """Replaying only the changes gives every limit."""
    text = "minute,a,b\n0,1,2\n1,1,1\n2,0,1\n3,1,1\n"
    trace = capacity(tmp_path, text, "one-spot=a", "two-spot=b")
    known = trace.limits(0)
    for minute in range(1, 12):
        known |= trace.changes(minute)
        assert known == trace.limits(minute)
    assert trace.changes(1) == {"two-spot": 2}


@pytest.mark.parametrize(
    ("text", "maps", "message"),
    [
        ("minute,a\n0,1\n", ["one-spot=b"], "no column b; it has: minute, a"),
        ("minute,a\n0,1\n", ["one=a"], "map: no pool 'one'; valid: one-spot, two-spot"),
        ("minute,a\n0,1\n", ["one-spot=a", "one-spot=a"], "map: pool 'one-spot' is mapped twice"),
        ("minute,a\n0,\n1,\n", ["one-spot=a"], "column a is blank"),
        ("minute,a\n0,1\n1,\n2,1\n", ["one-spot=a"], "line 3, column a: ''"),
        ("minute,a\n0,1\n1,-2\n", ["one-spot=a"], "line 3, column a: '-2'"),
    ],
)
def test_unusable_capacity_is_refused_with_what_is_valid(
    tmp_path: Path, text: str, maps: list[str], message: str
) -> None:
    """A gap inside a column is a mistake; only its end may be blank."""
    with pytest.raises(TraceError) as caught:
        capacity(tmp_path, text, *maps)
    assert message in str(caught.value)


def test_the_last_known_price_holds(tmp_path: Path) -> None:
    """Rows may skip minutes and cells may be blank; before the first price there is none."""
    prices = PriceTrace.read(written(tmp_path, "minute,one-spot,two-spot\n0,0.4,\n10,,0.3\n20,0.5,\n"), FLEET)
    assert [prices.price("one-spot", minute) for minute in (0, 19, 20, 999)] == [0.4, 0.4, 0.5, 0.5]
    assert [prices.price("two-spot", minute) for minute in (9, 10, 20)] == [None, 0.3, 0.3]


def test_a_pool_without_a_column_has_no_price(tmp_path: Path) -> None:
    """The fleet's own price holds for it."""
    assert PriceTrace.read(written(tmp_path, "minute,one-spot\n0,1\n"), FLEET).price("two-spot", 5) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minute,spot\n0,1\n", "column spot; valid: minute and any of one-spot, two-spot"),
        ("minute\n0\n", "column minute; valid: minute and any of one-spot, two-spot"),
        ("minute,one-spot\n0,0\n", "line 2, column one-spot: '0'; valid: a number above 0"),
        ("minute,one-spot\n0,cheap\n", "line 2, column one-spot: 'cheap'"),
        ("minute,one-spot\n5,1\n5,2\n", "line 3, column minute: '5'; valid: more than 5"),
    ],
)
def test_an_unusable_price_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """A price is above zero and belongs to a pool of the fleet."""
    path = written(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        PriceTrace.read(path, FLEET)
    assert str(caught.value).startswith(f"{path}: {message}")
