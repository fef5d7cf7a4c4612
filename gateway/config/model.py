"""The configuration as typed, validated sections. A leaf: no file, environment or log is touched here.

Every key has its unit in its name or its type. Unknown keys are errors. `gateway.config.load` fills these models from
a TOML file, the environment and flags.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from gateway.config.backend import Backend
from gateway.config.base import Port, Seconds, Secret, Section, check_jwks_url, check_network, long_enough
from gateway.config.cache import Cache
from gateway.config.keys import ApiKey
from gateway.config.limits import Limits
from gateway.config.memory import Memory
from gateway.config.namespace import Namespace
from gateway.config.outbox import Outbox
from gateway.config.redis_url import Topology, parse_redis_url
from gateway.config.streams import STREAM_NAMESPACE, STREAM_RULES, Streams
from protocol.redis_contract import ClusterPrefix

MIN_SECRET_BYTES = 32
"""RFC 7518 §3.2: a key of the size of the hash output or larger must be used with HMAC."""


class Server(Section):
    """The public port: WebSockets and health."""

    host: str = "0.0.0.0"  # noqa: S104 - the public port is meant to be reached from everywhere
    """Address to listen on."""
    port: Port = 8000
    """Port to listen on; 0 = any free one, printed at start."""
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Edge worker processes; 0 = one per core."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of pages that may connect, exact match (`https://app.example.com`). Empty = pages served from the same
    host name, any port. `["*"]` = any page. Clients that send no Origin (apps, scripts) are not concerned."""
    drain_window_s: Seconds = 5.0
    """On SIGTERM, and for each worker on SIGHUP: time over which clients are closed, one by one; 0 = at once."""
    max_connection_age_s: Seconds = 0.0
    """Connections are closed (3011, SDKs come back at once) at an age drawn from the second half of this, so that
    workers and nodes balance again; 0 = never."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (`10.0.0.0/8`) whose hosts are believed when they say for whom they connect. Empty = nobody is."""
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    """The one header that trusted proxies write; the other is ignored, because clients could send it themselves."""
    proxy_protocol: bool = False
    """Every connection begins with a PROXY protocol header (version 1 or 2), from `trusted_proxies` only if there are
    any. Health checks on the public port need one, too."""
    tls_cert: str = ""
    """File with the certificate and its chain (PEM) for `wss://`; empty = TLS ends in front of the gateway. Looked at
    again each minute, so that a renewed certificate is used without a restart."""
    tls_key: str = ""
    """File with the key of `tls_cert` (PEM, without a passphrase)."""

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_network(network) for network in networks)

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Server:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key are given both or none")
        return self

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin not in ("*", "null") and ("://" not in origin or origin.count("/") != 2 or "*" in origin):
                raise ValueError(f'"{origin}" is not an origin: write scheme://host[:port] without a path, or "*"')
        return origins


