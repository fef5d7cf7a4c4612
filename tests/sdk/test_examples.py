"""The examples in `protocol/examples`: those that can be run here are run, against a gateway, as they are."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_dart_orchard
import tree_sitter_kotlin
import tree_sitter_swift
from playwright.sync_api import expect, sync_playwright

from tests.support.gateway import Gateway, serving
from tests.support.lines import Lines
from tests.support.requirements import BROWSER_ARGUMENTS, SDK_TESTS, require_browser, require_javascript_sdk

EXAMPLES = Path(__file__).parents[2] / "protocol" / "examples"
ADDRESS = "ws://localhost:8000/connection/websocket"
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving({"namespaces": {"default": {"delta": True}}}) as gateway:
        yield gateway


@contextlib.contextmanager
def running(command: list[str], gateway: Gateway, cwd: Path, **variables: str) -> Iterator[Lines]:
    """The lines that a program prints until it is told to end."""
    environment = os.environ | {"TOKEN": gateway.token("alice"), "GATEWAY": gateway.url} | variables
    for name in [name for name in environment if name.lower().endswith("_proxy")]:
        del environment[name]
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = Lines(process.stdout)
    try:
        yield lines
    finally:
        process.terminate()
        process.wait(10)
        lines.join()


def hears(lines: Lines, gateway: Gateway) -> None:
    lines.wait_for(lambda: "subscribed" in [line.strip() for line in lines.seen], "the subscription")
    for text in ("hello", "grüß dich"):
        assert gateway.publish("news", {"text": text}) == 1
    lines.wait_for(lambda: "grüß dich" in [line.strip() for line in lines.seen], "what was published")
    assert [line.strip() for line in lines.seen] == ["subscribed", "hello", "grüß dich"]


@pytest.mark.node
@pytest.mark.parametrize("variables", [{}, {"PROTOBUF": "1"}], ids=["json", "protobuf"])
def test_node(gateway: Gateway, tmp_path: Path, variables: dict[str, str]) -> None:
    node = require_javascript_sdk()
    shutil.copy(EXAMPLES / "node.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(SDK_TESTS / "node_modules")
    with running([node, "node.mjs"], gateway, tmp_path, **variables) as lines:
        hears(lines, gateway)


@pytest.mark.parametrize("arguments", [[], ["--protobuf"]], ids=["json", "protobuf"])
def test_python(gateway: Gateway, arguments: list[str]) -> None:
    command = [sys.executable, str(EXAMPLES / "python_client.py"), *arguments]
    with running(command, gateway, EXAMPLES) as lines:
        hears(lines, gateway)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def serve_page(tmp_path: Path) -> Iterator[Callable[[str, Gateway], str]]:
    """Address of a page, with the gateway's address and a token in the places where they are pasted."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def serve_page(name: str, gateway: Gateway) -> str:
        page = (EXAMPLES / name).read_text()
        assert ADDRESS in page
        page = page.replace(ADDRESS, gateway.url).replace("PASTE A TOKEN", gateway.token("alice"))
        (tmp_path / name).write_text(page)
        return f"http://127.0.0.1:{server.server_address[1]}/{name}"

    yield serve_page
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.browser
@pytest.mark.node
@pytest.mark.parametrize("name", ["bare.html", "browser.html"])
def test_pages(gateway: Gateway, tmp_path: Path, serve_page: Callable[[str, Gateway], str], name: str) -> None:
    require_javascript_sdk()
    shutil.copy(SDK_TESTS / "node_modules/centrifuge/dist/centrifuge.js", tmp_path)
    clients = gateway.metric("gateway_subscriptions")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require_browser(), args=list(BROWSER_ARGUMENTS))
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(serve_page(name, gateway))
        news = page.locator("#news li")
        published = 0
        while not news.count():  # until the page has subscribed
            published += 1
            gateway.publish("news", {"text": "hello", "padding": "the same every time " * 20})
            page.wait_for_timeout(50)
            assert published < PATIENCE_MS / 50, problems
        gateway.publish("news", {"text": "grüß dich", "padding": "the same every time " * 20})
        expect(news.last).to_have_text("grüß dich", timeout=PATIENCE_MS)
        # Browsers ask for compression by themselves.
        assert gateway.metric("gateway_compressed_connections") == 1
        browser.close()
        assert problems == []
    assert clients == 0


LANGUAGES = {
    "Client.swift": tree_sitter_swift.language,
    "Client.kt": tree_sitter_kotlin.language,
    "client.dart": tree_sitter_dart_orchard.language,
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_snippets_for_phones_are_proper_and_speak_of_the_same(name: str) -> None:
    source = (EXAMPLES / name).read_bytes()
    tree = tree_sitter.Parser(tree_sitter.Language(LANGUAGES[name]())).parse(source)
    assert not tree.root_node.has_error, name
    text = source.decode()
    assert ADDRESS in text
    assert re.search("""["']news["']""", text)
    assert "TOKEN" in text


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_check_of_snippets_finds_mistakes(name: str) -> None:
    source = (EXAMPLES / name).read_bytes().replace(b"{", b"(", 1)
    assert tree_sitter.Parser(tree_sitter.Language(LANGUAGES[name]())).parse(source).root_node.has_error


def test_the_page_about_examples_names_each_of_them() -> None:
    page = (EXAMPLES / "README.md").read_text()
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name != "README.md"}
    assert {name for name in files if f"`{name}`" not in page} == set()
