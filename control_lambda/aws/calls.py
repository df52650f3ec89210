"""Calls that run side by side; none is waited for longer than a tick can bear."""

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as NotAnsweredError
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

from control_lambda.errors import FAILED_CALL, code_of

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Answer]):
    """A call on its way, and the name by which its failure is told."""

    name: str
    future: Future[Answer]


class Calls:
    """Calls that share one deadline, `seconds` from now. `failures` names those that brought nothing."""

    def __init__(self, executor: Executor, seconds: float) -> None:
        self._executor = executor
        self._deadline = time.monotonic() + seconds
        self.failures: list[str] = []

    def ask(
        self,
        name: str,
        call: Callable[Arguments, Answer],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Asked[Answer]:
        """Start a call."""
        return Asked(name, self._executor.submit(call, *args, **kwargs))

    def answer(self, asked: Asked[Answer]) -> Answer | None:
        """The call's answer; None, and a failure, when AWS refused it or it is late."""
        try:
            return asked.future.result(max(self._deadline - time.monotonic(), 0.0))
        except FAILED_CALL as error:
            self.failures.append(f"{asked.name}: {code_of(error)}")
        except NotAnsweredError:
            asked.future.cancel()
            self.failures.append(f"{asked.name}: not answered in time")
        return None
