"""A FastAPI application that tells the browsers of one user what happens to an order.

    GATEWAY_CONFIG=gateway.toml uvicorn gateway.publisher.examples.fastapi_app:app

GATEWAY_CONFIG is the gateway's own configuration, so that both agree on where Redis is and which channels have history.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from gateway.publisher import AsyncPublisher, BrokerError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One publisher for the life of the process; concurrent requests share its round trips."""
    async with AsyncPublisher.from_config(os.environ.get("GATEWAY_CONFIG")) as publisher:
        app.state.publisher = publisher
        yield


app = FastAPI(lifespan=lifespan)


def get_publisher(request: Request) -> AsyncPublisher:
    publisher: AsyncPublisher = request.app.state.publisher
    return publisher


class Payment(BaseModel):
    """What the payment provider sends, perhaps more than once."""

    payment_id: str
    user: str
    amount_cents: int


@app.post("/orders/{order_id}/paid")
async def order_paid(
    order_id: int, payment: Payment, publisher: Annotated[AsyncPublisher, Depends(get_publisher)]
) -> dict[str, Any]:
    """Tell the user's browsers. The payment's id is the idempotency key: the provider's retries are published once."""
    data = {"order": order_id, "paid": payment.amount_cents}
    try:
        position = await publisher.publish(f"orders:mine#{payment.user}", data, key=payment.payment_id)
    except BrokerError as error:
        raise HTTPException(503, "try again later") from error  # safe, because of the key
    return {"offset": position.offset if position else 0}