class Control(Section):
    """The private port: HTTP API for backends, metrics, demo page."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback exposes the metrics to that network."""
    port: Port = 9000
    """Port to listen on; 0 = any free one."""
    api_keys: Annotated[tuple[str, ...], Field(repr=False)] = ()
    """Keys that backends send as `X-API-Key`, each for everything. Without any key the API refuses every call."""
    keys: Annotated[tuple[ApiKey, ...], Field(repr=False)] = ()
    """Keys that may do some things only: `name`, `key`, and any of `methods` and `namespaces`."""
    demo: bool = False
    """Serve `/demo`, with tokens for whoever opens the page."""

    @field_validator("api_keys")
    @classmethod
    def _long_enough(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(long_enough(key) for key in keys)

    @field_validator("keys")
    @classmethod
    def _distinct(cls, keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        if len({key.name for key in keys}) < len(keys) or len({key.key for key in keys}) < len(keys):
            raise ValueError("two keys have the same name, or are the same")
        return keys

    @model_validator(mode="after")
    def _limited_or_not(self) -> Control:
        if shared := [key.name for key in self.keys if key.key in self.api_keys]:
            raise ValueError(f'keys: the key "{shared[0]}" is also one of api_keys, which are for everything')
        return self


class Auth(Section):
    """Who may connect: JSON Web Tokens."""

    hmac_secret: Secret = ""
    """Secret for HS256/384/512, at least 32 bytes."""
    hmac_secret_previous: Secret = ""
    """The secret before the last rotation; tokens signed with it are still accepted."""
    jwks_url: str = ""
    """Key set for RS256, ES256 and EdDSA: an `https://` URL, or a file path."""
    jwks_refresh_s: Annotated[float, Field(ge=10, le=86_400)] = 300.0
    """Time between two reads of the key set. An unknown key id causes an earlier one, at most every 10 s."""
    audience: str = ""
    """`aud` that tokens must name; empty = not checked."""
    issuer: str = ""
    """`iss` that tokens must name; empty = not checked."""
    leeway_s: Annotated[float, Field(ge=0, le=300)] = 5.0
    """Difference between the clocks of token issuer and gateway that is tolerated."""
    expired_close_delay_s: Seconds = 25.0
    """Time that a client has to refresh after its token expired before it is closed with 3005."""
    insecure: bool = False
    """Everyone may do everything, as any user. For demos and tests only."""
    anonymous: bool = False
    """Clients without a token may connect, as user ""."""

    @field_validator("hmac_secret", "hmac_secret_previous")
    @classmethod
    def _long_enough(cls, secret: str) -> str:
        if "-----BEGIN" in secret:
            raise ValueError("is a key in PEM form, not a secret; public keys are read from jwks_url")
        if secret and len(secret.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"needs at least {MIN_SECRET_BYTES} bytes, has {len(secret.encode())}")
        return secret

    @field_validator("jwks_url")
    @classmethod
    def _safe_url(cls, url: str) -> str:
        if "://" in url:
            check_jwks_url(url)
        return url


class Redis(Section):
    """The bus between backends and workers."""

    url: Secret = ""
    """`redis://`, `rediss://` or `unix://` URL; `redis+sentinel://host:26379,…/service` for the master that Sentinels
    name, `redis+cluster://host:6379,…` for a Redis Cluster (`rediss+…` with TLS); empty = a private embedded server,
    gone with the supervisor."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,32}$")] = "gw"
    """First part of every Redis key and channel."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Time to open a connection to Redis."""
    probe_interval_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Time between two PINGs on the subscriber connection; no answer within the same time = reconnect."""

    canary_interval_s: Annotated[float, Field(ge=0.05, le=60)] = 2.0
    """Time between two messages of each worker to itself. `ready` turns false when five in a row have not come back,
    and true again after two that have."""

    @field_validator("url")
    @classmethod
    def _scheme(cls, url: str) -> str:
        if url:
            parse_redis_url(url)
        return url

    @property
    def topology(self) -> Topology:
        """What `url` leads to."""
        return parse_redis_url(self.url).topology if self.url else "single"

    @model_validator(mode="after")
    def _names_of_a_cluster(self) -> Redis:
        """Wherever the prefix goes, it says how names are made."""
        if self.topology == "cluster":
            self.__dict__["prefix"] = ClusterPrefix(self.prefix)
        return self


class Keepalive(Section):
    """Finding out that a client is gone."""

    ping_interval_s: Annotated[float, Field(ge=0.2, le=3600)] = 25.0
    """Time between two pings to a client; the first comes at a random point in its second half. While messages are
    delivered without a break, pings wait: an eighth of the interval, 3 s at most, and never more than twice that."""
    pong_timeout_s: Annotated[float, Field(ge=0.1, le=3600)] = 8.0
    """Time that a client has to answer a ping (3012). Shorter than the interval."""

    @model_validator(mode="after")
    def _shorter(self) -> Keepalive:
        if self.pong_timeout_s >= self.ping_interval_s:
            raise ValueError("pong_timeout_s must be shorter than ping_interval_s")
        return self


class Delivery(Section):
    """Fan-out and its bounds."""

    queue_messages: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Publications that wait for one channel's next pass; past it the oldest is dropped and counted."""
    queue_bytes: Annotated[int, Field(ge=65_536, le=2**31)] = 16_777_216
    """Bytes that wait for one channel's next pass."""
    send_budget_bytes: Annotated[int, Field(ge=16_384, le=2**31)] = 1_048_576
    """Bytes that may wait in one connection's send buffer before it counts as slow."""
    compression: bool = True
    """Compress for clients that offer permessage-deflate (browsers do). A publication is compressed once for all."""
    compression_min_bytes: Annotated[int, Field(ge=64, le=2**20)] = 512
    """Shorter messages are not compressed."""
    slice_deliveries: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Writes in a row before the event loop turns to other work."""
    slow_timeout_s: Annotated[float, Field(ge=1, le=86_400)] = 120.0
    """Time that a client whose network still answers may leave what it was sent unread before it is closed (3012)."""
    unsubscribe_delay_s: Seconds = 5.0
    """Time that a channel without local subscribers stays subscribed in Redis, so that reconnects do not churn it."""
    presence_lease_s: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """Time after which the presence of a worker that died is over. Live workers renew theirs three times as often."""


class Metrics(Section):
    """What is measured."""

    latency: bool = True
    """Time operations. Costs less than 3 % of the CPU time of delivering."""
    slow_ms: Annotated[float, Field(ge=1, le=60_000)] = 200.0
    """Time from which an operation is kept as a slow one, with its channel and user: the 50 slowest of each process."""


class Log(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """debug: protocol decisions · info: connections opened and closed, lifecycle · warning: something a person should
    look at · error: something is broken."""
    format: Literal["auto", "json", "console"] = "auto"
    """auto = console on a terminal, else JSON, one object per line."""


NAMESPACE_NAME = r"^[A-Za-z0-9_.\-]{1,64}$"


class Config(Section):
    """The whole configuration."""

    server: Server = Server()
    control: Control = Control()
    auth: Auth = Auth()
    redis: Redis = Redis()
    limits: Limits = Limits()
    keepalive: Keepalive = Keepalive()
    delivery: Delivery = Delivery()
    metrics: Metrics = Metrics()
    memory: Memory = Memory()
    backend: Backend = Backend()
    streams: Streams = Streams()
    cache: Cache = Cache()
    outbox: Outbox = Outbox()
    log: Log = Log()
    namespaces: dict[Annotated[str, Field(pattern=NAMESPACE_NAME)], Namespace] = Field(
        default_factory=lambda: {"default": Namespace()}
    )

    @field_validator("namespaces")
    @classmethod
    def _default(cls, namespaces: dict[str, Namespace]) -> dict[str, Namespace]:
        return namespaces if "default" in namespaces else {"default": Namespace(), **namespaces}

    @model_validator(mode="after")
    def _streams_have_a_namespace(self) -> Config:
        if self.streams.enabled:
            self.namespaces.setdefault(STREAM_NAMESPACE, STREAM_RULES)
        return self
