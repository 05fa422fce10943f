"""What these tests share of the world outside: a local Earth Engine, and worker processes."""

import pytest

from tests.support.earth_engine.fixtures import earth_engine, earth_engine_server
from tests.support.workers import connected, local_cluster

__all__ = ["client", "earth_engine", "earth_engine_server", "two_processes"]


@pytest.fixture(scope="session")
def two_processes():
    """For all tests that leave them alive; those that kill have workers of their own."""
    with local_cluster(n_workers=2, threads_per_worker=1) as workers:
        yield workers


@pytest.fixture
def client(two_processes):
    yield from connected(two_processes)
