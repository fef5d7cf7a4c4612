"""What is wrong, or worth a warning, in a configuration whose single values are all valid."""

from __future__ import annotations

from gateway.config.base import is_loopback
from gateway.config.certificate import key_warning
from gateway.config.model import Config
from gateway.config.schema import env_name
from gateway.config.streams import STREAM_NAMESPACE, broken_rules


def unreachable(config: Config) -> str:
    """Why nobody could connect, or ""."""
    auth = config.auth
    if auth.hmac_secret or auth.hmac_secret_previous or auth.jwks_url or auth.insecure or auth.anonymous:
        return ""
    if "connect" in config.backend.may_hook:
        return ""
    return (
        "[auth]: nobody could connect: set hmac_secret or jwks_url "
        f"({env_name(('auth', 'hmac_secret'))}, {env_name(('auth', 'jwks_url'))}), or anonymous = true; "
        "`nexus-gateway demo` needs no configuration"
    )


def unanswered(config: Config) -> list[str]:
    """Namespaces that leave a decision to a backend which nobody could ask, or that cannot hold token streams."""
    found = []
    for namespace, rules in config.namespaces.items():
        for event, by in (("subscribe", rules.subscribe_by), ("publish", rules.publish_by)):
            if by == "backend" and event not in config.backend.may_hook:
                found.append(f'[namespaces.{namespace}] {event}_by = "backend" needs [backend] handlers or {event}_url')
    if config.streams.enabled:
        found += broken_rules(config.namespaces[STREAM_NAMESPACE])
    return found


def warnings(config: Config) -> list[str]:
    """What is allowed and dangerous. One sentence each: what, and what it means."""
    found = []
    auth, control, server = config.auth, config.control, config.server
    if auth.insecure:
        found.append("[auth] insecure = true: anybody may connect as any user and do everything; never in production")
        if auth.hmac_secret or auth.jwks_url:
            found.append("[auth] insecure = true: hmac_secret and jwks_url are not used, tokens are not checked")
    if auth.jwks_url and not auth.audience:
        found.append(
            "[auth] audience is empty: tokens that the issuer of jwks_url made for other applications are accepted, too"
        )
    if auth.hmac_secret and auth.hmac_secret == auth.hmac_secret_previous:
        found.append("[auth] hmac_secret_previous is the same as hmac_secret: the secret was not rotated")
    if "*" in server.allowed_origins:
        found.append('[server] allowed_origins = ["*"]: a page of any site may connect from a visitor\'s browser')
    if server.proxy_protocol and not server.trusted_proxies and not is_loopback(server.host):
        found.append(
            "[server] proxy_protocol = true without trusted_proxies: whoever reaches the port may claim any address"
        )
    if not is_loopback(control.host):
        found.append(
            f'[control] host = "{control.host}": the metrics and the HTTP API are open to that network; '
            "keep the port behind a firewall"
        )
        if control.demo:
            found.append("[control] demo = true on that host: whoever opens the page gets a token")
    for key in config.backend.open_urls:
        found.append(
            f"[backend] {key}: http:// to another network: what clients send can be read and changed on the way"
        )
    if warning := key_warning(server):
        found.append(warning)
    return found
