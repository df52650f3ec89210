"""Calls side by side, under one deadline."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from control_lambda.aws.calls import Calls


def test_a_call_that_does_not_answer_in_time_is_a_failure() -> None:
    """The tick goes on without it."""
    released = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        calls = Calls(executor, seconds=0.0)
        asked = calls.ask("instances", released.wait)
        assert calls.answer(asked) is None
        released.set()
    assert calls.failures == ["instances: not answered in time"]


def test_a_refused_call_is_a_failure_with_its_code_and_the_others_answer() -> None:
    """One call's failure is not another's."""

    def refuse() -> int:
        raise ClientError({"Error": {"Code": "Throttling", "Message": ""}}, "Operation")

    with ThreadPoolExecutor(2) as executor:
        calls = Calls(executor, seconds=60.0)
        asked = [calls.ask("metrics", refuse), calls.ask("prices", lambda: 7)]
        assert [calls.answer(one) for one in asked] == [None, 7]
    assert calls.failures == ["metrics: Throttling"]


def test_a_bug_in_a_call_is_not_taken_for_a_failure_of_aws() -> None:
    """It propagates, for Lambda to report."""

    def broken() -> int:
        raise KeyError("a bug")

    with ThreadPoolExecutor(1) as executor:
        calls = Calls(executor, seconds=60.0)
        asked = calls.ask("metrics", broken)
        with pytest.raises(KeyError, match="a bug"):
            calls.answer(asked)
