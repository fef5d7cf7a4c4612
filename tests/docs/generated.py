"""The parts of our pages that are made from the code. `make docs` writes them anew; a test says when they are old.

In a page such a part stands between `<!-- made by make docs: NAME -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from gateway.clock import SystemClock
from gateway.config.reference import as_markdown
from gateway.control.exposition import WorkerCollector
from gateway.control.fleet import Fleet
from gateway.metrics import CounterTable, names
from protocol import codes
from tests.docs.markdown import Page, pages

_PART = re.compile(r"(<!-- made by make docs: (\S+) -->\n)(.*?)(<!-- end of \2 -->)", re.DOTALL)


def configuration() -> Iterator[str]:
    """Sections and keys."""
    return as_markdown()


def error_codes() -> Iterator[str]:
    """Errors in replies."""
    yield from ("| code | message | temporary |", "|---|---|---|")
    for error in codes.ERRORS.values():
        yield f"| {error.code} | {error.message} | {'yes' if error.temporary else ''} |"


def disconnect_codes() -> Iterator[str]:
    """Reasons to close a connection."""
    yield from ("| code | reason | SDKs come back |", "|---|---|---|")
    for disconnect in sorted(codes.DISCONNECTS.values()):
        yield f"| {disconnect.code} | {disconnect.reason} | {'yes' if disconnect.reconnect else 'no'} |"


def unsubscribe_codes() -> Iterator[str]:
    """Reasons to end a subscription."""
    yield from ("| code | reason | SDKs subscribe again |", "|---|---|---|")
    for unsubscribe in codes.UNSUBSCRIBES.values():
        yield f"| {unsubscribe.code} | {unsubscribe.reason} | {'yes' if unsubscribe.resubscribe else 'no'} |"


def metrics() -> Iterator[str]:
    """What `/metrics` has."""
    values: dict[str, list[str]] = {}
    for metric in names.METRICS:
        if metric.label:
            values.setdefault(metric.name, []).append(f"`{metric.value}`")
    yield from ("| metric | kind | labels | meaning |", "|---|---|---|---|")
    for name, kind, labels, help_text in sorted(exposed()):
        shown = ", ".join(f"`{label}`" for label in labels)
        if found := values.get(name.removesuffix("_total")):
            shown += f" ({', '.join(found)})"
        yield f"| `{name}` | {kind} | {shown} | {help_text} |"


def operations() -> Iterator[str]:
    """Values of the label `operation`; those of the API are summed up."""
    yield from ("| operation | what is timed |", "|---|---|")
    for operation in names.OPERATIONS:
        if not operation.name.startswith("api_"):
            yield f"| `{operation.name}` | {operation.help} |"
    yield "| `api_<method>` | that method of the server API, from its request to its answer |"


def exposed() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Name, kind, labels and help of every metric, from the exposition itself, of a gateway with one worker."""
    clock = SystemClock()
    table = CounterTable.create(1)
    row = table.row(0)
    row[names.PID] = 1
    for family in WorkerCollector(table, Fleet(table, 1, clock), clock).collect():
        labels = dict.fromkeys(
            label for sample in family.samples for label in sample.labels if label not in ("le", "quantile")
        )
        if not labels and family.name == names.RECENT_SECONDS.name:
            labels = dict.fromkeys(names.RECENT_SECONDS.labels)  # no sample before something has happened
        if not labels and family.name == names.RECENT_COUNT.name:
            labels = dict.fromkeys(names.RECENT_COUNT.labels)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, family.type, tuple(labels), family.documentation


PARTS: Mapping[str, Callable[[], Iterator[str]]] = MappingProxyType(
    {
        "configuration": configuration,
        "error-codes": error_codes,
        "disconnect-codes": disconnect_codes,
        "unsubscribe-codes": unsubscribe_codes,
        "metrics": metrics,
        "operations": operations,
    }
)
"""Name of a part → what makes its lines."""


def renewed(text: str) -> str:
    """`text` with every made part as it should be."""
    return _PART.sub(lambda part: f"{part[1]}{chr(10).join(PARTS[part[2]]()).strip()}\n{part[4]}", text)


def parts_of(page: Page) -> list[str]:
    """Names of the made parts in a page."""
    return [part[2] for part in _PART.finditer(page.path.read_text())]


def main() -> None:
    """Write every page that is not up to date."""
    for page in pages():
        text = page.path.read_text()
        if (new := renewed(text)) != text:
            page.path.write_text(new)
            sys.stdout.write(f"{page.name} is written anew\n")


if __name__ == "__main__":
    main()
