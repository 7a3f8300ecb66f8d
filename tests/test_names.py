"""Segment names: what is ours, and what only looks like it."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsonl_handler._names import SegmentName

DAY = dt.date(2026, 11, 22)

OURS = [
    ("telemetry-2026-11-22-1a2b3c4d.jsonl", SegmentName("telemetry", DAY, "1a2b3c4d")),
    ("telemetry-2026-11-22-1a2b3c4d.1.jsonl", SegmentName("telemetry", DAY, "1a2b3c4d", 1)),
    ("telemetry-2026-11-22-1a2b3c4d.10.jsonl", SegmentName("telemetry", DAY, "1a2b3c4d", 10)),
    ("telemetry-2026-11-22-a.jsonl", SegmentName("telemetry", DAY, "a")),
    ("telemetry-2026-11-22-7.999999999.jsonl", SegmentName("telemetry", DAY, "7", 999_999_999)),
    ("telemetry-2026-11-22-1a2b3c4d.jsonl.gz", SegmentName("telemetry", DAY, "1a2b3c4d", 0, ".gz")),
    ("telemetry-2026-11-22-1a2b3c4d.2.jsonl.zst", SegmentName("telemetry", DAY, "1a2b3c4d", 2, ".zst")),
    ("telemetry-2024-02-29-1a2b3c4d.jsonl", SegmentName("telemetry", dt.date(2024, 2, 29), "1a2b3c4d")),
    ("a.b_c-d-2026-11-22-x.jsonl", SegmentName("a.b_c-d", DAY, "x")),
    ("x-2026-11-22-2026-11-22-y.jsonl", SegmentName("x-2026-11-22", DAY, "y")),
]

LOOK_ALIKES = [
    "",
    "telemetry",
    "telemetry.jsonl",
    "telemetry-2026-11-22.jsonl",
    "telemetry-2026-11-22-.jsonl",
    "telemetry-2026-11-22-1a2b3c4d",
    "telemetry-2026-11-22-1a2b3c4d.json",
    "telemetry-2026-11-22-1a2b3c4d.jsonl.bak",
    "telemetry-2026-11-22-1a2b3c4d.jsonl~",
    "telemetry-2026-11-22-1a2b3c4d.jsonl\n",
    "telemetry-2026-11-22-1a2b3c4d.jsonl.gz.tmp",
    "telemetry-2026-11-22-1a2b3c4d.jsonl.gz.gz",
    "telemetry-2026-11-22-1a2b3c4d.jsonl.gz.zst",
    "telemetry-2026-11-22-1a2b3c4d.jsonl.GZ",
    "telemetry-2026-11-22-1a2b3c4d.jsonl.gzip",
    "telemetry-2026-11-22-1a2b3c4d.jsonl.zstd",
    "telemetry-2026-11-22-1a2b3c4d.jsonl.bz2",
    "telemetry-2026-11-22-1a2b3c4d.jsonl.",
    "telemetry-2026-11-22-1a2b3c4d.jsonlgz",
    "telemetry-2026-11-22-1a2b3c4d.gz",
    "telemetry-2026-11-22-1a2b3c4d.01.jsonl.gz",
    ".telemetry-2026-11-22-1a2b3c4d.jsonl.gz.0a1b2c3d.new",
    ".telemetry-2026-11-22-1a2b3c4d.jsonl",
    "copy of telemetry-2026-11-22-1a2b3c4d.jsonl",
    "telemetry-2026-11-22-1a2b3c4d (1).jsonl",
    "telemetry-2026-11-22-1a2b3c4d.0.jsonl",
    "telemetry-2026-11-22-1a2b3c4d.01.jsonl",
    "telemetry-2026-11-22-1a2b3c4d.-1.jsonl",
    "telemetry-2026-11-22-1a2b3c4d..jsonl",
    "telemetry-2026-11-22-1a2b3c4d.1.2.jsonl",
    "telemetry-2026-11-22-1a2b3c4d.1000000000.jsonl",
    "telemetry-2026-11-22-1a2b3c4d.\u0661.jsonl",
    "telemetry-2026-11-22-1A2B3C4D.jsonl",
    "telemetry-2026-11-22-1a2b3c4d5.jsonl",
    "telemetry-2026-11-22-1a2b_c4d.jsonl",
    "telemetry-2026-11-22-\u00e9.jsonl",
    "telemetry-2026-02-30-1a2b3c4d.jsonl",
    "telemetry-2026-13-01-1a2b3c4d.jsonl",
    "telemetry-0000-01-01-1a2b3c4d.jsonl",
    "telemetry-20261122-1a2b3c4d.jsonl",
    "telemetry-2026-11-2-1a2b3c4d.jsonl",
    "telemetry-\u0662026-11-22-1a2b3c4d.jsonl",
    "telemetry_2026-11-22-1a2b3c4d.jsonl",
    "Telemetry-2026-11-22-1a2b3c4d.jsonl",
    "telemetry2-2026-11-22-1a2b3c4d.jsonl",
    "telemetry-web-2026-11-22-1a2b3c4d.jsonl",
    "tele-2026-11-22-1a2b3c4d.jsonl",
    "telemetry-2026-11-22-1a2b3c4d.JSONL",
    "telemetry-2026-11-22-1a2b3c4d.jsonl/",
    "sub/telemetry-2026-11-22-1a2b3c4d.jsonl",
    "web.config",
]


@pytest.mark.parametrize(("text", "name"), OURS, ids=[text for text, _ in OURS])
def test_a_name_of_ours_is_read_back(text: str, name: SegmentName) -> None:
    """A file that the package named is recognised again, and its name is spelled the same."""
    assert SegmentName.parse(text, name.prefix) == name
    assert str(name) == text


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_a_look_alike_is_not_ours(text: str) -> None:
    """A file whose name this package would not write with this prefix is never taken for its own."""
    assert SegmentName.parse(text, "telemetry") is None


def test_a_prefix_is_text_and_no_pattern() -> None:
    """A dot in a prefix stands for itself, so that a neighbour's files are not taken for ours."""
    assert SegmentName.parse("axb-2026-11-22-1.jsonl", "a.b") is None
    assert SegmentName.parse("a.b-2026-11-22-1.jsonl", "a.b") is not None


