"""Calls that run side by side; none is waited for longer than a tick can bear."""

import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotAnsweredError
from typing import Generic, NamedTuple, ParamSpec, Protocol, TypeVar

from control_lambda.errors import FAILED_CALL, code_of

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)
Arguments = ParamSpec("Arguments")


class Pending(Protocol[Answer_co]):
    """What a call will answer: of `concurrent.futures.Future` what is needed here."""

    def result(self, timeout: float | None = None) -> Answer_co:
        """The answer, or what the call raised."""
        ...

    def cancel(self) -> bool:
        """Call no more."""
        ...


class Executor(Protocol):
    """What makes calls: of `concurrent.futures.Executor` what is needed here."""

    def submit(
        self, call: Callable[Arguments, Answer], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Pending[Answer]:
        """Start a call."""
        ...


class Asked(NamedTuple, Generic[Answer]):
    """A call on its way, and the name by which its failure is told."""

    name: str
    pending: Pending[Answer]


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
            return asked.pending.result(max(self._deadline - time.monotonic(), 0.0))
        except FAILED_CALL as error:
            self.failures.append(f"{asked.name}: {code_of(error)}")
        except NotAnsweredError:
            asked.pending.cancel()
            self.failures.append(f"{asked.name}: not answered in time")
        return None
