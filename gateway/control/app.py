"""Puts the control port's parts together: one FastAPI app, built from its arguments.

The interactive pages of FastAPI are off: they load their scripts from other servers, which private networks do not
reach and our content security policy does not allow. `/openapi.json` is there for any viewer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastapi import FastAPI

from gateway import __version__
from gateway.clock import Clock
from gateway.config import Config
from gateway.control.api import KEY_HEADER, KeyCheck, api_router
from gateway.control.demo_site import Sign, demo_router
from gateway.control.exposition import metrics_router
from gateway.control.fleet import Fleet
from gateway.control.guard import Guard, HostRules
from gateway.control.health import health_router
from gateway.control.latency import api_timer, latency_method
from gateway.control.publish import Publish, publish_method
from gateway.metrics import CounterTable, LatencyRecorder


class ControlParts(NamedTuple):
    """What the app works with."""

    config: Config
    """Resolved: no port is 0, `server.workers` is the number of workers there should be."""
    table: CounterTable
    clock: Clock
    publish: Publish
    sign: Sign | None = None
    """For the demo page; None = no secret to sign with."""
    latency: LatencyRecorder | None = None
    """Gets the time of API calls; None = nobody wants to know."""


def build_app(parts: ControlParts) -> FastAPI:
    """The app. Opens nothing and starts nothing."""
    config = parts.config
    hosts = HostRules.of(config)
    fleet = Fleet(parts.table, config.server.workers, parts.clock)
    app = FastAPI(
        title="nexus-gateway",
        version=__version__,
        summary="Control port: HTTP API for backends, health, metrics",
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(health_router(fleet))
    app.include_router(metrics_router(parts.table, fleet, parts.clock))
    app.include_router(
        api_router(
            [
                publish_method(parts.publish, config.namespaces, config.limits),
                latency_method(parts.table, parts.clock),
            ],
            KeyCheck(config.control.api_keys, insecure=config.auth.insecure, hosts=hosts),
            max_payload_bytes=config.limits.publication_bytes,
            timed=api_timer(parts.latency, parts.clock),
        )
    )
    if config.control.demo:
        app.include_router(demo_router(parts.sign, hosts, websocket_port=config.server.port))
    app.add_middleware(Guard, hosts=hosts)
    _declare_key(app)
    return app


def _declare_key(app: FastAPI) -> None:
    """Name the API key in the OpenAPI document: the check itself is no FastAPI dependency."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        document = build()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["apiKey"] = {"type": "apiKey", "in": "header", "name": KEY_HEADER}
        return document

    app.openapi = openapi  # type: ignore[method-assign]
