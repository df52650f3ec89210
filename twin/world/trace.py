"""What comes from outside: demand, capacity and prices, read from CSV files.

A `minute` is a whole minute of the trace, the number in a file's first column; `Demand` places minute 0
at the absolute second `epoch`.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, isfinite
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from control_lambda.core.fleet import Fleet

MINUTE_SECONDS: Final = 60.0
MAX_WHOLE: Final = 10**9  # more in a cell is a mistake, and would not fit the arrays

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class TraceError(ValueError):
    """A trace, or a choice of what to read from it, that cannot be used; one line says why."""


@dataclass(frozen=True, slots=True)
class PoolColumn:
    """The capacity column that a pool follows, shifted later by `roll_minutes`, circularly."""

    pool: str
    column: str
    roll_minutes: int = 0


def parse_map(text: str) -> PoolColumn:
    """Read `pool=column` or `pool=column@roll_minutes`.

    Raises:
        TraceError: the text has another form.
    """
    pool, _, rest = text.partition("=")
    column, at, roll = rest.partition("@")
    if not pool or not column or (at and not roll.removeprefix("-").isdecimal()):
        raise TraceError(
            f"map: {text!r}; valid: pool=column or pool=column@roll_minutes, such as g6-spot=zone-a@1440"
        )
    return PoolColumn(pool, column, int(roll) if at else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandOptions:
    """Which part of a demand trace is used, and how it is scaled.

    From minute `start` on, `minutes` of them (None: all that follow). `clip` caps the source per minute.
    `scale` replicates every request that often, a fraction by chance, each copy at a random second of its
    minute. `smooth` > 0 reads the source as a thinned sample instead: Poisson arrivals at `scale` times
    its triangular mean over ± that many minutes of the full trace.
    """

    start: int = 0
    minutes: int | None = None
    clip: int | None = None
    scale: float = 1.0
    smooth: int = 0

    def check(self, length: int) -> None:
        """Check the choices against a trace of `length` minutes.

        Raises:
            TraceError: a choice is out of range.
        """
        if not 0 <= self.start < length:
            raise TraceError(f"start: {self.start}; valid: a minute from 0 to {length - 1}")
        left = length - self.start
        if self.minutes is not None and not 1 <= self.minutes <= left:
            raise TraceError(f"minutes: {self.minutes}; valid: 1 to {left} from minute {self.start} on")
        if self.clip is not None and self.clip < 1:
            raise TraceError(f"clip: {self.clip}; valid: 1 or more requests per minute")
        if not (isfinite(self.scale) and self.scale > 0):
            raise TraceError(f"scale: {self.scale}; valid: a number above 0")
        if not 0 <= self.smooth < length:
            raise TraceError(f"smooth: {self.smooth}; valid: 0 to {length - 1} minutes")


class Demand:
    """Requests per minute, scaled, and the arrival second of each.

    `start` and `minutes` are the part of the trace in use; every method takes the trace's own minutes.
    Equal seeds (0 or more) give equal arrivals, whatever the order in which minutes are asked for.
    """

    def __init__(
        self, source: Counts, options: DemandOptions | None = None, *, seed: int = 0, epoch: float = 0.0
    ) -> None:
        """Scale `source`, the requests in each minute of the trace from minute 0.

        Raises:
            TraceError: an option is out of range.
        """
        options = options or DemandOptions()
        options.check(len(source))
        self.start = options.start
        self.minutes = len(source) - options.start if options.minutes is None else options.minutes
        self.epoch = epoch
        self._seed = seed
        self._options = options
        self._source = source if options.clip is None else np.minimum(source, options.clip)
        mean = triangular_mean(self._source, options.smooth) if options.smooth else self._source
        self._rpm: Floats = options.scale * mean.astype(np.float64)

    @classmethod
    def read(
        cls, path: Path, options: DemandOptions | None = None, *, seed: int = 0, epoch: float = 0.0
    ) -> "Demand":
        """Read a CSV with the columns `minute` and `requests`; others are ignored.

        Raises:
            TraceError: the file cannot be used or an option is out of range.
        """
        table = _read_table(path, ("minute", "requests"))
        _require_consecutive(table)
        source = np.array([table.whole(row, "requests") for row in table.rows], dtype=np.int64)
        try:
            return cls(source, options, seed=seed, epoch=epoch)
        except TraceError as error:
            raise TraceError(f"{path}: {error}") from None

    def arrivals(self, minute: int) -> Floats:
        """The sorted absolute arrival seconds in [start of `minute`, start of the next)."""
        random = self._random(minute)
        seconds = random.random(self._draw(minute, random)) * MINUTE_SECONDS
        seconds.sort()
        begin = self.epoch + minute * MINUTE_SECONDS
        # An epoch of some 1e9 seconds rounds the last fractions of a microsecond up into the next minute.
        return np.minimum(begin + seconds, np.nextafter(begin + MINUTE_SECONDS, begin))

    def rpm(self) -> Floats:
        """The expected requests in each minute in use."""
        return self._rpm[self.start : self.start + self.minutes]

    @cached_property
    def counts(self) -> Counts:
        """The requests that arrive in each minute in use."""
        minutes = range(self.start, self.start + self.minutes)
        return np.array([self._draw(minute, self._random(minute)) for minute in minutes], dtype=np.int64)

    def _random(self, minute: int) -> np.random.Generator:
        if not self.start <= minute < self.start + self.minutes:
            last = self.start + self.minutes - 1
            raise TraceError(f"minute: {minute} is not in use; valid: {self.start} to {last}")
        return np.random.default_rng((self._seed, minute))

    def _draw(self, minute: int, random: np.random.Generator) -> int:
        """How many requests arrive in the minute: the generator's first draw."""
        if self._options.smooth:
            return int(random.poisson(self._rpm[minute]))
        copies = floor(self._options.scale)
        requests = int(self._source[minute])
        return copies * requests + int(random.binomial(requests, self._options.scale - copies))


