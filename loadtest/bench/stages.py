"""Progress on the terminal: what is being done, how far it is, and how much of the run is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Stages:
    """Shows one bar for the whole run and one for the stage. Without a terminal: a line a stage."""

    def __init__(self, console: Console, title: str = "benchmark") -> None:
        self._console = console
        self._title = title
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._run = self._progress.add_task(f"[bold]{title}", total=None)
        self._stages = 0

    @contextmanager
    def shown(self, stages: int) -> Iterator[None]:
        """Show progress meanwhile; `stages` is how many there will be, about."""
        self._stages = stages
        self._progress.update(self._run, total=stages)
        with self._progress:
            yield

    @contextmanager
    def stage(self, text: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """One stage. Yields a function that takes how much of `total` is done."""
        if not self._console.is_terminal:
            self._console.print(f"  {text}", highlight=False)
        task = self._progress.add_task(text, total=total)
        try:
            yield lambda done: self._progress.update(task, completed=done)
        finally:
            self._progress.remove_task(task)
            self._progress.advance(self._run)

    def now(self, text: str) -> None:
        """What is going on, behind the title, on a terminal."""
        self._progress.update(self._run, description=f"[bold]{self._title}[/] {text}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False)
