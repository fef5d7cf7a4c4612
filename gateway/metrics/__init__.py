"""What the gateway counts and times. A leaf room: `names` is the table of metrics, `table` the memory they live in."""

from gateway.metrics.latency import LatencyRecorder, LatencyRow
from gateway.metrics.table import CounterTable, private_row

__all__ = ["CounterTable", "LatencyRecorder", "LatencyRow", "private_row"]
