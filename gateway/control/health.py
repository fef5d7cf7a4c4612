"""Health of the whole gateway, for load balancers and people.

Each edge worker answers for itself on the public port.
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from gateway.control.fleet import Fleet


class Live(BaseModel):
    """The control process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """What the workers are able to do."""

    status: Literal["ready", "degraded", "unavailable"]
    """ready: all workers are · degraded: some are, or their Redis is away and clients hear nothing new · unavailable:
    no worker runs."""
    workers: int
    """Workers that are ready."""
    workers_expected: int
    connections: int
    """WebSocket connections of all workers."""
    problems: list[str]
    """What is wrong, for people."""


def health_router(fleet: Fleet) -> APIRouter:
    """`/health/live` and `/health/ready`."""
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live", summary="Whether the control process runs")
    async def live() -> Live:
        return Live()

    @router.get(
        "/ready",
        summary="Whether clients can connect and get messages",
        responses={503: {"model": Ready, "description": "No worker is ready"}},
    )
    async def ready(response: Response) -> Ready:
        view = readiness(fleet)
        if view.workers == 0:
            response.status_code = 503
        response.headers["cache-control"] = "no-store"
        return view

    return router


def readiness(fleet: Fleet) -> Ready:
    """The workers in one word, and what is wrong with them."""
    workers = fleet.workers()
    ready = sum(worker.state == "ready" for worker in workers)
    running = any(worker.state in ("ready", "not_ready") for worker in workers)
    return Ready(
        status="ready" if ready and ready == len(workers) else "degraded" if running else "unavailable",
        workers=ready,
        workers_expected=len(workers),
        connections=sum(worker.connections for worker in workers),
        problems=[trouble for worker in workers if (trouble := worker.trouble())],
    )
