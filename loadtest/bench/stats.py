"""Percentiles and medians. Pure; percentiles are not interpolated, so each one is a sample that was really seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def percentile(sorted_samples: Sequence[int], percent: float) -> int:
    """The smallest sample that at least `percent` (0.1–100) per cent of all samples do not exceed (nearest rank).

    Tenths of a per cent count, finer parts are rounded.

    `sorted_samples` is ascending and not empty; raises `ValueError` otherwise.
    """
    if not sorted_samples:
        raise ValueError("no samples: nothing was received while latency was recorded")
    tenths = round(percent * 10)
    if not 1 <= tenths <= 1000:
        raise ValueError(f"{percent} is not a percentage from 0.1 to 100")
    rank = -(-len(sorted_samples) * tenths // 1000)
    return sorted_samples[rank - 1]


def median(values: Iterable[float | None]) -> float | None:
    """The middle of the values that are there (mean of the middle two), or None when none is."""
    there = sorted(value for value in values if value is not None)
    if not there:
        return None
    middle = len(there) // 2
    return there[middle] if len(there) % 2 else (there[middle - 1] + there[middle]) / 2
