"""Catalogues and query sizes, read and refused."""

import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_lambda.core.fleet import parse_fleet
from control_lambda.core.mix.model import Sizes
from control_lambda.fleet_file import load_fleet
from twin.errors import InputError
from twin.plan.inputs import catalogue_problem, fleet_problem, read_catalogue
from twin.plan.sizes import kairos_sizes, read_requests, read_sizes, up_to

ONE_SIZE = Sizes((10.0,), (1.0,))
TYPE = "{name: a, price_usd_per_hour: 1.0, seconds: {fixed: 0.1, per_size: 0.01}}"


def drawn_as_in_the_artifact(count: int) -> Iterator[int]:
    """The artifact's own draw, rounded up to the next ten."""
    source = random.Random(1)
    for _ in range(count):
        size = source.lognormvariate(5.1, 0.2)
        chosen = source.randint(1, 99)
        if chosen <= 8:
            size = float(source.randint(1, 99))
        elif chosen <= 30:
            size = float(source.randint(200, 599))
        elif chosen <= 35:
            size = float(source.randint(600, 999))
        elif not 100 <= size <= 200:
            size = float(source.randint(190, 199))
        yield math.ceil(size / 10) * 10


def test_the_papers_sizes_are_those_that_its_artifact_draws() -> None:
    """Every size's share within four standard errors of 100,000 draws."""
    count = 100_000
    drawn: dict[float, int] = {}
    for one in drawn_as_in_the_artifact(count):
        drawn[one] = drawn.get(one, 0) + 1
    sizes = kairos_sizes()
    for size, share in zip(sizes.values, sizes.shares, strict=True):
        assert drawn.get(size, 0) / count == pytest.approx(share, abs=4 * math.sqrt(share / count))
    assert set(drawn) <= set(sizes.values)


def test_requests_are_counted_by_images_times_steps(tmp_path: Path) -> None:
    """A blank number of images is one, a blank number of steps thirty; other columns are ignored."""
    path = tmp_path / "requests.csv"
    path.write_text("user,n_images,steps\na,1,30\nb,2,40\nc,,\nd,4,20\n")
    assert read_requests(path) == Sizes((30.0, 80.0), (0.5, 0.5))


def test_requests_may_give_their_size_themselves(tmp_path: Path) -> None:
    """One column instead of two."""
    path = tmp_path / "requests.csv"
    path.write_text("size\n5\n5\n5\n7\n")
    assert read_requests(path) == Sizes((5.0, 7.0), (0.75, 0.25))


