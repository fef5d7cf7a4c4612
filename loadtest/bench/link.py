"""The driver's end of a load generator: commands out, answers and progress in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from loadtest.bench.errors import BenchError
from loadtest.bench.processes import Child


class Link:
    """Talks to one generator process. Commands are carried out one at a time; `ask` waits for the answer."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @property
    def pid(self) -> int:
        """The generator's process."""
        return self._child.process.pid

    @classmethod
    def start(cls, name: str, cores: frozenset[int], folder: Path, module: str = "loadtest.bench.generator") -> Link:
        """Start a generator on `cores`."""
        command = [sys.executable, "-m", module]
        return cls(Child.start(f"{name}-clients", command, cores, folder, talks=True))

    def ask(self, do: str, progress: Callable[[int], None] | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command. Raises `BenchError` when the generator answers with an error, or has ended."""
        pipe_in, pipe_out = self._child.process.stdin, self._child.process.stdout
        if pipe_in is None or pipe_out is None:
            raise BenchError("a generator was started without pipes")
        try:
            pipe_in.write(orjson.dumps({"do": do, **parameters}) + b"\n")
            pipe_in.flush()
        except BrokenPipeError:
            self._child.check_alive()
            raise
        while line := pipe_out.readline():
            answer: dict[str, Any] = orjson.loads(line)
            if "progress" in answer:
                if progress is not None:
                    progress(answer["progress"])
            elif "error" in answer:
                raise BenchError(answer["error"])
            else:
                return answer
        self._child.process.wait(5)
        self._child.check_alive()
        raise BenchError(f"{self._child.name} closed its output")

    def stop(self) -> None:
        """End the generator; its connections go with it."""
        self._child.stop()
