"""The broker tests' bench serves here too."""

from tests.broker.conftest import bench

__all__ = ["bench"]
