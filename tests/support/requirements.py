"""What some tests need and a bare laptop may lack. There they skip and say what is missing; in continuous integration
(`NEXUS_REQUIRE_ALL=1`, set by `.ci/run`) they fail instead, so that nothing goes untested unnoticed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

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


def missing(what: str) -> NoReturn:
    """Skip, or fail where nothing may be skipped. `what`: what is not there, and how to get it."""
    if os.environ.get("NEXUS_REQUIRE_ALL") == "1":
        pytest.fail(f"{what}, and NEXUS_REQUIRE_ALL=1 allows no skips", pytrace=False)
    pytest.skip(what)
