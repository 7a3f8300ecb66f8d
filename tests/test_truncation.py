from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsonl_handler._encoding import encode_line
from jsonl_handler._truncation import fit

CORE = {
    "timestamp": "2026-11-22T06:00:00.123456Z",
    "level": "INFO",
    "logger": "app",
    "session": "1a2b3c4d",
    "seq": 17,
}


def test_a_line_that_fits_is_left_alone() -> None:
    """A line of exactly the limit is returned as it is."""
    line = encode_line({"message": "x" * 2000})

    assert fit(line, len(line)) is line


def test_long_fields_share_the_room_and_short_ones_stay_whole() -> None:
    """Of two long texts each keeps about half; short fields and the core are untouched."""
    fields = {**CORE, "message": "m" * 5000, "path": "/a/b", "body": "b" * 50_000, "ok": True}

    kept = json.loads(fit(encode_line(fields), 2048))

    assert kept["truncated"] is True
    assert {name: kept[name] for name in CORE} == CORE
    assert (kept["path"], kept["ok"]) == ("/a/b", True)
    assert kept["message"].rstrip("…") == "m" * (len(kept["message"]) - 1)
    assert abs(len(kept["message"]) - len(kept["body"])) <= 1
    assert len(kept["message"]) > 800


def test_the_cut_goes_into_nested_fields() -> None:
    """A long stack trace is cut inside its exception, whose type and message stay."""
    exception = {"type": "ValueError", "message": "bad", "stacktrace": "line\n" * 10_000}

    kept = json.loads(fit(encode_line({**CORE, "message": "hi", "exception": exception}), 4096))

    assert kept["message"] == "hi"
    assert kept["exception"]["type"] == "ValueError"
    assert kept["exception"]["message"] == "bad"
    assert 3000 < len(kept["exception"]["stacktrace"]) < 4096


def test_of_too_many_fields_the_first_are_kept() -> None:
    """With more fields than room the first ones stay, in their order."""
    fields = {**CORE, "message": "hi", **{f"field{number:05}": number for number in range(10_000)}}

    kept = json.loads(fit(encode_line(fields), 1024))

    assert list(kept)[:-1] == list(fields)[: len(kept) - 1]
    assert len(kept) > 40


def test_core_fields_survive_behind_many_others() -> None:
    """Core fields that come last in a line stay when there is no room for all."""
    fields = {**{f"field{number:05}": number for number in range(10_000)}, **CORE}

    kept = json.loads(fit(encode_line(fields), 1024))

    assert {name: kept[name] for name in CORE} == CORE


def test_a_name_too_long_to_keep_leaves_room_for_the_others() -> None:
    """A key larger than the limit is left out; the fields after it are not."""
    kept = json.loads(fit(encode_line({"message": "hi", "k" * 5000: 1, "after": 2}), 1024))

    assert kept == {"message": "hi", "after": 2, "truncated": True}


def test_a_core_field_out_of_all_proportion_is_cut_too() -> None:
    """A logger's name longer than the limit does not push everything else out."""
    kept = json.loads(fit(encode_line({**CORE, "logger": "x" * 5000, "message": "hi"}), 1024))

    assert kept["message"] == "hi"
    assert kept["seq"] == 17
    assert kept["logger"].startswith("xxx")


def test_an_own_field_named_truncated_is_kept_beside() -> None:
    """A user's field `truncated` steps aside for ours."""
    kept = json.loads(fit(encode_line({"truncated": "mine", "message": "x" * 3000}), 1024))

    assert kept["truncated"] is True
    assert kept["truncated_"] == "mine"


@pytest.mark.parametrize(
    "line",
    [
        b"not json at all " * 200 + b"\n",
        b"[" + b"1," * 2000 + b"1]\n",
        b"\xff" * 2000 + b"\n",
        b"[" * 3000 + b"]" * 3000 + b"\n",
        b'{"n":' + b"9" * 6000 + b"}\n",
    ],
)
def test_a_long_line_that_is_no_object_is_kept_as_text(line: bytes) -> None:
    """What can't be read back as an object is cut as the text it is."""
    short = fit(line, 1024)

    assert len(short) <= 1024
    kept = json.loads(short)
    assert set(kept) == {"message", "truncated"}
    assert line.decode("utf-8", "backslashreplace").startswith(kept["message"].rstrip("…"))


def test_deep_containers_are_cut_too() -> None:
    """A value nested deeper than the cutting goes ends as text within the limit."""
    deep: Any = "x" * 5000
    for _ in range(200):
        deep = {"d": [deep]}

    short = fit(encode_line({"deep": deep}), 1024)

    assert len(short) <= 1024
    assert json.loads(short)["deep"]["d"]


texts = st.text(st.characters(exclude_categories=()), max_size=40) | st.sampled_from(
    ["x" * 3000, "ü" * 1000, '\n\0"\\' * 500, "🙂" * 400, "\udc80" * 300]
)
values = st.recursive(
    texts | st.integers() | st.floats() | st.none() | st.booleans() | st.just(10**2000),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(texts, inner, max_size=8),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(texts, values, max_size=40), st.integers(1024, 6000))
def test_any_line_is_cut_to_a_valid_object_within_the_limit(fields: dict[str, Any], limit: int) -> None:
    """Whatever is cut, the result is one valid line within the limit that says it was cut."""
    line = encode_line({**CORE, **{f"_{name}": value for name, value in fields.items()}})

    short = fit(line, limit)

    assert len(short) <= limit
    assert short.count(b"\n") == 1
    assert short.endswith(b"\n")
    kept = json.loads(short)
    if len(line) > limit:
        assert kept.pop("truncated") is True
        assert {name: kept[name] for name in CORE} == CORE
        assert set(kept) <= set(json.loads(line))


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1100, max_size=4000), st.integers(1024, 1100))
def test_any_bytes_are_cut_to_a_valid_object_within_the_limit(line: bytes, limit: int) -> None:
    """Bytes that are no JSON are cut to a valid line all the same."""
    short = fit(line, limit)

    assert len(short) <= limit
    assert json.loads(short)["truncated"] is True
