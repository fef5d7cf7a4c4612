"""Code in our pages: it parses, loads, names what there is, and says what the protocol says."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gateway.config import load_config
from gateway.errors import ConfigError
from protocol.control_messages import decode_control
from protocol.encodings import JSON
from tests.docs.markdown import Fence, fences, pages
from tests.support.requirements import require_node

SECRET = "a-secret-in-the-place-of-an-ellipsis"
KNOWN = {
    "python",
    "toml",
    "sh",
    "js",
    "json",
    "sql",
    "yaml",
    "html",
    "text",
    "ini",
    "nginx",
    "",
    "lua",
    "promql",
    "go",
    "dart",
}
CONTROL = re.compile(r"PUBLISH \S+:control '([^']+)'")


def ids(fence: Fence) -> str:
    return fence.place


def test_languages_are_spelled_alike() -> None:
    found = [fence for page in pages() for fence in page.fences if fence.language not in KNOWN]
    assert [f"{fence.place}: {fence.language}" for fence in found] == []


@pytest.mark.parametrize("fence", fences("toml"), ids=ids)
def test_toml_is_a_configuration(fence: Fence, tmp_path: Path) -> None:
    path, secret = tmp_path / "gateway.toml", tmp_path / "secret"
    secret.write_text(SECRET)
    path.write_text(re.sub(r"/run/secrets/\w+", str(secret), fence.text.replace("…", SECRET)))
    tomllib.loads(path.read_text())
    load_config(path, environ={}, flags={}, to_serve=False)


def test_toml_that_is_none_is_found(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[server]\nprot = 1\n")
    with pytest.raises(ConfigError, match="prot"):
        load_config(path, environ={}, flags={}, to_serve=False)


@pytest.mark.parametrize("fence", fences("python"), ids=ids)
def test_python_compiles_and_imports_what_there_is(fence: Fence) -> None:
    code = compile(fence.text, fence.place, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(code, ast.Module)
    assert list(missing_imports(code)) == []


def missing_imports(tree: ast.AST) -> Iterator[str]:
    """Names that our packages do not have."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("gateway", "protocol"):
            module = importlib.import_module(str(node.module))
            yield from (f"{node.module}.{each.name}" for each in node.names if not hasattr(module, each.name))


def test_a_missing_import_is_found() -> None:
    assert list(missing_imports(ast.parse("from gateway.publisher import Publisher, Pulbisher"))) == [
        "gateway.publisher.Pulbisher"
    ]


@pytest.mark.parametrize("fence", fences("sh"), ids=ids)
def test_shell_parses(fence: Fence) -> None:
    done = subprocess.run(["bash", "-n"], input=fence.text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("fence", fences("js"), ids=ids)
@pytest.mark.node
def test_javascript_parses(fence: Fence, tmp_path: Path) -> None:
    path = tmp_path / "snippet.mjs"
    path.write_text(fence.text)
    done = subprocess.run([require_node(), "--check", str(path)], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_yaml_parses() -> None:
    assert [fence.place for fence in fences("yaml") if not list(yaml.safe_load_all(fence.text))] == []


@pytest.mark.parametrize("fence", fences("json"), ids=ids)
def test_json_is_what_the_protocol_says(fence: Fence) -> None:
    """One message a line; what a client and a gateway send each other is read and written by the encoding itself."""
    for line in fence.text.splitlines():
        message = json.loads(line)
        if line.startswith('{"op"'):
            decode_control(line.encode())
        elif set(message) & {"push", "error"} or "client" in message.get("connect", {}):
            (reply,) = JSON.decode_replies(line.encode())
            assert json.loads(JSON.encode_reply(reply)) == message
        elif "id" in message:
            written = [
                JSON.encode_command(JSON.decode_commands(line.encode())[0]),
                JSON.encode_reply(JSON.decode_replies(line.encode())[0]),
            ]
            assert message in [json.loads(each) for each in written]


@pytest.mark.parametrize("fence", [each for each in fences("sh") if CONTROL.search(each.text)], ids=ids)
def test_control_messages_are_understood(fence: Fence) -> None:
    for message in CONTROL.findall(fence.text):
        decode_control(message.encode())
