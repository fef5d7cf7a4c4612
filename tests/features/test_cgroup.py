"""Memory that runs out as the kernel sees it: a whole gateway in a control group with a limit.

The limit is three times what the gateway has when nobody is connected; a client that does not read fills the group to
about 0.73 of it, new connections are refused at 0.6.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.features.conftest import OpenClient, OpenWire
from tests.features.test_memory import fill, short_of_memory
from tests.support.cgroup import ControlGroup, control_group
from tests.support.gateway import Gateway, serving
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def group() -> Iterator[ControlGroup]:
    with control_group() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(group: ControlGroup) -> Iterator[Gateway]:
    """All its processes are in the group."""
    with serving(short_of_memory(refuse_at=0.6, close_at=0.95, drain_at=0.99), behind=group.command) as gateway:
        yield gateway


async def test_a_group_that_gets_full_takes_no_new_connections_until_there_is_room(
    group: ControlGroup, gateway: Gateway, open_client: OpenClient, open_wire: OpenWire
) -> None:
    idle = group.used_bytes()
    limit = group.limit(3 * idle)
    await wait_until(lambda: gateway.metric("gateway_memory_limit_bytes") == limit, "it has seen the limit")
    assert gateway.metric("gateway_memory_level") == 0
    stuck = await fill(gateway, open_wire, int(1.2 * idle))
    await wait_until(lambda: gateway.metric("gateway_memory_level") == 3, "it refuses")
    newcomer = await open_client(None)
    assert await newcomer.wait_closed() == (1013, "try again later")
    (line,) = gateway.logged("memory level changed", now="refuse")
    assert line["source"] == group.version.name

    stuck.writer.transport.abort()
    await wait_until(lambda: gateway.metric("gateway_memory_level") < 3, "there is room again")
    await open_client("again")
