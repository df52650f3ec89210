"""What no distributor can exceed, though it knew every arrival and every service time beforehand.

Whatever it does, the scored queries that it answers in time are served between the first one's arrival and
one target after the last one's, each on one instance, none for longer than the target. With x_qt = 1 where
query q is served on type t, s_qt its seconds there and n_t instances of the type: Σ_q s_qt·x_qt ≤ n_t·z,
where z is the length of that time, Σ_t x_qt ≤ 1, and Σ x_qt ≥ 99 % of the queries. The least z of the program
with fractions allowed gives the bound: it ignores when queries come and that none can be split.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from twin.mixes.samples import Latencies
from twin.mixes.search import Mix, answers_needed, first_scored, service_seconds
from twin.mixes.workload import Workload
from twin.steering.oracle import OracleError

Floats = NDArray[np.float64]


def bound(latencies: Latencies, workload: Workload, mix: Mix) -> float:
    """Queries per second above which no distributor answers 99 % in time; 0 if none does at any rate.

    Raises:
        OracleError: the solver gave no optimum.
    """
    first = first_scored(workload)
    seconds = service_seconds(latencies, workload)[first:]
    able = (seconds <= latencies.target_seconds) & (np.array(mix) > 0)
    needed = answers_needed(workload)
    if able.any(axis=1).sum() < needed:
        return 0.0
    span = _least_span(seconds, able, np.array(mix, dtype=np.float64), needed)
    arrivals = workload.arrivals(1.0)
    return float((arrivals[-1] - arrivals[first]) / max(span - latencies.target_seconds, 1e-9))


def _least_span(seconds: Floats, able: NDArray[np.bool_], counts: Floats, needed: int) -> float:
    """The least z; the columns are the able pairs and z."""
    queries, kinds = np.nonzero(able)
    pairs = np.arange(len(queries))
    ones = np.ones(len(queries))
    busy = sparse.csr_array((seconds[able], (kinds, pairs)), shape=(len(counts), len(pairs)))
    once = sparse.csr_array((ones, (queries, pairs)), shape=(len(seconds), len(pairs)))
    matrix = sparse.block_array(
        [
            [busy, sparse.csr_array(-counts[:, np.newaxis])],
            [once, None],
            [sparse.csr_array(-ones[np.newaxis, :]), None],
        ],
        format="csr",
    )
    right = np.concatenate((np.zeros(len(counts)), np.ones(len(seconds)), [-needed]))
    costs = np.zeros(len(pairs) + 1)
    costs[-1] = 1.0
    solution = linprog(costs, A_ub=matrix, b_ub=right, method="highs")
    if not solution.success:
        raise OracleError(f"clairvoyant bound: {solution.message}")
    return float(solution.x[-1])
