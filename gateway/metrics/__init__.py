"""What the gateway counts. A leaf room: `names` is the table of metrics, `table` the shared memory they live in."""

from gateway.metrics.table import CounterTable, private_row

__all__ = ["CounterTable", "private_row"]
