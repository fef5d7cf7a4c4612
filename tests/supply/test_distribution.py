"""What is built is what users need, and it works where nothing else is installed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import httpx
import psutil
import pytest

from gateway import __version__
from loadtest.bench.processes import descendants
from supply.lock import ROOT, RUNTIME_LOCK
from tests.support.lines import Lines
from tests.support.processes import kill_all, wait_gone
from tests.support.requirements import require_package_index

pytestmark = pytest.mark.timeout(300)

INSTALL_TIMEOUT_S = 240
PATIENCE_S = 60.0
"""For a first start, without compiled files, on a busy machine."""
ASSETS = {".css", ".html", ".js", ".lua", ".proto", ".svg", ".txt"}
"""What belongs to the program beside Python."""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the locked packages and the wheel: the folder of its commands."""
    require_package_index()
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    locked = ["--only-binary", ":all:", "--require-hashes", "--requirement", str(RUNTIME_LOCK)]
    done = pip(folder, "install", "--no-compile", *locked)
    assert done.returncode == 0, done.stderr
    done = pip(folder, "install", "--no-deps", "--no-index", str(wheel))
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def pip(environment: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """This environment's pip at work on another one, as in the container image."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(environment / "bin/python")]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
    )


def bare_environment() -> Mapping[str, str]:
    """Nothing that leads to this tree."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


def test_the_wheel_has_the_program_its_assets_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"nexus_gateway-{__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"gateway", "protocol", info}
    tracked = subprocess.run(
        ["git", "ls-files", "gateway", "protocol"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {name for name in names if not name.startswith(info)} >= set(tracked)
    assert {"gateway/py.typed", "protocol/py.typed", "protocol/client.proto", f"{info}/licenses/LICENSE"} <= names
    assert {Path(name).suffix for name in names} >= ASSETS
    assert not [name for name in names if "test" in Path(name).parts or name.endswith((".pyc", ".log"))]


def test_the_wheel_is_built_from_what_the_source_distribution_has(dist: Path) -> None:
    with tarfile.open(dist / f"nexus_gateway-{__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "Makefile", "requirements.lock", "k8s/Containerfile"} <= names
    assert {"tests/test_architecture.py", "gateway/cli/__init__.py", "loadtest/__init__.py"} <= names
    assert not [name for name in names if "node_modules" in name or ".venv" in name or name.endswith(".pyc")]


async def test_the_demo_runs_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [installed / "nexus-gateway", "demo", "--port", "0", "--control-port", "0", "--workers", "1"],
        cwd=tmp_path,
        env=bare_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = Lines(process.stdout)
    family: list[psutil.Process] = []
    try:
        page = lines.wait_for(
            lambda: re.search(r"http://\S+/demo\b", "\n".join(lines.seen)), "the page's address", timeout_s=PATIENCE_S
        )
        assert page
        family = descendants(process.pid)
        assert len(family) >= 2
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S, follow_redirects=True) as client:
            answer = await client.get(page[0])
            assert answer.status_code == 200
            assert "<title>" in answer.text
            assets = re.findall(r'(?:src|href)="([^":]+\.(?:js|css|svg))"', answer.text)
            assert assets
            for asset in assets:
                assert (await client.get(answer.url.join(asset))).status_code == 200, asset
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, lines.seen
        await wait_gone(family)
    finally:
        kill_all(process, family)
        lines.join()


def test_production_needs_nothing_beside_its_lock(installed: Path, tmp_path: Path) -> None:
    checked = pip(installed.parent, "check")
    assert checked.returncode == 0, checked.stdout
    said = subprocess.run(
        [installed / "nexus-gateway", "serve"],
        cwd=tmp_path,
        env={**bare_environment(), "PATH": "/nowhere", "GATEWAY_SERVER__PORT": "0", "GATEWAY_CONTROL__PORT": "0"}
        | {"GATEWAY_AUTH__HMAC_SECRET": "0" * 32, "GATEWAY_SERVER__HOST": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert said.returncode == 1
    assert "redis.url is empty" in said.stderr, "everything else is there: it gets as far as looking for a Redis"
