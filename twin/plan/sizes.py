"""How large queries are: the paper's distribution by name, a histogram, or a CSV of requests."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Final

from control_lambda.core.mix.model import MixError, Sizes
from twin.errors import InputError
from twin.report.results import read_text

KAIROS: Final = "kairos"
KAIROS_STEP: Final = 10  # the artifact rounds sizes up to the next measured one
DEFAULT_STEPS: Final = 30  # what the recorded requests mean by a blank
DEFAULT_IMAGES: Final = 1

Row = Mapping[str, str]


def kairos_sizes() -> Sizes:
    """The paper's query sizes, exactly, as the artifact draws and rounds them.

    With r uniform in 1..99: r <= 8 gives U(1, 100), r <= 30 U(200, 600), r <= 35 U(600, 1000), all without
    the upper end; else lognormal(5.1, 0.2), and U(190, 200) where that lies outside 100..200 (helper.py of
    boringlee24/hpdc23-kairos, MIT).
    """
    counts: dict[float, float] = {}

    def add(weight: float, sizes: Iterable[int]) -> None:
        drawn = list(sizes)
        for size in drawn:
            rounded = float(math.ceil(size / KAIROS_STEP) * KAIROS_STEP)
            counts[rounded] = counts.get(rounded, 0.0) + weight / len(drawn)

    add(8 / 99, range(1, 100))
    add(22 / 99, range(200, 600))
    add(5 / 99, range(600, 1000))
    logarithm = NormalDist(5.1, 0.2)
    inside = 0.0
    for high in range(110, 201, KAIROS_STEP):
        share = logarithm.cdf(math.log(high)) - logarithm.cdf(math.log(high - KAIROS_STEP))
        add(64 / 99 * share, [high])
        inside += share
    add(64 / 99 * (1.0 - inside), range(190, 200))
    return Sizes.counted(list(counts.items()))


def read_sizes(text: str) -> Sizes:
    """The sizes that `text` names: `kairos`, or a CSV with the columns `size` and `share` (or `count`).

    Raises:
        InputError: the file cannot be used.
    """
    if text == KAIROS:
        return kairos_sizes()
    path = Path(text)
    valid = f"{KAIROS}, or a CSV with the columns size and share"
    rows = _rows(path, valid)
    column = next((name for name in ("share", "count") if name in rows[0]), None)
    if "size" not in rows[0] or column is None:
        raise InputError(f"{path}: columns {', '.join(rows[0])}; valid: {valid}")
    return _counted(path, [(_number(path, row, "size"), _number(path, row, column)) for row in _lines(rows)])


def read_requests(path: Path) -> Sizes:
    """The sizes of recorded requests: the column `size`, or `n_images` x `steps`.

    A blank number of images counts as 1, a blank number of steps as 30.

    Raises:
        InputError: the file cannot be used.
    """
    valid = "a CSV of requests with the column size, or n_images and steps"
    rows = _rows(path, valid)
    if "size" in rows[0]:
        return _counted(path, [(_number(path, row, "size"), 1.0) for row in _lines(rows)])
    if not {"n_images", "steps"} <= rows[0].keys():
        raise InputError(f"{path}: columns {', '.join(rows[0])}; valid: {valid}")
    return _counted(path, [(_image_steps(path, row), 1.0) for row in _lines(rows)])


def up_to(sizes: Sizes, largest: float) -> Sizes:
    """The sizes without those above `largest`, which the service refuses.

    Raises:
        InputError: nothing is left.
    """
    kept = [item for item in zip(sizes.values, sizes.shares, strict=True) if item[0] <= largest]
    if not kept:
        raise InputError(f"largest: {largest:g}; valid: at least the smallest size, {sizes.values[0]:g}")
    return Sizes.counted(kept)


def _image_steps(path: Path, row: Row) -> float:
    images = _number(path, row, "n_images") if row["n_images"] else DEFAULT_IMAGES
    return images * (_number(path, row, "steps") if row["steps"] else DEFAULT_STEPS)


def _counted(path: Path, counts: list[tuple[float, float]]) -> Sizes:
    try:
        return Sizes.counted(counts)
    except MixError as error:
        raise InputError(f"{path}: {error}") from None


def _rows(path: Path, valid: str) -> list[dict[str, str]]:
    """The CSV's rows; `valid` says what the file should be."""
    reader = csv.DictReader(read_text(path, valid).splitlines())
    rows = list(reader)
    if not rows:
        raise InputError(f"{path}: no rows; valid: {valid}")
    return rows


def _lines(rows: list[dict[str, str]]) -> Iterator[Row]:
    """The rows, each with its line in the file."""
    for number, row in enumerate(rows, 2):
        yield {**row, "line": str(number)}


def _number(path: Path, row: Row, column: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(
            f"{path}: line {row['line']}: {column}: {row[column]!r}; valid: a number above 0"
        ) from None
    return value
