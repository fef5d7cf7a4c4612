"""What is left of clients that have gone: the comparison, and a short run."""

from __future__ import annotations

import pytest

from loadtest.soak.__main__ import Results, main
from loadtest.soak.churn import Lives
from loadtest.soak.rest import Rest, left_over

START = {"edge-1": Rest(rss_kib=100_000, files=40, tasks=16)}


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (Rest(110_000, 42, 16), ""),
        (Rest(90_000, 30, 10), ""),
        (Rest(110_001, 40, 16), "edge-1 has 110,001 KiB"),
        (Rest(100_000, 43, 16), "edge-1 has 43 open files"),
        (Rest(100_000, 40, 17), "edge-1 has 17 tasks"),
    ],
)
def test_what_is_left_over_is_named(after: Rest, words: str) -> None:
    found = left_over(START, {"edge-1": after})
    assert [line.startswith(words) for line in found] == [True] * bool(words)


def test_a_worker_that_was_not_there_is_named() -> None:
    assert left_over(START, {"edge-3": START["edge-1"]}) == ["edge-3 was not there at the start"]


def test_everything_that_must_not_be_is_a_violation() -> None:
    good = Results(before=START, after=START, lives=Lives(begun=5, connected=5))
    assert good.violations() == []
    bad = Results(
        before=START,
        after={"edge-1": Rest(1, 100, 1)},
        lives=Lives(begun=5, connected=0, doubled=1, out_of_order=2),
        wrong=["3 × something"],
    )
    assert len(bad.violations()) == 4


@pytest.mark.timeout(170)
def test_a_short_run_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--minutes", "0.2", "--clients", "30"])
    said = capsys.readouterr().out
    assert status == 0, said
    assert "3 reloads" in said
    assert "PASS" in said
