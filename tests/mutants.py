"""`python -m tests.mutants PATH …`: plant faults in the code, one at a time, and tell which no test finds.

cosmic-ray plants them. Its own runner changes the working tree, runs one and the same command for every fault
and knows no sample; mutmut chooses tests by coverage, but leaves module constants and decorated functions
alone. So a sample of cosmic-ray's faults is drawn here, of places first, so that no kind of fault counts more
for having many variants. Each is planted in a copy of the tree, where the tests run that concern it: those of
its module, of its room, of its house, until one fails.

Left out are variants that Python itself finds (arithmetic on bits), that nobody can (`is` for `==`), and what
only guards against ourselves (a dataclass's `slots`, `zip`'s `strict`).
"""

import argparse
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ARITHMETIC: Final = "ReplaceBinaryOperator_(Add|Sub|Mul|Div)_(Add|Sub|Mul|Div)"
COMPARISON: Final = "ReplaceComparisonOperator_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Eq|NotEq|Lt|LtE|Gt|GtE)"
IDENTITY: Final = "ReplaceComparisonOperator_(Is_IsNot|IsNot_Is)"
LOGIC: Final = "AddNot|Replace(And|Or)With(And|Or)|ReplaceUnaryOperator_Delete_(Not|USub)"
TRUTH: Final = "ReplaceTrueWithFalse|ReplaceFalseWithTrue"
FLOW: Final = "ReplaceBreakWithContinue|ReplaceContinueWithBreak|ZeroIterationForLoop|ExceptionReplacer"
WANTED: Final = re.compile(
    f"core/({ARITHMETIC}|{COMPARISON}|{IDENTITY}|{LOGIC}|{TRUTH}|{FLOW}|NumberReplacer)"
)
# A test that has not ended by then is one that the fault keeps from ending.
TEST_SECONDS: Final = 120
PYTEST: Final = ("-x", "-q", "--no-header", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb=no")
NO_TESTS: Final = 5  # pytest's exit code

Place = tuple[Path, int, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that cosmic-ray can plant: the `occurrence`-th of an operator in a file, at `line`."""

    path: Path
    line: int
    operator: str
    occurrence: int

    def planted(self, source: str) -> str:
        """The file's text with the fault."""
        text = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        assert isinstance(text, str), self
        return text

    def told(self, source: str) -> str:
        """`file:line old -> new`."""
        before, after = source.splitlines(), self.planted(source).splitlines()
        number = next(
            (row for row, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]),
            self.line - 1,
        )
        return f"{self.path}:{number + 1} {before[number].strip()} -> {after[number].strip()}"


def faults_by_place(path: Path) -> dict[Place, list[Fault]]:
    """Every fault that can be planted in the file, by where it begins."""
    found: dict[Place, list[Fault]] = defaultdict(list)
    nodes = list(ast_nodes(get_ast(path.read_text("utf-8"))))
    for name in filter(WANTED.fullmatch, operator_names()):
        operator, occurrences = get_operator(name)(), itertools.count()
        for node in nodes:
            for (line, column), _ in operator.mutation_positions(node):
                occurrence = next(occurrences)
                if not _is_idle(node):
                    found[path, line, column].append(Fault(path, line, name, occurrence))
    return found


def _is_idle(node: Any) -> bool:
    """Whether a fault there says nothing: a star that multiplies nothing, a decorator, `strict=` of `zip`."""
    if node.type == "operator" and node.value == "*":
        return bool(node.parent.type != "term")
    is_strict = node.parent is not None and node.parent.get_code().strip() == "strict=True"
    return is_strict or node.search_ancestor("decorator") is not None


def drawn(paths: Sequence[Path], sample: int, seed: int) -> list[Fault]:
    """A sample of places in these files and folders, with one fault for each."""
    files = sorted(file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py")))
    places = [faults for file in files for _, faults in sorted(faults_by_place(file).items())]
    draw = random.Random(seed)
    return [draw.choice(faults) for faults in draw.sample(places, min(sample, len(places)))]


def concerned(path: Path, widest: Path) -> list[list[str]]:
    """What pytest is given for the tests of the module, then of each folder around it up to the widest."""
    module = Path("tests", path.parent, f"test_{path.stem}.py")
    around = [Path("tests", folder) for folder in path.parents if folder != Path()]
    within = [step for step in (module, *around) if step.exists() and step.is_relative_to(widest)]
    return [
        [str(step), *(f"--ignore={done}" for done in within[:position])]
        for position, step in enumerate(within)
    ]


class Copy:
    """A copy of the tree, for one fault at a time."""

    def __init__(self, folder: Path, python: Path, widest: Path) -> None:
        self._folder = folder
        self._python = python
        self._widest = widest
        self._turn = itertools.count(1_000_000_000)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git is git
            capture_output=True,
            check=True,
        ).stdout
        for name in filter(None, listed.decode().split("\0")):
            if Path(name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(name, folder / name)

    def finds(self, fault: Fault, seconds: float) -> bool:
        """Whether a test that concerns the fault fails or does not end."""
        source = self.text(fault)
        self._write(fault.path, fault.planted(source))
        try:
            return any(self.failure(step, seconds) for step in concerned(fault.path, self._widest))
        finally:
            self._write(fault.path, source)

    def text(self, fault: Fault) -> str:
        """The text of the fault's file."""
        return (self._folder / fault.path).read_text("utf-8")

    def failure(self, tests: Sequence[str], seconds: float) -> str:
        """What pytest says last where a test fails or they have not ended after so long; else empty."""
        with subprocess.Popen(
            [self._python, "-m", "pytest", *PYTEST, f"--timeout={TEST_SECONDS}", *tests],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as run:
            try:
                said, _ = run.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)
                return f"not ended after {seconds:g} s"
        return "" if run.returncode in {0, NO_TESTS} else said[-1000:]

    def _write(self, path: Path, text: str) -> None:
        """With a time of its own: Python tells a stale byte code by the source's size and whole second."""
        target = self._folder / path
        target.write_text(text, "utf-8")
        second = next(self._turn)
        os.utime(target, (second, second))


def survivors(faults: Sequence[Fault], copies: Sequence[Copy], seconds: float) -> list[str]:
    """What no test found, told; says how each fault fared as it goes."""
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)
    told = threading.Lock()

    def fate(numbered: tuple[int, Fault]) -> str:
        number, fault = numbered
        copy = free.get()
        try:
            text = fault.told(copy.text(fault))
            is_found = copy.finds(fault, seconds)
        finally:
            free.put(copy)
        with told:
            print(f"{number}/{len(faults)} {'found' if is_found else 'SURVIVED'} {text}", flush=True)
        return "" if is_found else text

    with ThreadPoolExecutor(len(copies)) as pool:
        return sorted(filter(None, pool.map(fate, enumerate(faults, 1))))


def main() -> int:
    """Plant the sample: 0; 1 where fewer than `--at-least` percent were found; 2 where tests fail anyway."""
    options = arguments()
    faults = drawn(options.paths, options.sample, options.seed)
    widest = sorted({concerned(fault.path, options.within)[-1][0] for fault in faults})
    with tempfile.TemporaryDirectory() as folder:
        copies = [
            Copy(Path(folder, str(number)), options.python, options.within) for number in range(options.jobs)
        ]
        if failure := copies[0].failure(widest, options.seconds):
            print(failure, "tests.mutants: a test fails without any fault; mend that first", file=sys.stderr)
            return 2
        left = survivors(faults, copies, options.seconds)
    found = 100 * (len(faults) - len(left)) / max(1, len(faults))
    print(*left, sep="\n")
    print(f"{len(faults) - len(left)} of {len(faults)} faults found ({found:.1f} %), seed {options.seed}")
    return int(found < options.at_least)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Which faults no test finds."
    )
    parser.add_argument("paths", nargs="+", type=Path, help="files and folders of the code")
    parser.add_argument("--sample", type=int, default=200, help="how many faults (200)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (1)")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time, each in its own copy (2)")
    parser.add_argument(
        "--within", type=Path, default=Path("tests"), help="the widest folder of tests that may run (tests)"
    )
    parser.add_argument(
        "--seconds", type=float, default=900.0, help="how long a folder's tests may take (900)"
    )
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="what runs the tests")
    parser.add_argument("--at-least", type=float, default=0.0, help="percent; fewer found is exit code 1 (0)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
