"""Metric math about time, which graphs use and the embedded cloud does not know.

EPOCH(series), IF(series, series) and TIME_SERIES(MIN(series)) as "Using math expressions with CloudWatch
metrics" (CloudWatch User Guide) defines them; the rest of an expression is the embedded cloud's to compute.
"""

import ast
from collections.abc import Mapping, Sequence

from twin.cloud.moto_gaps import metric_math
from twin.cloud.moto_gaps.metric_math import Values


def evaluate(expression: str, known: Mapping[str, Values], starts: Sequence[int]) -> Values:
    """The expression's series over the periods that begin at `starts`, from the series `known` by id.

    Raises:
        AwsError: ValidationError for what cannot be read, is unknown or not supported.
    """
    time = _Time(known, starts)
    rest = ast.unparse(time.visit(ast.parse(expression, mode="eval")))
    return metric_math.evaluate(rest, time.known, starts)


class _Time(ast.NodeTransformer):
    """Puts a new id in the place of each call that it knows, innermost first."""

    def __init__(self, known: Mapping[str, Values], starts: Sequence[int]) -> None:
        self.known = dict(known)
        self._starts = starts

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """The call, or the id of what it gives."""
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name("EPOCH"), args=[ast.Name(series)]) if series in self.known:
                return self._named({start: start for start in self._starts})
            case ast.Call(func=ast.Name("IF"), args=[ast.Name(condition), ast.Name(then)]):
                return self._named(self._where(self.known[condition], self.known[then]))
            case ast.Call(
                func=ast.Name("TIME_SERIES"), args=[ast.Call(func=ast.Name("MIN"), args=[ast.Name(series)])]
            ):
                least = min(self.known[series].values())
                return self._named(dict.fromkeys(self._starts, least))
        return node

    @staticmethod
    def _where(condition: Values, then: Values) -> Values:
        """The second series where the first is not 0; what the first lacks is dropped."""
        return {start: then.get(start, 0) for start, value in condition.items() if value}

    def _named(self, values: Values) -> ast.Name:
        name = f"time{len(self.known)}"
        self.known[name] = values
        return ast.Name(name)
