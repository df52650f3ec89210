"""What tests are made with refuses what it does not know: a misspelt keyword would change nothing, unseen."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parent


def ignoring(tree: ast.Module) -> Iterator[str]:
    """The functions that pick from their `**keywords` by `get`, and so let all others pass."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.args.kwarg:
            taken = f"{function.args.kwarg.arg}.get"
            calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
            if any(ast.unparse(call.func) == taken for call in calls):
                yield function.name


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_helper_ignores_a_keyword(path: Path) -> None:
    """It names its keywords, or hands them to something that refuses unknown ones."""
    assert list(ignoring(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_a_helper_that_picks_keywords_is_found() -> None:
    """And one that hands them on is none."""
    picking = "def made(**told: int) -> int:\n    return told.get('size', 1)\n"
    handing = "def made(**told: int) -> Thing:\n    return Thing(**told)\n"
    assert list(ignoring(ast.parse(picking))) == ["made"]
    assert list(ignoring(ast.parse(handing))) == []
