"""Each peer that is installed, measured as small as it gets, with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from loadtest.bench.errors import AbsentError
from loadtest.bench.plan import Plan
from loadtest.bench.servers import centrifugo, npm
from loadtest.bench.servers.gateway import DEFAULT_COMMAND
from loadtest.bench.servers.registry import FROM_GO, FROM_NPM, PEERS
from loadtest.bench.stages import Stages
from loadtest.peers.plan import PeersPlan, StallPlan
from loadtest.peers.run import install, run
from tests.support.requirements import require_centrifugo, require_npm_peers, require_redis_server

TINY = PeersPlan(
    lanes=Plan(
        connections=20,
        cost_connections=10,
        reopen_connections=5,
        reopen_rounds=1,
        rounds=1,
        settle_s=0.0,
        cost_cpu_s=0.01,
        cost_wall_s=0.05,
        passes=(1, 100),
        whole_tree=True,
        latency_rounds=1,
        rate_per_s=100.0,
        rate_messages=2,
    ),
    stall=StallPlan(readers=5, stalled=2, before=4, messages=8, a_pass=4),
)


@pytest.mark.timeout(180)  # two servers are started one after the other, the gateway's three processes among them
@pytest.mark.parametrize("name", [name for name in PEERS if name != "gateway-lean"])
@pytest.mark.usefixtures("clean_room")
def test_a_peer_is_measured_and_leaves_no_process_and_no_file(name: str) -> None:
    require_redis_server()
    if name in FROM_NPM:
        require_npm_peers()
    if name in FROM_GO:
        require_centrifugo()
    found = run(TINY, [name], DEFAULT_COMMAND, Console(quiet=True))
    assert found.absent == {}
    (one,) = found.measured
    assert set(one.costs) == {1, 100}
    assert len(one.reopened_per_s) == 1
    assert one.empty_kib > 0
    if name != "floor":
        stalled = found.stalled[name]
        assert (stalled.published, stalled.still_open, stalled.received) == (8, 2, 16)


def test_what_cannot_be_installed_is_absent_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(centrifugo, "BINARY", tmp_path / "centrifugo")
    monkeypatch.setattr(npm, "missing", lambda: ["ws"])
    absent = install(["gateway", "ws", "centrifugo"], Stages(Console(quiet=True)))
    assert set(absent) == {"ws", "centrifugo"}
    assert "npm" in absent["ws"]
    assert "Go" in absent["centrifugo"]


def test_a_server_that_is_not_built_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(centrifugo, "BINARY", tmp_path / "centrifugo")
    with pytest.raises(AbsentError, match="not built"):
        centrifugo.start(None)  # type: ignore[arg-type]


def test_packages_in_another_version_than_the_pinned_one_are_missing(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"dependencies": {"ws": "8.1.0", "bun": "1.2.0"}}')
    for package, version in (("ws", "8.1.0"), ("bun", "1.1.0")):
        folder = tmp_path / "node_modules" / package
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(f'{{"version": "{version}"}}')
    assert npm.missing(tmp_path) == ["bun"]
