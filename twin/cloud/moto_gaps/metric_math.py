"""Metric math: what GetMetricData's expressions compute, as far as the embedded cloud goes.

Arithmetic (+ - * / ^) and comparisons (1 where true, 0 where false) over ids and numbers, METRICS() and,
over arrays of series, SUM, AVG, MIN and MAX, and FILL(series, number | REPEAT). Two series meet at the
minutes that both have; a division by zero leaves its minute out; an aggregate takes whatever series a
minute has. Source: "Using math expressions with CloudWatch metrics" in the CloudWatch User Guide.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Final

from twin.cloud.moto_gaps.protocol import AwsError

Values = Mapping[int, float]
Operand = float | Values | Sequence[Values]

ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[float, float], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
AGGREGATES: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "SUM": sum,
    "AVG": fmean,
    "MIN": min,
    "MAX": max,
}


def evaluate(expression: str, known: Mapping[str, Values], minutes: Sequence[int]) -> Values:
    """The expression's series over `minutes` (ascending), from the series `known` by id.

    Raises:
        AwsError: ValidationError for what cannot be read, is unknown or not supported.
    """
    try:
        tree = ast.parse(expression.replace("^", "**"), mode="eval")
    except SyntaxError as error:
        raise _invalid(expression, "it cannot be read") from error
    value = _Evaluation(expression, known, minutes).value(tree.body)
    if not isinstance(value, Mapping):
        raise _invalid(expression, "it does not give one time series")
    return value


class _Evaluation:
    """One expression at work."""

    def __init__(self, expression: str, known: Mapping[str, Values], minutes: Sequence[int]) -> None:
        self._expression = expression
        self._known = known
        self._minutes = minutes

    def value(self, node: ast.expr) -> Operand:
        """What the node stands for."""
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name) if name in self._known:
                return self._known[name]
            case ast.List(elts=items):
                return [self._series(item) for item in items]
            case ast.UnaryOp() | ast.BinOp() | ast.Compare():
                return self._operation(node)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, arguments)
        raise self._unsupported(ast.unparse(node))

    def _operation(self, node: ast.UnaryOp | ast.BinOp | ast.Compare) -> Operand:
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._combine(operator.sub, 0.0, self._operand(operand))
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in ARITHMETIC:
                return self._combine(ARITHMETIC[type(sign)], self._operand(left), self._operand(right))
            case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in COMPARISONS:
                return self._combine(COMPARISONS[type(sign)], self._operand(left), self._operand(right))
        raise self._unsupported(ast.unparse(node))

    def _call(self, name: str, arguments: Sequence[ast.expr]) -> Operand:
        match arguments:
            case [] if name == "METRICS":
                return list(self._known.values())
            case [operand] if name in AGGREGATES:
                return self._aggregate(AGGREGATES[name], self.value(operand))
            case [operand, filler] if name == "FILL":
                return self._fill(self._series(operand), filler)
        raise self._unsupported(name)

    def _operand(self, node: ast.expr) -> float | Values:
        value = self.value(node)
        if isinstance(value, Sequence):
            raise self._unsupported("arithmetic on an array")
        return value

    def _series(self, node: ast.expr) -> Values:
        value = self.value(node)
        if not isinstance(value, Mapping):
            raise self._unsupported(f"{ast.unparse(node)} in place of a time series")
        return value

    def _combine(
        self, function: Callable[[float, float], float], left: float | Values, right: float | Values
    ) -> float | Values:
        if not isinstance(left, Mapping) and not isinstance(right, Mapping):
            return float(function(left, right))
        result: dict[int, float] = {}
        for minute in self._minutes:
            one = left.get(minute) if isinstance(left, Mapping) else left
            other = right.get(minute) if isinstance(right, Mapping) else right
            if one is None or other is None or (function is operator.truediv and other == 0):
                continue
            result[minute] = float(function(one, other))
        return result

    def _aggregate(self, function: Callable[[Sequence[float]], float], value: Operand) -> Values:
        if not isinstance(value, Sequence):
            raise self._unsupported("an aggregate of anything but an array of series")
        result: dict[int, float] = {}
        for minute in self._minutes:
            present = [values[minute] for values in value if minute in values]
            if present:
                result[minute] = function(present)
        return result

    def _fill(self, values: Values, filler: ast.expr) -> Values:
        repeat = isinstance(filler, ast.Name) and filler.id == "REPEAT"
        last = None if repeat else self.value(filler)
        if isinstance(last, Mapping | Sequence):
            raise self._unsupported("FILL with anything but a number or REPEAT")
        result: dict[int, float] = {}
        for minute in self._minutes:
            filled = values.get(minute, last)
            if filled is not None:
                result[minute] = filled
            last = filled if repeat else last
        return result

    def _unsupported(self, what: str) -> AwsError:
        return _invalid(self._expression, f"{what} is unknown or not supported")


def _invalid(expression: str, why: str) -> AwsError:
    return AwsError("ValidationError", f"Error in expression '{expression}': {why}.")
