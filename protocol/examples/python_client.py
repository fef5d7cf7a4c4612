"""TOKEN=… python python_client.py; with --protobuf in Protobuf, where data is bytes."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from centrifuge import Client, PublicationContext, SubscribedContext, SubscriptionEventHandler


class News(SubscriptionEventHandler):
    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        print("subscribed", flush=True)

    async def on_publication(self, ctx: PublicationContext) -> None:
        data = json.loads(ctx.pub.data) if isinstance(ctx.pub.data, bytes) else ctx.pub.data
        print(data["text"], flush=True)


async def main() -> None:
    client = Client(
        os.environ.get("GATEWAY", "ws://localhost:8000/connection/websocket"),
        token=os.environ["TOKEN"],
        use_protobuf="--protobuf" in sys.argv,
    )
    news = client.new_subscription("news", News())
    await client.connect()
    await news.subscribe()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
