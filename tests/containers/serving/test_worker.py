"""The device's thread, run here in the test's own: over a closed queue it ends by itself."""

from collections.abc import Callable, Sequence

import pytest
from PIL.Image import Image

from containers.serving.admission import ServiceTimes
from containers.serving.backends.protocol import (
    Backend,
    DeviceError,
    InvalidPictureError,
    OnStep,
    Picture,
    Preview,
    Work,
)
from containers.serving.batching import Job, JobQueue
from containers.serving.errors import ApiError
from containers.serving.health import Health
from containers.serving.metrics import Telemetry
from containers.serving.settings import Settings
from containers.serving.worker import DeviceWorker
from tests.containers.serving.fake_backend import SMALL, FakeBackend

WORK = Work(SMALL, 9, 7.5)


class Device:
    """A worker over jobs 1 to 3, one to a batch, and a queue that takes no more."""

    def __init__(
        self, load: Callable[[], Backend], settings: Settings, times: ServiceTimes | None = None
    ) -> None:
        self.health = Health()
        self.queue = JobQueue(0.0)
        self.jobs = [Job(Picture("", "", seed, WORK), deadline=float("inf")) for seed in (1, 2, 3)]
        self.queue.put(self.jobs)
        self.queue.close()
        self.worker = DeviceWorker(
            load, self.queue, self.health, times or ServiceTimes(), Telemetry(settings), settings
        )

    def errors(self) -> list[str]:
        """What became of each job, in words; empty for a picture."""
        assert all(job.future.done() for job in self.jobs), "somebody waits for ever"
        return [str(job.future.exception() or "") for job in self.jobs]


def test_a_batch_that_fails_for_whatever_reason_answers_its_own_jobs_and_no_more(settings: Settings) -> None:
    """A bug in a backend ends neither the thread nor the other requests."""
    backend = FakeBackend()
    backend.errors[2] = ZeroDivisionError("a bug")
    device = Device(lambda: backend, settings)
    device.worker.run()
    assert device.errors() == ["", "a bug", ""]
    assert device.worker.error is None
    assert device.health.not_live == ""


@pytest.mark.parametrize(
    "error", [DeviceError("poison"), ValueError("poison"), InvalidPictureError("poison")]
)
def test_a_batch_that_fails_is_made_one_by_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever the error: one client's text costs no stranger a picture, nor the server its readiness."""
    backend = FakeBackend()
    backend.errors[2] = error
    device = Device(lambda: backend, settings)
    monkeypatch.setattr(device.worker, "batch_limit", lambda _: 3)
    device.worker.run()
    assert device.errors() == ["", "poison", ""]
    assert backend.seeds[-4:] == [[1, 2, 3], [1], [2], [3]]
    assert device.health.not_ready == ""


def test_a_batch_goes_on_while_anybody_waits_for_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between two steps once the last one has left, and what it took until then is learned."""
    backend, times = FakeBackend(), ServiceTimes()
    device = Device(lambda: backend, settings, times)
    monkeypatch.setattr(device.worker, "_prepare", lambda: backend)  # warm-up waits for nobody
    monkeypatch.setattr(device.worker, "batch_limit", lambda _: 3)
    leaving = iter(device.jobs)

    generate = backend.generate

    def generate_while_they_leave(pictures: Sequence[Picture], on_step: OnStep) -> list[Image]:
        def step(done: int, preview: Preview) -> None:
            next(leaving).future.cancel()
            on_step(done, preview)

        return generate(pictures, step)

    monkeypatch.setattr(backend, "generate", generate_while_they_leave)
    device.worker.run()
    assert backend.made_steps[-1] == 3
    assert times.estimate(WORK, 3) > 0


def test_a_backend_that_makes_too_few_pictures_fails_its_batch(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever, and the thread goes on."""
    backend = FakeBackend()
    device = Device(lambda: backend, settings)
    monkeypatch.setattr(device.worker, "_prepare", lambda: backend)
    monkeypatch.setattr(backend, "generate", lambda *_: [])
    device.worker.run()
    assert device.errors() == ["the device made 0 pictures of 1"] * 3


def test_a_model_that_does_not_load_ends_the_thread_and_is_told_to_all(settings: Settings) -> None:
    """Health knows, whoever waits is answered, and who comes later is refused: nobody waits for ever."""
    bug = RuntimeError("no such file")

    def load() -> Backend:
        raise bug

    device = Device(load, settings)
    device.worker.run()
    assert device.worker.error is bug
    assert device.health.not_live == device.health.not_ready == "the device thread ended: no such file"
    assert device.errors() == ["the server is stopping"] * 3
    with pytest.raises(ApiError, match="stopping"):
        device.queue.put(device.jobs)


def test_a_thread_that_ends_early_closes_the_queue_itself(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the thread's own step: what still waits is answered."""
    device = Device(FakeBackend, settings)

    def step(_: Backend) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(device.worker, "_step", step)
    device.worker.run()
    assert device.errors() == ["the server is stopping"] * 3
    assert device.health.not_live == "the device thread ended: a bug of ours"
