"""Keys: the same for what means the same, others for everything else."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import CacheInvalid, Request
from gateway.cache.request import canonical, digest_of, temperature_of

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
NAMES = st.text(min_size=1)
REQUESTS = st.builds(
    Request,
    kind=NAMES,
    tenant=NAMES,
    provider=NAMES,
    model=NAMES,
    parameters=st.dictionaries(st.text(), JSON, max_size=4),
    messages=st.lists(JSON, max_size=4),
    tools=st.lists(JSON, max_size=2),
)


def asked(**fields: Any) -> Request:
    return Request(**{"kind": "k", "tenant": "t", "provider": "openai", "model": "m"} | fields)


def shuffled(value: Any) -> Any:
    """Every mapping the other way round, every list a tuple, every whole number as a float, as far as it is exact."""
    if isinstance(value, dict):
        return {key: shuffled(each) for key, each in reversed(value.items())}
    if isinstance(value, list):
        return tuple(shuffled(each) for each in value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    return value


@given(REQUESTS)
def test_order_of_keys_and_the_way_numbers_are_written_make_no_difference(request: Request) -> None:
    other = Request(
        kind=request.kind,
        tenant=request.tenant,
        provider=request.provider,
        model=request.model,
        parameters=shuffled(request.parameters),
        messages=shuffled(request.messages),
        tools=shuffled(request.tools),
    )
    assert digest_of(other) == digest_of(request)


@given(REQUESTS, REQUESTS)
def test_two_requests_have_one_key_only_if_they_have_one_canonical_form(one: Request, other: Request) -> None:
    assert (digest_of(one) == digest_of(other)) == (canonical(one) == canonical(other))


@given(REQUESTS, st.sampled_from(["kind", "tenant", "provider", "model"]), NAMES)
def test_tenant_kind_provider_and_model_always_make_a_difference(request: Request, field: str, value: str) -> None:
    changed = Request(**{name: getattr(request, name) for name in request.__struct_fields__} | {field: value})
    assert (digest_of(changed) == digest_of(request)) == (getattr(request, field) == value)


@given(st.lists(JSON, max_size=4), st.lists(JSON, max_size=4))
def test_messages_make_a_difference_unless_they_are_equal_as_json(one: list[Any], other: list[Any]) -> None:
    assert (digest_of(asked(messages=one)) == digest_of(asked(messages=other))) == (typed(one) == typed(other))


def typed(value: Any) -> Any:
    """Equal exactly when two values are the same in JSON: True is not 1, and 1 is 1.0."""
    if isinstance(value, dict):
        return ("dict", {key: typed(each) for key, each in value.items()})
    if isinstance(value, list):
        return ("list", [typed(each) for each in value])
    return ("bool" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "other", value)


@given(st.lists(JSON, max_size=3))
def test_what_stands_in_one_field_is_not_taken_for_another(values: list[Any]) -> None:
    if values:
        assert digest_of(asked(messages=values)) != digest_of(asked(tools=values))


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 1},
        {"temperature": 1.0, "top_p": 1, "n": 1},
        {"temperature": None, "seed": None},
        {"stream": True, "stream_options": {"include_usage": True}},
    ],
)
def test_defaults_that_are_spelled_out_make_no_difference(parameters: dict[str, Any]) -> None:
    assert digest_of(asked(parameters=parameters)) == digest_of(asked())


def test_a_default_is_one_only_for_its_provider_and_only_with_its_type() -> None:
    assert digest_of(asked(provider="x", parameters={"temperature": 1})) != digest_of(asked(provider="x"))
    assert digest_of(asked(parameters={"presence_penalty": False})) != digest_of(asked())
    own = {"x": {"temperature": 0.5}}
    assert digest_of(asked(provider="x", parameters={"temperature": 0.5}), own) == digest_of(asked(provider="x"), own)


class Strange:
    pass


def nested(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


def endless() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"parameters": {"temperature": math.nan}}, "parameters.temperature"),
        ({"parameters": {"a": {"b": [0, math.inf]}}}, "parameters.a.b[1]"),
        ({"messages": [{"content": -math.inf}]}, "messages[0].content"),
        ({"messages": [{"content": b"bytes"}]}, "messages[0].content"),
        ({"messages": [{1: "one"}]}, "messages[0]"),
        ({"messages": ["fine", {"content": "\ud83d\ude00"}]}, "messages[1].content"),
        ({"messages": [{"\udc00": 1}]}, "messages[0].'\\udc00'"),
        ({"messages": "text"}, "messages"),
        ({"tools": [Strange()]}, "tools[0]"),
        ({"tools": None}, "tools"),
        ({"parameters": [1]}, "parameters"),
        ({"parameters": {"n": 10**5000}}, "parameters.n"),
        ({"tenant": ""}, "tenant"),
        ({"tenant": None}, "tenant"),
        ({"model": 7}, "model"),
    ],
)
def test_what_cannot_be_a_key_is_refused_with_its_place(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(CacheInvalid) as refused:
        digest_of(asked(**fields))
    assert refused.value.place == place


@pytest.mark.parametrize("value", [nested(100), endless()])
def test_what_is_too_deep_is_refused(value: Any) -> None:
    with pytest.raises(CacheInvalid, match="levels deep"):
        digest_of(asked(messages=value))


def test_the_temperature_is_the_one_that_the_model_will_use() -> None:
    assert temperature_of(asked()) == 1
    assert temperature_of(asked(provider="x")) == 0
    assert temperature_of(asked(parameters={"temperature": 0.0})) == 0
    for wrong in ("hot", True, -1, math.nan):
        with pytest.raises(CacheInvalid):
            temperature_of(asked(parameters={"temperature": wrong}))


def test_the_form_of_a_key_is_a_promise() -> None:
    """Another form would make every stored answer unknown: then `request.VERSION` changes, too."""
    request = asked(parameters={"top_k": 5.0, "a": [1, "ü", None]}, messages=[{"role": "user", "content": "Why?"}])
    assert canonical(request).decode() == (
        '{"kind":"k","messages":[{"content":"Why?","role":"user"}],"model":"m","parameters":{"a":[1,"ü",null],"top_k":5},'
        '"provider":"openai","tenant":"t","tools":[],"version":1}'
    )
