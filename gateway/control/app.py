"""Puts the control port's parts together: one FastAPI app, built from its arguments.

The interactive pages of FastAPI are off: they load their scripts from other servers, which private networks do not
reach and our content security policy does not allow. `/docs` is a page of our own, `/openapi.json` is there for any
viewer.
"""

from __future__ import annotations

from typing import NamedTuple

from fastapi import FastAPI

from gateway import __version__
from gateway.clock import Clock
from gateway.config import Config
from gateway.control.api import api_router
from gateway.control.batch import Batch
from gateway.control.catalogue import Backends, all_methods
from gateway.control.demo_site import Sign, demo_router
from gateway.control.docs import docs_router
from gateway.control.exposition import metrics_router
from gateway.control.fleet import Fleet
from gateway.control.guard import Guard, HostRules
from gateway.control.health import health_router
from gateway.control.keys import KeyRing
from gateway.control.openapi import complete
from gateway.metrics import CounterTable


class ControlParts(NamedTuple):
    """What the app works with."""

    config: Config
    """Resolved: no port is 0, `server.workers` is the number of workers there should be."""
    table: CounterTable
    clock: Clock
    backends: Backends
    sign: Sign | None = None
    """For the demo page; None = no secret to sign with."""


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
    app.include_router(metrics_router(parts.table, fleet))
    methods = all_methods(config, parts.backends, parts.clock)
    batch = Batch(methods)
    keys = KeyRing(config.control, insecure=config.auth.insecure, hosts=hosts)
    app.include_router(api_router(methods, batch, keys, max_payload_bytes=config.limits.publication_bytes))
    complete(app, (*methods, batch))
    app.include_router(docs_router(app.openapi_url or "", app.openapi, config.control.port))
    if config.control.demo:
        app.include_router(demo_router(parts.sign, hosts, websocket_port=config.server.port))
    app.add_middleware(Guard, hosts=hosts)
    return app
