"""The measurement of TLS measures something."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loadtest.tls import LANES, make_certificate, measure


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_gives_figures(lane: str, tmp_path: Path) -> None:
    result = asyncio.run(measure(lane, make_certificate(tmp_path), connections=20, rounds=2))
    assert result.handshakes_per_s > 0
    assert result.us_per_delivery > 0
