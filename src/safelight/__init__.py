"""Safelight: every finished result appears in every open window, is stored for good, and is paid for exactly once."""

__version__ = "0.1.0"
