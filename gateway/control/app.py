"""Puts the control port's parts together: one FastAPI app, built from its arguments.

The interactive pages of FastAPI are off: they load their scripts from other servers, which private networks do not
reach and our content security policy does not allow. `/openapi.json` is there for any viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fastapi import FastAPI

from gateway import __version__
from gateway.clock import Clock
from gateway.config import Config
from gateway.control.api import KEY_HEADER, KeyCheck, api_router
from gateway.control.batch import Batch, rpc_method
from gateway.control.bus import Bus
from gateway.control.caches import CacheCollector, CacheReport
from gateway.control.clients import client_methods
from gateway.control.dashboard_actions import Actions
from gateway.control.dashboard_live import Dashboard
from gateway.control.dashboard_login import Logins
from gateway.control.dashboard_site import dashboard_router
from gateway.control.demo_ask import Asking, ask_router
from gateway.control.demo_site import Sign, demo_router
from gateway.control.docs import docs_router
from gateway.control.exposition import metrics_router
from gateway.control.fields import Channels
from gateway.control.fleet import Fleet
from gateway.control.guard import Guard, HostRules
from gateway.control.health import health_router
from gateway.control.latency import SharedReport, api_timer, latency_method
from gateway.control.methods import Method, schemas
from gateway.control.nodes import NodeRegistry, info_method
from gateway.control.publish import Publishing, broadcast_method, publish_method
from gateway.control.reading import reading_methods
from gateway.control.relays import RelayCollector
from gateway.control.surveys import channels_method
from gateway.metrics import CounterTable, LatencyRecorder
from gateway.relay.counters import RelayReports


class ControlParts(NamedTuple):
    """What the app works with."""

    config: Config
    """Resolved: no port is 0, `server.workers` is the number of workers there should be."""
    table: CounterTable
    clock: Clock
    bus: Bus
    fleet: Fleet
    nodes: NodeRegistry
    sign: Sign | None = None
    """For the demo page; None = no secret to sign with."""
    asking: Asking | None = None
    """For the demo's questions; None = token streams are off, or there is no secret."""
    latency: LatencyRecorder | None = None
    """Gets the time of API calls; None = nobody wants to know."""
    dashboard: Dashboard | None = None
    """Runs elsewhere; None = there is no dashboard."""
    caches: CacheReport | None = None
    """Runs elsewhere; None = nobody reads what the caches of backends count."""
    relays: RelayReports = RelayReports()
    """What the relays of this process have done."""


def build_app(parts: ControlParts) -> FastAPI:
    """The app. Opens nothing and starts nothing."""
    config = parts.config
    hosts = HostRules.of(config)
    fleet = parts.fleet
    app = FastAPI(
        title="nexus-gateway",
        version=__version__,
        summary="Control port: HTTP API for backends, health, metrics",
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(health_router(fleet))
    others = [] if parts.caches is None else [CacheCollector(parts.caches)]
    app.include_router(metrics_router(parts.table, fleet, parts.clock, *others, RelayCollector(parts.relays)))
    methods = api_methods(parts)
    check_key = KeyCheck(config.control.api_keys, config.control.keys, insecure=config.auth.insecure, hosts=hosts)
    timed = api_timer(parts.latency, parts.clock)
    app.include_router(api_router(methods, check_key, max_payload_bytes=config.limits.publication_bytes, timed=timed))
    if config.control.demo:
        app.include_router(ask_router(parts.asking, hosts))
        app.include_router(demo_router(parts.sign, hosts, websocket_port=config.server.port))
    if parts.dashboard is not None:
        control = config.control
        logins = Logins(
            control.api_keys,
            insecure=config.auth.insecure and not control.keys,
            hosts=hosts,
            port=control.port,
            clock=parts.clock,
        )
        channels = Channels(config.namespaces, config.limits.channel_length)
        actions = Actions(
            parts.bus,
            Publishing(parts.bus, channels, config.limits, streams=config.streams.enabled),
            parts.table,
            parts.clock,
        )
        app.include_router(dashboard_router(parts.dashboard, logins, actions, config))
    app.add_middleware(Guard, hosts=hosts)
    _complete_openapi(app, methods)
    app.include_router(docs_router(app.openapi))
    return app


def api_methods(parts: ControlParts) -> list[Method[Any]]:
    """Every method of the HTTP API."""
    bus, config = parts.bus, parts.config
    channels = Channels(config.namespaces, config.limits.channel_length)
    publishing = Publishing(bus, channels, config.limits, streams=config.streams.enabled)
    methods: list[Method[Any]] = [
        publish_method(publishing),
        broadcast_method(publishing),
        *client_methods(bus, channels, parts.clock),
        *reading_methods(bus, channels),
        info_method(parts.nodes, SharedReport(parts.table, parts.clock)),
        channels_method(bus),
        latency_method(parts.table, parts.clock),
        rpc_method(),
    ]
    return [*methods, Batch(methods)]


def _complete_openapi(app: FastAPI, methods: Sequence[Method[Any]]) -> None:
    """Add the API key and the schemas to the OpenAPI document: the key check and the methods are none of FastAPI's."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        document = build()
        components = document.setdefault("components", {})
        components.setdefault("securitySchemes", {})["apiKey"] = {"type": "apiKey", "in": "header", "name": KEY_HEADER}
        components.setdefault("schemas", {}).update(schemas(methods))
        return document

    app.openapi = openapi  # type: ignore[method-assign]
