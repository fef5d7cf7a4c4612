"""What can go wrong in the driver. A leaf."""

from __future__ import annotations


class BenchError(Exception):
    """Something that keeps a figure from being measured. The text says what, for a person."""


class AbsentError(BenchError):
    """A server that cannot be measured on this machine: there will be no row for it."""
