"""The package's version: raise it here, and CHANGELOG.md says what changed."""

__version__ = "0.1.0"
