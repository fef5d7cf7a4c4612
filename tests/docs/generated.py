"""The parts of our pages that are made from the code. `make docs` writes them anew; a test says when they are old.

In a page such a part stands between `<!-- made by make docs: NAME -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from gateway.cache.tallies import KindStatistics
from gateway.config.reference import as_markdown
from gateway.control import build_app
from gateway.control.caches import CacheReport
from gateway.metrics import names
from gateway.relay.counters import Counted, IngestReport, OutboxReport, RelayReports
from gateway.relay.rows import Figures
from gateway.storage.sql import PoolStatus
from protocol import codes
from tests.control.conftest import AUTHORITY, Control
from tests.docs.markdown import Page, pages

LISTED = 10
"""Values of a label that are listed."""
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
    yield from ("| metric | kind | labels | meaning |", "|---|---|---|---|")
    for name, kind, labels, help_text in sorted(exposed()):
        shown = []
        for label, values in labels.items():
            listed = ", ".join(f"`{value}`" for value in values) if 1 < len(values) <= LISTED else ""
            shown.append(f"`{label}`{f' ({listed})' if listed else ''}")
        yield f"| `{name}` | {kind} | {', '.join(shown)} | {help_text} |"


def operations() -> Iterator[str]:
    """Values of the label `operation`; those of the API are summed up."""
    yield from ("| operation | what is timed |", "|---|---|")
    for operation in names.OPERATIONS:
        if not operation.name.startswith("api_"):
            yield f"| `{operation.name}` | {operation.help} |"
    yield "| `api_<method>` | that method of the server API, from its request to its answer |"


def server_api() -> Iterator[str]:
    """Methods with the fields of their requests and results, from the OpenAPI document."""
    document = Control().app.openapi()
    schemas = document["components"]["schemas"]

    def fields(schema: dict[str, Any]) -> str:
        name = schema["$ref"].rpartition("/")[2]
        return ", ".join(f"`{field}`" for field in schemas[name].get("properties", {})) or "–"

    yield from ("| method | does | request | result |", "|---|---|---|---|")
    for path, operations in document["paths"].items():
        if path.startswith("/api/"):
            operation = operations["post"]
            answer, _ = operation["responses"]["200"]["content"]["application/json"]["schema"]["oneOf"]
            request = fields(operation["requestBody"]["content"]["application/json"]["schema"])
            result = fields(answer if "$ref" in answer else answer["properties"]["result"])
            yield f"| `{path.removeprefix('/api/')}` | {operation['summary']} | {request} | {result} |"


@cache
def exposed() -> tuple[tuple[str, str, dict[str, list[str]], str], ...]:
    """Name, kind, labels with their values, and help of every metric, from the exposition of a gateway."""
    found = []
    without_samples = {each.name: each.labels for each in (names.RECENT_SECONDS, names.RECENT_COUNT)}
    for family in text_string_to_metric_families(asyncio.run(exposition())):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels: dict[str, list[str]] = {label: [] for label in without_samples.get(name, ())}
        for sample in family.samples:
            for label, value in sorted(sample.labels.items(), key=lambda pair: pair[0] != "worker"):
                if label != "le" and value not in labels.setdefault(label, []):
                    labels[label].append(value)
        found.append((name, family.type, labels, family.documentation))
    return tuple(found)


async def exposition() -> str:
    """What `/metrics` says of a gateway with one worker, both relays and a cache."""
    control = Control()
    control.start_worker(0)
    caches = CacheReport(control.queue, prefix="gw")
    caches.kinds = {"prompt_response": KindStatistics()}
    relays = RelayReports(
        OutboxReport(Counted(), Figures(0, 0, 0.0), pool=PoolStatus(0, 0, 0, 0, 0)), IngestReport(Counted())
    )
    app = build_app(control.parts()._replace(caches=caches, relays=relays))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{AUTHORITY}") as client:
        answer = await client.get("/metrics")
    os.close(control.table.fd)
    answer.raise_for_status()
    return answer.text


PARTS: Mapping[str, Callable[[], Iterator[str]]] = MappingProxyType(
    {
        "configuration": configuration,
        "error-codes": error_codes,
        "disconnect-codes": disconnect_codes,
        "unsubscribe-codes": unsubscribe_codes,
        "metrics": metrics,
        "operations": operations,
        "server-api": server_api,
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
