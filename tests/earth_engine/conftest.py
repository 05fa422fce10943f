"""Makes the fixtures of the local Earth Engine known to its own tests."""

from tests.earth_engine.fixtures import earth_engine, earth_engine_server

__all__ = ["earth_engine", "earth_engine_server"]
