"""The one place where the version is."""

__version__ = "0.1.0"
