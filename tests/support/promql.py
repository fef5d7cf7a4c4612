"""As much of PromQL as is needed to see whether an expression speaks of metrics that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

_SELECTOR = re.compile(r"\b(gateway_\w+)\s*(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RATED = re.compile(r"\b(?:rate|irate|increase)\(\s*(\w+)")
ADDED_BY_SCRAPING = frozenset(("namespace", "pod", "container", "service", "endpoint", "job", "instance"))
"""Labels that the Prometheus operator adds to every sample."""


class Selector(NamedTuple):
    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator, value."""


def selectors(expression: str) -> list[Selector]:
    """Every mention of a metric of the gateway."""
    return [Selector(found[1], tuple(_MATCHER.findall(found[2] or ""))) for found in _SELECTOR.finditer(expression)]


def grouped_by(expression: str) -> set[str]:
    return {label.strip() for found in _GROUPING.findall(expression) for label in found.split(",") if label.strip()}


def rated(expression: str) -> list[str]:
    """Metrics whose rate or increase is taken."""
    return _RATED.findall(expression)


class Exposition:
    """The samples of one scrape: name → label → values."""

    def __init__(self, text: str) -> None:
        self.labels: dict[str, dict[str, set[str]]] = {}
        self.counters: set[str] = set()
        """Names of samples that only grow."""
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = self.labels.setdefault(sample.name, {})
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)
                if family.type in ("counter", "histogram"):
                    self.counters.add(sample.name)

    def problems(self, expression: str) -> Iterator[str]:
        """What `expression` says of metrics, labels and values that do not exist."""
        found = selectors(expression)
        if not found:
            yield f"no metric of the gateway in: {expression}"
        for metric, matchers in found:
            if metric not in self.labels:
                yield f"{metric} is not exposed"
                continue
            known = self.labels[metric]
            for label, operator, value in matchers:
                if label in ADDED_BY_SCRAPING:
                    continue
                if label not in known:
                    yield f"{metric} has no label {label}"
                    continue
                wanted = value.split("|") if operator in ("=~", "!~") else [value]
                yield from (f"{metric}{{{label}}} is never {each}" for each in wanted if each not in known[label])
        everywhere = ADDED_BY_SCRAPING.union(*(self.labels.get(each.metric, ()) for each in found))
        yield from (f"no metric here has the label {label}" for label in sorted(grouped_by(expression) - everywhere))
        yield from (
            f"rate of {metric}, which is no counter" for metric in rated(expression) if metric not in self.counters
        )