def triangular_mean(values: NDArray[np.int64], window: int) -> Floats:
    """The mean over ± `window` around each value, weights falling linearly to both sides.

    mean_i = Σ_k (window + 1 - |k|)·values_{i+k} / Σ_k (window + 1 - |k|), |k| ≤ window, both sums over
    the k that lie inside the values.
    """
    kernel = window + 1.0 - np.abs(np.arange(-window, window + 1))
    inside = slice(window, window + len(values))
    weighted = np.convolve(values.astype(np.float64), kernel)[inside]
    return np.asarray(weighted / np.convolve(np.ones(len(values)), kernel)[inside], dtype=np.float64)


class CapacityTrace:
    """How many nodes of a pool can be had in each minute; pools without a column are never short.

    A limit is ceil(v / vmax × nodes.max), v the column's value in that minute and vmax its maximum. A
    column repeats from its beginning where it ends.
    """

    def __init__(self, limits: Mapping[str, Sequence[int]]) -> None:
        """Take each mapped pool's limits from minute 0 up to where they repeat."""
        self._limits = {pool: tuple(column) for pool, column in limits.items()}

    @classmethod
    def read(cls, path: Path, fleet: Fleet, columns: Iterable[PoolColumn]) -> "CapacityTrace":
        """Read a CSV with the column `minute` and those that `columns` name.

        Raises:
            TraceError: the file cannot be used or a pool or column does not exist, naming what would be
                valid.
        """
        columns = tuple(columns)
        _require_pools(fleet, columns)
        table = _read_table(path, ("minute", *(column.column for column in columns)))
        _require_consecutive(table)
        limits = {}
        for column in columns:
            values = _until_blank(table, column.column)
            shifted = np.roll(values, column.roll_minutes)
            limits[column.pool] = _node_limits(shifted, fleet.pool_named[column.pool].nodes.max)
        return cls(limits)

    def limit(self, pool: str, minute: int) -> int | None:
        """At most that many nodes in the pool in that minute; None = never short."""
        column = self._limits.get(pool)
        return None if column is None else column[minute % len(column)]

    def limits(self, minute: int) -> dict[str, int]:
        """The limit of every mapped pool in that minute."""
        return {pool: column[minute % len(column)] for pool, column in self._limits.items()}

    def changes(self, minute: int) -> dict[str, int]:
        """The limits in that minute that differ from the minute before."""
        changed = {}
        for pool, column in self._limits.items():
            limit = column[minute % len(column)]
            if limit != column[(minute - 1) % len(column)]:
                changed[pool] = limit
        return changed


