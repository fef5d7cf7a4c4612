"""`redis.url`: one server, a master that Redis Sentinel names, or a Redis Cluster. Nothing is opened here.

    redis://[user:password@]host[:6379][/db]     rediss:// with TLS
    unix://[user:password@]/path/to/redis.sock[?db=1]
    redis+sentinel://[user:password@]host[:26379][,host[:26379]…]/service[/db]     rediss+sentinel://
    redis+cluster://[user:password@]host[:6379][,host[:6379]…]                     rediss+cluster://

User and password are those of the Redis servers. What Sentinels want themselves stands behind the question mark:
`sentinel_username`, `sentinel_password`. Everything else there is for redis-py, such as `ssl_ca_certs`.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

Topology = Literal["single", "sentinel", "cluster"]
Address = tuple[str, int]

SENTINEL_PORT: Final = 26379
REDIS_PORT: Final = 6379
_OF_SENTINELS: Final = ("sentinel_username", "sentinel_password")


class RedisUrl(NamedTuple):
    """What a URL says. Never written to a log as a whole: it has passwords."""

    topology: Topology
    server: str
    """A URL that redis-py understands: scheme, credentials, database and options, with the first host."""
    hosts: tuple[Address, ...] = ()
    """Sentinels, or some of the cluster's servers."""
    service: str = ""
    """What the Sentinels call the master."""
    sentinel_username: str = ""
    sentinel_password: str = ""


def parse_redis_url(url: str) -> RedisUrl:
    """Raises ValueError, whose text has nothing of the credentials in it."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme in ("redis", "rediss", "unix"):
        return RedisUrl("single", url)
    if not separator or scheme not in (
        "redis+sentinel",
        "rediss+sentinel",
        "redis+cluster",
        "rediss+cluster",
    ):
        raise ValueError("must start with redis://, rediss:// or unix://, redis+sentinel:// or redis+cluster://")
    plain, _, kind = scheme.partition("+")
    # Not by `urlsplit`: several hosts, one of them in brackets, are no host to newer releases of Python.
    rest, _, options = rest.partition("#")[0].partition("?")
    authority, _, names = rest.partition("/")
    login, at, netloc = authority.rpartition("@")
    default = SENTINEL_PORT if kind == "sentinel" else REDIS_PORT
    hosts = tuple(_address(each, default) for each in netloc.split(","))
    query = dict(parse_qsl(options, keep_blank_values=True))
    own = {name: query.pop(name, "") for name in _OF_SENTINELS}
    path = [unquote(each) for each in names.split("/") if each]
    if kind == "cluster":
        if (path and path != ["0"]) or query.get("db", "0") != "0":
            raise ValueError("a Redis Cluster has database 0 only")
        if any(own.values()):
            raise ValueError("sentinel_username and sentinel_password are for redis+sentinel://")
        service, database = "", ""
    else:
        if not 1 <= len(path) <= 2:
            raise ValueError("redis+sentinel:// needs the name of the master: redis+sentinel://host:26379/service")
        service, database = path[0], path[1] if len(path) == 2 else "0"
        if not database.isdecimal():
            raise ValueError("redis+sentinel://…/service/db: the database must be a number")
    host, port = hosts[0]
    server = f"{plain}://{login}{at}{f'[{host}]' if ':' in host else host}:{port}/{database}"
    if query:
        server += f"?{urlencode(query)}"
    topology: Topology = "sentinel" if kind == "sentinel" else "cluster"
    return RedisUrl(topology, server, hosts, service, *own.values())


def _address(text: str, default_port: int) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port == 0 or (port is None and text.rstrip("]").endswith(":")):
        raise ValueError("needs hosts as host:port, separated by commas")
    return host, port or default_port
