"""Files of a page, as they lie beside these modules: read once, so nothing that a request says ever becomes a path."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

from fastapi import Request, Response

from gateway.control.guard import host_name

CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class Asset(NamedTuple):
    """One file."""

    content: bytes
    content_type: str
    etag: str

    def answer(self, request: Request, security_policy: str) -> Response:
        """The file, or that the browser has it already."""
        headers = {"etag": self.etag, "cache-control": "no-cache", "content-security-policy": security_policy}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers | {"content-type": self.content_type})


def load_assets(folder: str) -> Mapping[str, Asset]:
    """The files of `gateway/control/<folder>` and of the folders in it, by their paths from there."""
    return dict(_load(resources.files("gateway.control").joinpath(folder), ""))


def _load(folder: Traversable, path: str) -> Iterator[tuple[str, Asset]]:
    for file in folder.iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if file.is_dir():
            yield from _load(file, f"{path}{file.name}/")
        elif suffix in CONTENT_TYPES:
            content = file.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            yield path + file.name, Asset(content, CONTENT_TYPES[suffix], etag)


def content_security_policy(host: str, websocket_port: int) -> str:
    """Only this server's files, and WebSockets to the public port on the page's own host."""
    name = host_name(host)
    if name.startswith("["):
        name = "*"  # CSP has no syntax for IPv6 addresses
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self' ws://{name}:{websocket_port} wss://{name}:{websocket_port}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
