from __future__ import annotations

import contextlib
import json as python_json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgmtnode.api.json import LIMIT, MAX_DEPTH, parse
from mgmtnode.errors import ApiError, Category

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "ü"]), inner),
    max_leaves=20,
)  # fmt: skip


def code(body: bytes) -> str:
    with pytest.raises(ApiError) as caught:
        parse(body)
    assert caught.value.category is Category.INVALID
    return caught.value.code


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "api.malformed-json"),
        (b'{"a":', "api.malformed-json"),
        (b'{"a":1}x', "api.malformed-json"),
        (b"\xef\xbb\xbf{}", "api.malformed-json"),
        (b'{"a":NaN}', "api.malformed-json"),
        (b'{"a":-Infinity}', "api.malformed-json"),
        (b'{"a":1e999}', "api.malformed-json"),
        (b'{"a":' + b"9" * 5000 + b"}", "api.malformed-json"),
        (b'{"a":"\xff"}', "api.bad-text"),
        (b'{"a":"\x00"}', "api.bad-text"),
        (b'{"a":"\\u0000"}', "api.bad-text"),
        (b'{"\\u0000":1}', "api.bad-text"),
        (b'{"a":["\\ud800"]}', "api.bad-text"),
        (b'{"a":"\\udc00\\ud800"}', "api.bad-text"),
        (b'{"\\ud800":1,"\\ud800":2}', "api.bad-text"),
        (b'{"a":1,"a":2}', "api.duplicate-key"),
        (b'{"a":[{"b":1,"\\u0062":2}]}', "api.duplicate-key"),
        (b"[1]", "api.not-an-object"),
        (b"null", "api.not-an-object"),
        (b'"\\u0041"', "api.not-an-object"),
        (b"5", "api.not-an-object"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "api.too-deep"),
        (b"[" * 10_000, "api.too-deep"),
        (b'{"a":' + b"[" * 100_000, "api.too-deep"),
        (b'{"a":"' + b"x" * LIMIT + b'"}', "api.too-large"),
    ],
)
def test_a_bad_body_is_refused_with_its_own_code(body: bytes, expected: str) -> None:
    assert code(body) == expected


def test_an_error_names_the_place() -> None:
    with pytest.raises(ApiError) as caught:
        parse(b'{"disks":[{},{"name":"a\\u0000"}]}')
    assert caught.value.problem.details["place"] == "$.disks[1].name"
    with pytest.raises(ApiError) as caught:
        parse(b'{"a":{"b":1,\n"c":2,"b":3}}')
    assert caught.value.problem.details == {"place": "$.a", "key": "b"}
    with pytest.raises(ApiError, match="line 2, column 3"):
        parse(b'{"a":1,\n  x}')


def test_the_deepest_body_that_is_allowed_is_parsed() -> None:
    depth = MAX_DEPTH - 1
    assert parse(b'{"a":' + b"[" * depth + b"]" * depth + b"}")


def test_a_surrogate_pair_is_one_character() -> None:
    assert parse(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@pytest.mark.parametrize(
    "body",
    [
        b"[" * LIMIT,
        b'{"a":' * (LIMIT // 5),
        b'{"' + b"k" * 400_000 + b'":[' + b'"\\u0000",' * 70_000 + b"1]}",
        b'{"a":[' + b"[]," * 340_000 + b"[]]}",
        b'{"a":"' + b"\\ud800" * 170_000 + b'"}',
    ],
)
def test_the_worst_bodies_cost_seconds_at_most(body: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(ApiError):
        parse(body)
    assert time.process_time() - began < 5.0  # a body whose cost grows with its square takes minutes


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), VALUES))
def test_what_json_says_is_what_is_parsed(value: dict[str, object]) -> None:
    assert parse(python_json.dumps(value).encode()) == value
    assert parse(python_json.dumps(value, ensure_ascii=False).encode()) == value


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_an_object_or_a_clean_refusal(body: bytes) -> None:
    try:
        assert isinstance(parse(body), dict)
    except ApiError as exc:
        assert exc.category is Category.INVALID
