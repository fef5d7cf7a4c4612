"""A plain script: publishes a few progress reports to a channel, then says that it is done.

    python -m gateway.publisher.examples.script gateway.toml jobs:import-7

The file is the gateway's own configuration, so that both agree on where Redis is and which channels have history.
"""

from __future__ import annotations

import sys

from gateway.publisher import BrokerError, Message, Publisher, PublishInvalid

STEPS = 3


def main(config: str, channel: str) -> int:
    """Exit status: 0 = everything is published, 1 = Redis was away for too long, 2 = the channel cannot be."""
    with Publisher.from_config(config) as publisher:
        try:
            # One by one: each call returns when Redis has the message.
            for step in range(1, STEPS + 1):
                publisher.publish(channel, {"step": step, "of": STEPS})
            # Many at once: a few round trips for all of them.
            publisher.publish_many(Message(channel=channel, data={"row": row}) for row in range(100))
            position = publisher.publish(channel, {"done": True}, tags={"kind": "end"})
        except PublishInvalid as error:
            sys.stderr.write(f"{error}\n")
            return 2
        except BrokerError as error:
            sys.stderr.write(f"not published: {error}\n")
            return 1
    sys.stdout.write(f"published to {channel}" + (f", the last as number {position.offset}\n" if position else "\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
