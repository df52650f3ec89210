"""The run of the builds in accounts that limit them: what is built, in which order, and when."""

from collections.abc import Mapping
from typing import Any

import pytest

from infra.settings import Settings
from tests.infra.builds.run_simulator import Account, execute
from tests.infra.builds.test_images import Built

HOUR = 3600
FIVE = 5  # two images, the weights, two compilations


@pytest.fixture(scope="module")
def machine(default_settings: Settings) -> Mapping[str, Any]:
    """The default fleet's run."""
    return Built(default_settings).run()


def failed(results: Mapping[str, Any]) -> set[str]:
    """The builds that did not succeed, of all stages."""
    return {result["failed"] for stage in results.values() for result in stage if "failed" in result}


def named(account: Account) -> list[str]:
    """What was started, in order, by its logical id."""
    return [project.partition("Project")[0] for project in account.started]


def test_an_ordinary_account_builds_all_of_a_stage_at_once(machine: Mapping[str, Any]) -> None:
    """Two stages of twenty minutes each."""
    account = Account(limits=[(0, 60)])
    assert failed(execute(machine, account, "Finish")) == set()
    assert (len(account.started), account.most_at_once) == (FIVE, 3)
    assert account.now == 2 * account.build_seconds


def test_with_a_limit_of_one_the_builds_run_one_after_the_other(machine: Mapping[str, Any]) -> None:
    """As new accounts have it; none is lost, and the time between two is short against a build."""
    account = Account(limits=[(0, 1)])
    assert failed(execute(machine, account, "Finish")) == set()
    assert (len(account.started), account.most_at_once) == (FIVE, 1)
    assert account.now < 2 * FIVE * account.build_seconds


@pytest.mark.parametrize("hours", [1, 4, 8])
def test_an_account_that_is_not_verified_yet_gets_its_builds_when_it_is(
    machine: Mapping[str, Any], hours: int
) -> None:
    """It hears `Cannot have more than 0 builds in queue` for hours, then one at a time."""
    account = Account(limits=[(0, 0), (hours * HOUR, 1)])
    assert failed(execute(machine, account, "Finish")) == set()
    assert account.now < (hours + 4) * HOUR


def test_an_account_that_never_gets_builds_ends_as_a_failure(machine: Mapping[str, Any]) -> None:
    """After ten hours, and within the run's own limit: then its alarm rings."""
    account = Account(limits=[(0, 0)])
    results = execute(machine, account, "Finish")
    assert failed(results) == {"image-neuron", "image-nvidia", "weights", "for-inf2", "for-trn1"}
    assert 9 * HOUR < account.now < 20 * HOUR


@pytest.mark.parametrize("lacking", ["ImagesBuildneuron", "ModelStoreDownload"])
def test_nothing_is_compiled_without_its_image_and_its_weights(
    machine: Mapping[str, Any], lacking: str
) -> None:
    """It would fail after the image was not found, or worse: compile what is about to be replaced."""
    projects = {
        state["Parameters"]["ProjectName"]
        for branch in machine["States"]["made"]["Branches"]
        for state in branch["States"].values()
        if state["Type"] == "Task"
    }
    broken = frozenset(project for project in projects if project.startswith(lacking))
    account = Account(limits=[(0, 60)], failing=broken)
    assert {"for-inf2", "for-trn1"} < failed(execute(machine, account, "Finish"))
    assert not [name for name in named(account) if name.startswith("ImagesCompile")]


def test_another_images_failure_stops_no_compilation(machine: Mapping[str, Any]) -> None:
    """The GPUs' image is nothing to a compilation for Neuron."""
    projects = [
        state["Parameters"]["ProjectName"]
        for branch in machine["States"]["made"]["Branches"]
        for state in branch["States"].values()
        if state["Type"] == "Task" and state["Parameters"]["ProjectName"].startswith("ImagesBuildnvidia")
    ]
    account = Account(limits=[(0, 60)], failing=frozenset(projects))
    assert failed(execute(machine, account, "Finish")) == {"image-nvidia"}
