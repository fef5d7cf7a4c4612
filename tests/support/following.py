"""A watcher of a token stream that believes nothing: every record must go on exactly where the one before ended."""

from __future__ import annotations

from typing import Any

TERMINAL = ("finished", "failed", "cancelled", "truncated")


class Following:
    """Text and position, as a client has them from the records that it got."""

    def __init__(self) -> None:
        self.generation = ""
        self.text = ""
        self.seq = 0
        self.terminal: dict[str, Any] | None = None
        self.records: list[dict[str, Any]] = []
        self.lost: list[dict[str, Any]] = []
        """Records `not_resumable`."""

    def take(self, record: dict[str, Any]) -> None:
        """One record, in the order of arrival. Fails where something is missing, doubled or mixed."""
        self.records.append(record)
        kind = record["type"]
        if kind == "not_resumable":
            self.lost.append(record)
            return
        if kind == "snapshot":
            if record["from"] == 0:
                if record["generation"] == self.generation:
                    assert self.terminal is None, f"{record} after {self.terminal}"
                    assert record["text"].startswith(self.text), "a snapshot goes on from what was there"
                self.generation, self.text, self.terminal = record["generation"], "", None
            else:
                assert record["generation"] == self.generation, record
                assert record["from"] == self.seq, f"{record} after record {self.seq}"
            self.text += record["text"]
            self.seq = record["seq"]
            return
        assert self.terminal is None, f"{record} after {self.terminal}"
        assert record["seq"] == self.seq + 1, f"{record} after record {self.seq}"
        self.seq = record["seq"]
        if kind == "delta":
            self.text += record["text"]
        else:
            assert kind in TERMINAL, record
            assert record["generation"] == self.generation, record
            assert record["length"] == len(self.text), record
            self.terminal = record

    @property
    def kinds(self) -> list[str]:
        return [record["type"] for record in self.records]

    @property
    def status(self) -> str:
        return self.terminal["type"] if self.terminal is not None else ""
