"""The version, in one place that both the package and the attributes read."""

__version__ = "0.1.0"
