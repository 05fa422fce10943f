"""The local Earth Engine, for every module that asks for it."""

from tests.support.earth_engine.fixtures import earth_engine, earth_engine_server

__all__ = ["earth_engine", "earth_engine_server"]