class PriceTrace:
    """The price of pools by the minute, USD per hour; the last known one holds."""

    def __init__(self, changes: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        """Take each pool's prices as (minute from which it holds, USD per hour), in rising minutes."""
        self._minutes = {
            pool: np.array([at for at, _ in column], dtype=np.int64) for pool, column in changes.items()
        }
        self._prices = {pool: tuple(price for _, price in column) for pool, column in changes.items()}

    @classmethod
    def read(cls, path: Path, fleet: Fleet) -> "PriceTrace":
        """Read a CSV with the column `minute` and one for each priced pool; a blank keeps the last price.

        Raises:
            TraceError: the file cannot be used or a column is no pool of the fleet.
        """
        table = _read_table(path, ("minute",))
        pools = [column for column in table.columns if column != "minute"]
        unknown = [pool for pool in pools if pool not in fleet.pool_named]
        if unknown or not pools:
            valid = ", ".join(fleet.pool_named)
            given = ", ".join(unknown or table.columns)
            raise TraceError(f"{path}: column {given}; valid: minute and any of {valid}")
        _require_rising(table)
        return cls({pool: _known_prices(table, pool) for pool in pools})

    def price(self, pool: str, minute: int) -> float | None:
        """The pool's price in that minute, USD per hour; None while none is known."""
        if pool not in self._minutes:
            return None
        known = int(np.searchsorted(self._minutes[pool], minute, side="right"))
        return self._prices[pool][known - 1] if known else None


@dataclass(frozen=True, slots=True)
class _Table:
    """A CSV file's rows; the first stands in line 2."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def cell(self, row: tuple[str, ...], column: str) -> str:
        return row[self.columns.index(column)]

    def number(self, row: tuple[str, ...], column: str) -> float:
        """A number of 0 or more."""
        text = self.cell(row, column)
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not isfinite(value) or value < 0:
            raise self.fault(row, column, "a number of 0 or more")
        return value

    def whole(self, row: tuple[str, ...], column: str) -> int:
        value = self.number(row, column)
        if value != int(value) or value > MAX_WHOLE:
            raise self.fault(row, column, f"a whole number from 0 to {MAX_WHOLE}")
        return int(value)

    def fault(self, row: tuple[str, ...], column: str, valid: str) -> TraceError:
        text = self.cell(row, column)
        line = next(number for number, other in enumerate(self.rows, start=2) if other is row)
        return TraceError(f"{self.path}: line {line}, column {column}: {text!r}; valid: {valid}")


def _read_table(path: Path, needed: Sequence[str]) -> _Table:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [tuple(line) for line in csv.reader(file)]
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); valid: a CSV file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: is no CSV file ({error}); valid: UTF-8 text, comma-separated") from None
    columns, rows = (lines[0], tuple(lines[1:])) if lines else ((), ())
    missing = [column for column in needed if column not in columns]
    if missing:
        raise TraceError(f"{path}: no column {', '.join(missing)}; it has: {', '.join(columns) or 'none'}")
    if not rows:
        raise TraceError(f"{path}: no rows; valid: at least one line below the header")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise TraceError(f"{path}: line {line}: {len(row)} values; valid: {len(columns)}, as the header")
    return _Table(path, columns, rows)


def _require_consecutive(table: _Table) -> None:
    for expected, row in enumerate(table.rows):
        if table.number(row, "minute") != expected:
            raise table.fault(row, "minute", f"{expected}, since minutes count up from 0 without a gap")


def _require_rising(table: _Table) -> None:
    last = -1
    for row in table.rows:
        minute = table.whole(row, "minute")
        if minute <= last:
            raise table.fault(row, "minute", f"more than {last}, the minute of the line before")
        last = minute


def _require_pools(fleet: Fleet, columns: Sequence[PoolColumn]) -> None:
    seen = set()
    for column in columns:
        if column.pool not in fleet.pool_named:
            raise TraceError(f"map: no pool {column.pool!r}; valid: {', '.join(fleet.pool_named)}")
        if column.pool in seen:
            raise TraceError(f"map: pool {column.pool!r} is mapped twice; valid: one column for each pool")
        seen.add(column.pool)


def _until_blank(table: _Table, column: str) -> Floats:
    """The column's values; blanks may only stand at its end."""
    cells = [table.cell(row, column).strip() for row in table.rows]
    length = len(cells)
    while length and not cells[length - 1]:
        length -= 1
    if not length:
        raise TraceError(f"{table.path}: column {column} is blank; valid: numbers of 0 or more")
    return np.array([table.number(row, column) for row in table.rows[:length]])


def _node_limits(values: Floats, max_nodes: int) -> list[int]:
    """ceil(v / vmax × max_nodes); multiplied first, so that whole shares stay exact."""
    highest = float(values.max())
    if highest == 0:
        return [0] * len(values)
    return [ceil(value * max_nodes / highest) for value in values.tolist()]


def _known_prices(table: _Table, pool: str) -> list[tuple[int, float]]:
    known = []
    for row in table.rows:
        if not table.cell(row, pool).strip():
            continue
        price = table.number(row, pool)
        if price == 0:
            raise table.fault(row, pool, "a number above 0, or blank to keep the last price")
        known.append((table.whole(row, "minute"), price))
    return known
