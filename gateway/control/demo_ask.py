"""The demo's second page: questions to a model that answers as a token stream.

Whoever asks gets the name of the stream, and a token to watch it with, at once; the answer is written meanwhile. Only
pages of this very server may ask (`guard`), and what they can set off is bounded: the length of a question, answers
under way for one visitor and for all.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import Annotated, Any, Final, NamedTuple, Self

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from gateway.cache import Answer, AsyncCache, Draft, Kind, Options
from gateway.cache import Request as CacheRequest
from gateway.clock import Clock
from gateway.control import answers
from gateway.control.answers import RequestError
from gateway.control.api import read_body
from gateway.control.demo_site import NAME_CHARACTERS, TOKEN_TTL_S, user_name
from gateway.control.guard import HostRules, check_same_origin
from gateway.errors import CacheError, GatewayError
from gateway.log import get_logger
from gateway.tasks import TaskScope
from protocol.codes import BAD_REQUEST, INTERNAL, NOT_AVAILABLE, TOO_MANY_REQUESTS

QUESTION_CHARACTERS: Final = 200
MAX_REQUEST_BYTES: Final = 4096
AT_ONCE: Final = 32
"""Answers under way."""
OF_ONE: Final = 3
"""Of one visitor."""
KIND: Final = "demo_answer"
KEPT_S: Final = 600.0
"""Answers of a demo are kept for ten minutes."""
BUDGET_S: Final = 2.0
"""A slow Redis keeps a question waiting rather than its page without the stream, which follows later or never."""

_STREAM: Final = re.compile(r"cache-[0-9a-f-]{1,100}", re.ASCII)

Model = Callable[[str], AsyncIterator[str]]
"""Gives the answer to a question in tokens."""
SignFor = Callable[[str, float, str], str]
"""A subscription token for a user, good for that many seconds, for one channel."""


class AskRequest(BaseModel):
    """A question."""

    user: Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS)]
    question: Annotated[str, Field(min_length=1, max_length=QUESTION_CHARACTERS)]


class AskReply(BaseModel):
    """Where the answer is."""

    stream: str
    """Key of the stream; its channel is `stream:<key>`."""
    level: str
    """`produced`; `coalesced`: somebody else has asked; `redis`, `local` or `stale`: it was there."""
    token: str
    """Subscription token for the channel."""


class WatchRequest(BaseModel):
    """Who wants to watch an answer that he has the name of."""

    user: Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS)]
    stream: str


class WatchReply(BaseModel):
    token: str


class _Ask(msgspec.Struct):
    user: str = ""
    question: str = ""


class _Watch(msgspec.Struct):
    user: str = ""
    stream: str = ""


class Begun(NamedTuple):
    """An answer that is under way, or was there."""

    stream: str
    level: str


class Asking:
    """Has questions answered; the cache sees to it that none is answered twice. `async with` while it is used."""

    def __init__(self, cache: AsyncCache, model: Model, sign: SignFor, clock: Clock) -> None:
        """`cache` with the options of `cache_options`, and this object's: it is entered and left with it."""
        self._cache = cache
        self._model = model
        self._clock = clock
        self._waiting = TaskScope(_broken)
        self._under_way: Counter[str] = Counter()
        """Answers that are being written, by who has asked first."""
        self.sign = sign

    async def __aenter__(self) -> Self:
        await self._cache.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop what is under way: its streams end as failed."""
        await self._waiting.aclose()
        await self._cache.aclose()

    async def ask(self, user: str, question: str) -> Begun:
        """Have `question` answered. Raises RequestError (429), CacheError."""
        if self._under_way.total() >= AT_ONCE:
            raise RequestError(429, TOO_MANY_REQUESTS, "too many answers are being written: try again in a moment")
        if self._under_way[user] >= OF_ONE:
            raise RequestError(
                429, TOO_MANY_REQUESTS, f"{OF_ONE} of your answers are being written: wait for one, or cancel it"
            )
        self._begin(user)
        try:
            answer = await self._cache.get_or_stream(request_of(question), partial(self._produce, question), owner=user)
        except BaseException:
            self._end(user)
            raise
        if answer.level == "produced":
            self._waiting.spawn(self._wait(answer, user))
        else:
            self._end(user)
        return Begun(answer.key, answer.level)

    async def _produce(self, question: str, draft: Draft) -> dict[str, float]:
        begun = self._clock.monotonic()
        count = 0
        async for token in self._model(question):
            await draft.append(token)
            count += 1
        return {"tokens": count, "seconds": round(self._clock.monotonic() - begun, 1)}

    async def _wait(self, answer: Answer, user: str) -> None:
        try:
            await answer.text()
        except GatewayError as error:  # cancelled by its owner, for the most part
            get_logger().debug("demo answer not finished", stream=answer.key, reason=str(error))
        finally:
            self._end(user)

    def _begin(self, user: str) -> None:
        self._under_way[user] += 1

    def _end(self, user: str) -> None:
        self._under_way[user] -= 1
        if not self._under_way[user]:
            del self._under_way[user]


def cache_options() -> Options:
    """What a demo keeps: little, and not for long."""
    return Options(
        kinds={KIND: Kind(ttl_s=KEPT_S)},
        jitter=0,
        budget_s=BUDGET_S,
        local_entries=100,
        local_bytes=1_048_576,
        connections=4,
    )


def request_of(question: str) -> CacheRequest:
    """A question, for the cache: all visitors are one tenant, so they share its answer."""
    return CacheRequest(
        kind=KIND,
        tenant="demo",
        provider="nexus-gateway",
        model="stand-in-1",
        messages=[{"role": "user", "content": question}],
    )


def _broken(error: BaseException) -> None:
    get_logger().error("demo answer is broken", exc_info=error)


def ask_router(asking: Asking | None, hosts: HostRules) -> APIRouter:
    """`asking` is None where token streams are off or there is no secret to sign tokens with."""
    router = APIRouter(prefix="/demo", tags=["demo"])

    @router.post(
        "/ask",
        summary="Ask the demo's model; the answer comes as a token stream",
        response_model=AskReply,
        openapi_extra=_body_of(AskRequest),
    )
    async def ask(request: Request) -> Response:
        try:
            check_same_origin(request, hosts)
            asked = _decode(await read_body(request, MAX_REQUEST_BYTES), _Ask)
            user, question = user_name(asked.user), question_of(asked.question)
            asks = _available(asking)
            try:
                begun = await asks.ask(user, question)
            except CacheError as error:
                raise RequestError(503, INTERNAL, "no answers are given at the moment") from error
            reply = {**begun._asdict(), "token": asks.sign(user, TOKEN_TTL_S, f"stream:{begun.stream}")}
            return answers.Answer(msgspec.json.encode(reply))
        except RequestError as problem:
            return answers.refusal(problem)

    @router.post(
        "/watch",
        summary="A subscription token for an answer of the demo's model",
        response_model=WatchReply,
        openapi_extra=_body_of(WatchRequest),
    )
    async def watch(request: Request) -> Response:
        try:
            check_same_origin(request, hosts)
            wanted = _decode(await read_body(request, MAX_REQUEST_BYTES), _Watch)
            user = user_name(wanted.user)
            if not _STREAM.fullmatch(wanted.stream):
                raise RequestError(400, BAD_REQUEST, "stream: not one of the demo's answers")
            asks = _available(asking)
            token = asks.sign(user, TOKEN_TTL_S, f"stream:{wanted.stream}")
            return answers.Answer(msgspec.json.encode({"token": token}))
        except RequestError as problem:
            return answers.refusal(problem)

    return router


def question_of(text: str) -> str:
    """A question as the model gets it. Raises RequestError (400) for one that cannot be."""
    question = " ".join(unicodedata.normalize("NFC", text).split())
    if not 1 <= len(question) <= QUESTION_CHARACTERS:
        raise RequestError(400, BAD_REQUEST, f"question: it has 1 to {QUESTION_CHARACTERS} characters")
    if not question.isprintable():
        raise RequestError(400, BAD_REQUEST, "question: it has printable characters only")
    return question


def _available(asking: Asking | None) -> Asking:
    if asking is None:
        raise RequestError(503, NOT_AVAILABLE, "asking needs streams.enabled = true, and auth.hmac_secret")
    return asking


def _body_of(model: type[BaseModel]) -> dict[str, Any]:
    schema = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": schema}}


def _decode(body: bytes, shape: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        fields = ", ".join(f'"{name}": "…"' for name in shape.__struct_fields__)
        raise RequestError(400, BAD_REQUEST, f"the body must be a JSON object like {{{fields}}}") from error
