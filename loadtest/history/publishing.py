"""The rate of publishing with history, as a share of plain PUBLISH: one program, one Redis, in turns."""

from __future__ import annotations

import shlex
import statistics
import subprocess
from dataclasses import dataclass
from typing import Final

import orjson

from loadtest.bench.errors import BenchError

MODULE: Final = "gateway.publisher.examples.burst"
DEADLINE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Publications per second: the median of the rounds."""

    plain: float
    kept: float
    spread: float
    rounds: int
    kept_ratio: float
    """Median of the rounds' ratios to plain PUBLISH, into one channel."""
    spread_ratio: float
    """The same into 1,000 channels in turns, where no two publications go together."""


def measure(python: str, redis_url: str, messages: int, rounds: int) -> Rates:
    """Run the publisher. `python`: command of an interpreter that has it. Raises BenchError."""
    command = [*shlex.split(python), "-m", MODULE, redis_url, "--messages", str(messages), "--rounds", str(rounds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"the publisher cannot be measured: {error}") from error
    if done.returncode:
        raise BenchError(f"the publisher has ended with {done.returncode}: {done.stderr[-500:]}")
    rates: dict[str, list[float]] = orjson.loads(done.stdout)
    return rates_of(rates)


def rates_of(rates: dict[str, list[float]]) -> Rates:
    """What the rounds say."""
    plain, kept, spread = rates["plain"], rates["kept"], rates["spread"]
    return Rates(
        plain=statistics.median(plain),
        kept=statistics.median(kept),
        spread=statistics.median(spread),
        rounds=len(plain),
        kept_ratio=statistics.median(with_it / without for with_it, without in zip(kept, plain, strict=True)),
        spread_ratio=statistics.median(with_it / without for with_it, without in zip(spread, plain, strict=True)),
    )
