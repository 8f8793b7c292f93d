"""The management node: one process that hosts every service."""

__version__ = "0.1.0"
