"""A shop in FastAPI and SQLAlchemy: an order and the news of it are committed together, or not at all.

Run it beside a gateway with `[outbox] url` on the same database:

    export DATABASE_URL=sqlite+aiosqlite:////tmp/shop.db
    GATEWAY_OUTBOX__URL=sqlite:////tmp/shop.db nexus-gateway outbox init
    uvicorn gateway.relay.examples.orders:create_app --factory
    curl -X POST localhost:8000/orders -H 'content-type: application/json' -d '{"user": "42", "item": "tea"}'
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from gateway.relay import outbox_event


class Base(DeclarativeBase):
    """The shop's tables."""


class Order(Base):
    """One order."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[str]
    item: Mapped[str]


class NewOrder(BaseModel):
    """What a customer sends."""

    user: str
    item: str


def create_app(url: str = "") -> FastAPI:
    """The application. `url`: of the database, as SQLAlchemy has it; "" = DATABASE_URL."""
    engine = create_async_engine(url or os.environ["DATABASE_URL"])
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/orders")
    async def order(new: NewOrder) -> dict[str, int]:
        async with sessions.begin() as session:
            made = Order(user=new.user, item=new.item)
            session.add(made)
            await session.flush()
            await session.execute(outbox_event(f"chat:{new.user}", {"order": made.id, "item": made.item}))
            if new.item == "nothing":  # the news of it is rolled back with the order
                raise HTTPException(422, "there is nothing to order")
        return {"id": made.id}

    return app
