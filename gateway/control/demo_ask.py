"""The demo's second page: questions to a model that answers as a token stream.

Whoever asks gets the name of the stream, and a token to watch it with, at once; the answer is written meanwhile. Only
pages of this very server may ask (`guard`), and what they can set off is bounded: the length of a question, answers
under way for one visitor and for all.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from gateway.clock import Clock
from gateway.control import answers
from gateway.control.answers import RequestError
from gateway.control.api import read_body
from gateway.control.demo_site import NAME_CHARACTERS, TOKEN_TTL_S, user_name
from gateway.control.guard import HostRules, check_same_origin
from gateway.errors import BrokerError, StreamEnded, StreamError
from gateway.log import get_logger
from gateway.streams import Options, Streams
from gateway.tasks import TaskScope
from protocol.codes import BAD_REQUEST, INTERNAL, NOT_AVAILABLE, TOO_MANY_REQUESTS

QUESTION_CHARACTERS: Final = 200
MAX_REQUEST_BYTES: Final = 4096
AT_ONCE: Final = 32
"""Answers under way."""
OF_ONE: Final = 3
"""Of one visitor."""
PREFIX: Final = "demo-"
OPTIONS: Final = Options(text_ttl_s=600.0, remember_s=3600.0, max_bytes=65_536)
"""Answers of a demo are kept for ten minutes."""

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
    """Has questions answered."""

    def __init__(self, streams: Streams, model: Model, sign: SignFor, clock: Clock) -> None:
        self._streams = streams
        self._model = model
        self._clock = clock
        self._tasks = TaskScope(self._broken)
        self._under_way: Counter[str] = Counter()
        self.sign = sign

    async def aclose(self) -> None:
        """Stop what is under way: its streams end as failed."""
        await self._tasks.aclose()
        await self._streams.aclose()

    async def ask(self, user: str, question: str) -> Begun:
        """Have `question` answered. Raises RequestError (429), StreamError, BrokerError."""
        if self._under_way.total() >= AT_ONCE:
            raise RequestError(429, TOO_MANY_REQUESTS, "too many answers are being written: try again in a moment")
        if self._under_way[user] >= OF_ONE:
            raise RequestError(
                429, TOO_MANY_REQUESTS, f"{OF_ONE} of your answers are being written: wait for one, or cancel it"
            )
        key = PREFIX + os.urandom(8).hex()
        generation = await self._streams.register(key, user, options=OPTIONS)
        self._under_way[user] += 1
        self._tasks.spawn(self._produce(key, generation, user, question))
        return Begun(key, "produced")

    async def _produce(self, key: str, generation: str, user: str, question: str) -> None:
        try:
            async with self._streams.open(key, generation=generation, options=OPTIONS) as writer:
                begun = self._clock.monotonic()
                count = 0
                async for token in self._model(question):
                    await writer.append(token)
                    count += 1
                await writer.finish(usage={"tokens": count, "seconds": round(self._clock.monotonic() - begun, 1)})
        except StreamEnded:
            return  # its owner has cancelled it
        except (StreamError, BrokerError) as error:
            get_logger().warning("demo answer not finished", stream=key, reason=str(error))
        finally:
            self._under_way[user] -= 1
            self._under_way += Counter()  # without those that have none

    def _broken(self, error: BaseException) -> None:
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
            except (StreamError, BrokerError) as error:
                raise RequestError(503, INTERNAL, "Redis does not answer at the moment") from error
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
            if not wanted.stream.startswith(PREFIX) or not wanted.stream.removeprefix(PREFIX).isalnum():
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
