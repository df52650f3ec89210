"""The assignment problem, compiled: what scipy's `linear_sum_assignment` solves, without its call's cost.

Shortest augmenting paths, as in D. F. Crouse, "On implementing 2D rectangular assignment algorithms" (IEEE
Transactions on Aerospace and Electronic Systems, 2016), a variant of Jonker and Volgenant's algorithm.
Columns are looked at and sums are taken in scipy's order, so that of several optimal assignments the one that
scipy finds is found.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Function = TypeVar("Function", bound=Callable[..., object])

NOBODY: Final = -1


def compiled(function: Function) -> Function:
    """Compile a function, keeping its type, which numba's decorator loses.

    Not cached: numba's cache does not notice when a function of another module, compiled into this one, has
    changed.
    """
    return cast("Function", njit(function))


class Solution(NamedTuple):
    """Dual prices, and who is assigned to whom so far."""

    row_price: Floats
    column_price: Floats
    column_of: Integers
    row_of: Integers


class Search(NamedTuple):
    """A shortest-path tree: the length to each column, the row before it, and what is settled.

    `remaining` lists the columns that are not settled yet, in its first places.
    """

    length: Floats
    previous: Integers
    row_seen: NDArray[np.bool_]
    column_seen: NDArray[np.bool_]
    remaining: Integers


@compiled
def assign(costs: Floats) -> Integers:
    """The column of each row at the least total cost; as many rows as columns at most, all finite."""
    rows, columns = costs.shape
    solution = Solution(np.zeros(rows), np.zeros(columns), np.full(rows, NOBODY), np.full(columns, NOBODY))
    for row in range(rows):
        search = Search(
            np.full(columns, np.inf),
            np.full(columns, NOBODY),
            np.zeros(rows, np.bool_),
            np.zeros(columns, np.bool_),
            np.arange(columns)[::-1].copy(),
        )
        column = _search(costs, row, solution, search)
        _reprice(row, search.length[column], solution, search)
        _move(row, column, solution, search)
    return solution.column_of


@compiled
def _search(costs: Floats, start: int, solution: Solution, search: Search) -> int:
    """The free column at the end of the shortest augmenting path from a row (Dijkstra)."""
    row, length = start, 0.0
    for settled in range(costs.shape[1]):
        search.row_seen[row] = True
        left = costs.shape[1] - settled
        for column in search.remaining[:left]:
            reached = length + costs[row, column] - solution.row_price[row] - solution.column_price[column]
            if reached < search.length[column]:
                search.length[column], search.previous[column] = reached, row
        place = _closest(search.remaining[:left], solution, search)
        closest = search.remaining[place]
        search.column_seen[closest] = True
        search.remaining[place] = search.remaining[left - 1]
        if solution.row_of[closest] == NOBODY:
            return int(closest)
        row, length = solution.row_of[closest], search.length[closest]
    raise ValueError("more rows than columns")


@compiled
def _closest(remaining: Integers, solution: Solution, search: Search) -> int:
    """The place of the column at the least length, a free one if there is any at that length."""
    closest, least = 0, np.inf
    for place in range(len(remaining)):
        length = search.length[remaining[place]]
        free = solution.row_of[remaining[place]] == NOBODY
        if length < least or (free and length == least):
            closest, least = place, length
    return closest


@compiled
def _reprice(start: int, length: float, solution: Solution, search: Search) -> None:
    """Keep every reduced cost at 0 or above, and those of assigned pairs at 0."""
    for row in range(len(search.row_seen)):
        if row == start:
            solution.row_price[row] += length
        elif search.row_seen[row]:
            solution.row_price[row] += length - search.length[solution.column_of[row]]
    for column in range(len(search.column_seen)):
        if search.column_seen[column]:
            solution.column_price[column] -= length - search.length[column]


@compiled
def _move(start: int, free: int, solution: Solution, search: Search) -> None:
    """Reassign along the path, backwards from the free column."""
    column = free
    while True:
        row = search.previous[column]
        solution.row_of[column] = row
        column, solution.column_of[row] = solution.column_of[row], column
        if row == start:
            return