def test_sizes_above_the_largest_are_left_out() -> None:
    """What the service refuses takes no time; the other shares grow to make a whole."""
    assert up_to(Sizes((1.0, 2.0, 3.0), (0.5, 0.3, 0.2)), 2.0).shares == pytest.approx((0.625, 0.375))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows; valid: kairos, or a CSV with the columns size and share"),
        ("size,weight\n1,1\n", "columns size, weight; valid: kairos, or a CSV"),
        ("size,share\n1,1\nx,1\n", "line 3: size: 'x'; valid: a number above 0"),
        ("size,share\n1,-1\n", "line 2: share: '-1'; valid: a number above 0"),
        ("size,share\n1\n", "line 2: share: None; valid: a number above 0"),
    ],
)
def test_a_histogram_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message names the file, the line and the column."""
    path = tmp_path / "sizes.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=str(path)) as refused:
        read_sizes(str(path))
    assert message in str(refused.value)


def test_requests_without_their_columns_are_refused(tmp_path: Path) -> None:
    """The message names the columns that would do."""
    path = tmp_path / "requests.csv"
    path.write_text("n_images\n1\n")
    with pytest.raises(InputError, match="valid: a CSV of requests with the column size"):
        read_requests(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "valid: well-formed YAML"),
        ("", "no catalogue; valid: a mapping with latency_seconds and types"),
        (f"types: [{TYPE}]", "latency_seconds: missing; valid: a number above 0"),
        ("latency_seconds: 1.0\ntypes: []", "types: given an empty list; valid: a list of types"),
        (
            f"latency_seconds: 1.0\ncolour: red\ntypes: [{TYPE}]",
            "colour: unknown key; valid: latency_seconds, percentile, base, types",
        ),
        (
            f"latency_seconds: 1.0\ntypes: [{TYPE.replace('1.0', '-1')}]",
            "types[0].price_usd_per_hour: given -1; valid: a number above 0",
        ),
        (
            f"latency_seconds: 1.0\ntypes: [{TYPE.replace('name: a', 'name: a, size: 3')}]",
            "types[0].size: unknown key; valid: name, price_usd_per_hour, seconds, spread, most",
        ),
        (
            "latency_seconds: 1.0\ntypes: [{name: a, price_usd_per_hour: 1, seconds: 3}]",
            "types[0].seconds: given 3; valid: {fixed: 0.01, per_size: 0.0002}, or a list",
        ),
    ],
)
def test_a_catalogue_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """One line that names the file, the key and what would be valid."""
    path = tmp_path / "catalogue.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=str(path)) as refused:
        read_catalogue(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("points", ["[[10, 0.1]]", "[[20, 0.1], [10, 0.2]]"])
def test_points_that_make_no_line_are_refused(tmp_path: Path, points: str) -> None:
    """Two or more, sizes ascending."""
    path = tmp_path / "catalogue.yaml"
    path.write_text(
        f"latency_seconds: 1.0\ntypes: [{{name: a, price_usd_per_hour: 1.0, seconds: {points}}}]\n"
    )
    with pytest.raises(InputError, match=r"a: seconds: valid: .* or a list of two or more"):
        catalogue_problem(path, read_catalogue(path), ONE_SIZE)


def test_a_catalogue_without_a_base_is_refused_by_its_file(tmp_path: Path) -> None:
    """No type serves the largest size in time."""
    path = tmp_path / "catalogue.yaml"
    path.write_text(f"latency_seconds: 0.15\ntypes: [{TYPE}]\n")
    with pytest.raises(InputError, match=rf"{path}: types: none serves a query of size 10 within 0.15 s"):
        catalogue_problem(path, read_catalogue(path), ONE_SIZE)


def test_service_times_lie_between_the_points(tmp_path: Path) -> None:
    """On the lines through the given points, beyond the ends too."""
    path = tmp_path / "catalogue.yaml"
    points = "[[10, 0.1], [20, 0.2], [40, 0.6]]"
    path.write_text(
        f"latency_seconds: 9.0\ntypes: [{{name: a, price_usd_per_hour: 1.0, seconds: {points}}}]\n"
    )
    sizes = Sizes((5.0, 15.0, 30.0, 50.0), (0.25, 0.25, 0.25, 0.25))
    problem = catalogue_problem(path, read_catalogue(path), sizes)
    assert problem.types[0].seconds == pytest.approx((0.05, 0.15, 0.4, 0.8))


def test_a_fleets_units_serve_in_proportion_to_size() -> None:
    """service_seconds is one image of thirty steps; a unit may have the nodes of all its pools."""
    path = Path("fleet.yaml")
    problem = fleet_problem(path, load_fleet(path), Sizes((30.0, 60.0), (0.5, 0.5)), 30.0, None)
    inf2 = problem.types[0]
    assert inf2.seconds == pytest.approx((0.5, 1.0))
    assert (inf2.price_usd_per_hour, inf2.most) == (0.7582, 40)
    assert (problem.latency_seconds, problem.percentile) == (2.0, 95)


def test_a_unit_costs_what_its_cheapest_pool_does() -> None:
    """A spot pool and its on-demand twin are one type with the nodes of both."""
    fleet = parse_fleet(
        {
            "fleet": "twins",
            "model": "some/model",
            "objective": {"latency_seconds": 2.0},
            "budget_usd_per_hour": 10,
            "units": [
                {
                    "name": "only",
                    "instance_type": "inf2.xlarge",
                    "accelerator": "neuron",
                    "framework": "neuronx",
                    "profile": {
                        "service_seconds": 0.5,
                        "throughput_rpm": 105,
                        "latency_seconds": 0.67,
                        "start_seconds": 600,
                    },
                    "pools": [
                        {"market": "on-demand", "nodes": {"max": 4}, "price_usd_per_hour": 0.8},
                        {"market": "spot", "nodes": {"max": 6}, "price_usd_per_hour": 0.3},
                    ],
                }
            ],
        }
    )
    kind = fleet_problem(Path("twins.yaml"), fleet, ONE_SIZE, 30.0, None).types[0]
    assert (kind.price_usd_per_hour, kind.most) == (0.3, 10)
