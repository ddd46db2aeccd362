"""The worker fixture of the broker tests is used here too."""

from tests.broker.conftest import worker_env

__all__ = ["worker_env"]
