"""Pytest fixtures, which the conftest of a folder imports: one server per session."""

from __future__ import annotations

import pytest

from tests.support.earth_engine import LocalEarthEngine


@pytest.fixture(scope="session")
def earth_engine_server():
    """Run one server for the whole session."""
    with LocalEarthEngine() as engine:
        yield engine


@pytest.fixture
def earth_engine(earth_engine_server):
    """Connect the client to the session's server, with an empty log and no faults."""
    earth_engine_server.reset()
    earth_engine_server.initialize()
    earth_engine_server.reset()
    return earth_engine_server
