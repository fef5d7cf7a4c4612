"""What some tests need and a bare laptop may lack. There they skip and say what is missing; in continuous integration
(`NEXUS_REQUIRE_ALL=1`, set by `.ci/run`) they fail instead, so that nothing goes untested unnoticed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from loadtest.bench.errors import BenchError
from loadtest.bench.redis_server import redis_binary
from loadtest.bench.servers import centrifugo, npm

REQUIRE_ALL = "NEXUS_REQUIRE_ALL"
SDK_TESTS = Path(__file__).parents[1] / "sdk"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def require_browser() -> str:
    """Path of a Chromium."""
    found = (shutil.which(name) for name in BROWSERS)
    return next(filter(None, found), None) or missing("Chromium is not on PATH (Debian: apt-get install chromium)")


def require_node() -> str:
    """Path of Node.js."""
    return shutil.which("node") or missing("Node.js is not on PATH (Debian: apt-get install nodejs npm)")


def require_javascript_sdk() -> str:
    """Path of Node.js, for a script beside which `npm ci` has put the official JavaScript SDK."""
    node = require_node()
    if not (SDK_TESTS / "node_modules" / "centrifuge").is_dir():
        missing(f"the JavaScript SDK is not installed (`npm ci` in {SDK_TESTS}; `make test` does it)")
    return node


def require_kustomize() -> tuple[str, ...]:
    """The command that builds overlays: kustomize itself, or the one inside kubectl."""
    if kustomize := shutil.which("kustomize"):
        return (kustomize, "build")
    kubectl = shutil.which("kubectl") or missing(
        "neither kustomize nor kubectl is on PATH (go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.1)"
    )
    return (kubectl, "kustomize")


def require_promtool() -> str:
    """Path of promtool, which parses rules and runs them against made-up series."""
    return shutil.which("promtool") or missing("promtool is not on PATH (it is in Debian's package prometheus)")


def require_package_index() -> None:
    """For tests that download the locked packages, a minute's work: only where everything is asked for."""
    if os.environ.get(REQUIRE_ALL) != "1":
        pytest.skip(f"downloads every locked package: only with {REQUIRE_ALL}=1")


def require_postgresql() -> Path:
    """Folder of the programs of a PostgreSQL server: those on PATH, else the newest of Debian's packages."""
    server = shutil.which("postgres")
    found = (
        [Path(server).resolve()] if server else sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version)
    )
    if not found:
        missing("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    return found[-1].parent


def _version(server: Path) -> int:
    """15 for `/usr/lib/postgresql/15/bin/postgres`."""
    return int(server.parts[-3]) if server.parts[-3].isdigit() else 0


def require_redis_server() -> None:
    """A `redis-server` that the load tests can start."""
    try:
        redis_binary()
    except BenchError as error:
        missing(str(error))


def require_npm_peers() -> None:
    """Peers of the bench that `npm ci` has put beside it, and Node.js for them."""
    require_node()
    if absent := npm.missing():
        missing(f"not installed: {', '.join(absent)} (`npm ci` in loadtest/bench; `make test` does it)")


def require_centrifugo() -> None:
    """Centrifugo, which only `make bench-peers` builds, as that takes minutes: it is never required."""
    if not centrifugo.BINARY.is_file():
        pytest.skip("Centrifugo is not built (`make bench-peers` does it where Go is)")


def missing(what: str) -> NoReturn:
    """Skip, or fail where nothing may be skipped. `what`: what is not there, and how to get it."""
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{what}, and {REQUIRE_ALL}=1 allows no skips", pytrace=False)
    pytest.skip(what)