NAMES = st.builds(
    SegmentName,
    st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True),
    st.dates(),
    st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True),
    st.integers(0, 999_999_999),
    st.sampled_from(["", ".gz", ".zst"]),
)


@given(NAMES)
def test_what_is_written_can_be_read(name: SegmentName) -> None:
    """Every name that the package can write is read back as the same name."""
    assert SegmentName.parse(str(name), name.prefix) == name


@given(NAMES, st.data())
def test_what_is_read_would_be_written_alike(name: SegmentName, data: st.DataObject) -> None:
    """Whatever is recognised is spelled exactly as the package spells it."""
    text = list(str(name))
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from("0123456789-.jsonlgzt\u0661A\n_ "))
    changed = "".join(text)
    parsed = SegmentName.parse(changed, name.prefix)
    assert parsed is None or str(parsed) == changed


def test_names_of_one_session_sort_in_the_order_they_were_begun() -> None:
    """Segments of a session sort by date and then by number, not by spelling."""
    first = SegmentName("t", DAY, "a")
    second = first.next()
    tenth = SegmentName("t", DAY, "a", 10)
    next_day = SegmentName("t", DAY + dt.timedelta(days=1), "a")
    packed = second.with_suffix(".gz")
    assert sorted([next_day, tenth, packed, second, first]) == [first, second, packed, tenth, next_day]


def test_what_follows_a_compressed_segment_is_not_compressed() -> None:
    """The next number begins as a plain file."""
    assert str(SegmentName("t", DAY, "a", 1, ".gz").next()) == "t-2026-11-22-a.2.jsonl"
