"""From settings to a loaded backend; each backend is imported only where it is used."""

from importlib import import_module

from containers.serving import store
from containers.serving.backends.protocol import Backend
from containers.serving.settings import Settings


def load_backend(settings: Settings) -> Backend:
    """Fetch the model if it isn't here, and load it onto the device.

    Raises:
        InvalidSettingsError: no source has the model, or the backend can't run here.
        store.ChecksumError: what was fetched is not what was stored.
    """
    directory = store.model_directory(settings)
    module = import_module(f"containers.serving.backends.{settings.backend}")
    backend: Backend = module.load(settings, directory)
    return backend
