from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import sys
import types
import unittest.mock
import uuid
from typing import Any, NamedTuple

import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from jsonl_handler import _values
from jsonl_handler._values import CYCLE, MAX_DEPTH, TOO_DEEP, TOO_MANY, plain, timestamp_text


class Colour(enum.Enum):
    RED = "red"
    WHEN = datetime.date(2026, 11, 22)


class Size(enum.IntEnum):
    BIG = 7


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Order:
    number: int
    items: list[Any] = dataclasses.field(default_factory=list)


class Text(str):
    def __str__(self) -> str:
        return "a subclass may say anything"


class Number(int):
    def __repr__(self) -> str:
        return "NaN"


class Ratio(float):
    def __repr__(self) -> str:
        return "NaN"


class Table(dict[Any, Any]):
    def items(self) -> Any:
        raise ValueError("no items")


class Row(list[Any]):
    def __iter__(self) -> Any:
        raise ValueError("no items")


class Model:
    def model_dump(self) -> dict[str, Any]:
        return {"id": 5, "when": datetime.date(2026, 11, 22)}


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")


class WronglyPrintable:
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307


class Liar:
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        return dict

    def __str__(self) -> str:
        return "not a dict"


class Silent:
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise ValueError("no class")

    def __str__(self) -> str:
        return "silent"


class Unequal:
    def __eq__(self, other: object) -> bool:
        raise ValueError("no equality")

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return "unequal"


HERE = f"{__name__}."

FORMS: list[tuple[object, object]] = [
    (None, None),
    (True, True),
    (5, 5),
    (2**70, 2**70),
    (-(2**70), -(2**70)),
    (10**5000, hex(10**5000)),
    (1.5, 1.5),
    (math.nan, None),
    (math.inf, None),
    (-math.inf, None),
    ("grün", "grün"),
    ("bad \udc80 text", "bad \\udc80 text"),
    ("\0", "\0"),
    (b"bytes \xff", "bytes \\xff"),
    (bytearray(b"abc"), "abc"),
    (memoryview(b"abcdef")[::2], "ace"),
    (datetime.datetime(2026, 11, 22, 6, 0, 0, 5, datetime.UTC), "2026-11-22T06:00:00.000005+00:00"),
    (datetime.datetime(2026, 11, 22, 6), "2026-11-22T06:00:00"),  # noqa: DTZ001
    (datetime.date(2026, 11, 22), "2026-11-22"),
    (datetime.time(6, 30), "06:30:00"),
    (datetime.timedelta(minutes=1, milliseconds=500), 60.5),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (decimal.Decimal("1.10"), "1.10"),
    (decimal.Decimal("NaN"), "NaN"),
    (pathlib.PurePosixPath("/a/b"), "/a/b"),
    (1 + 2j, "(1+2j)"),
    (range(3), "range(0, 3)"),
    (Colour.RED, "red"),
    (Colour.WHEN, "2026-11-22"),
    (Size.BIG, 7),
    ((1, (2,)), [1, [2]]),
    (Point(1, 2), [1, 2]),
    ({5}, [5]),
    (frozenset({5}), [5]),
    (collections.deque([1, 2]), [1, 2]),
    ({"a": 1}.keys(), ["a"]),
    ({"a": 1}.values(), [1]),
    ({"a": 1}.items(), [["a", 1]]),
    (collections.OrderedDict(a={1}), {"a": [1]}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (collections.ChainMap({"a": 1}), {"a": 1}),
    (Order(1, [{2}]), {"number": 1, "items": [[2]]}),
    (KeyError("name"), {"type": "KeyError", "message": "'name'"}),
    (
        json.JSONDecodeError("bad", "x", 0),
        {"type": "json.decoder.JSONDecodeError", "message": "bad: line 1 column 1 (char 0)"},
    ),
    (int, "int"),
    (Order, f"{HERE}Order"),
    (Text("text"), "text"),
    (Number(5), 5),
    (Ratio(1.5), 1.5),
    (Ratio("nan"), None),
    (Table(a=1), {"a": 1}),
    (Row([1, 2]), [1, 2]),
    (Model(), {"id": 5, "when": "2026-11-22"}),
    (Unprintable(), f"<{HERE}Unprintable: str() raised ValueError>"),
    (WronglyPrintable(), f"<{HERE}WronglyPrintable: str() raised TypeError>"),
    (Liar(), "not a dict"),
    (Silent(), "silent"),
    (Unequal(), "unequal"),
    ([], []),
    ({}, {}),
]


@pytest.mark.parametrize(("value", "form"), FORMS, ids=[f"{n}-{type(v).__name__}" for n, (v, _) in enumerate(FORMS)])
def test_every_kind_of_value_has_one_form(value: object, form: object) -> None:
    """A value that JSON lacks has one documented form, alone and inside a container."""
    alone, inside = plain(value), plain({"in": [value]})

    assert alone == form
    assert type(alone) is type(form)
    assert inside == {"in": [form]}


@pytest.mark.parametrize(
    ("mapping", "form"),
    [
        ({None: 1, True: 2, False: 3}, {"null": 1, "true": 2, "false": 3}),
        ({5: 1, 1.5: 2, 1e16: 3}, {"5": 1, "1.5": 2, "1e+16": 3}),
        ({math.nan: 1, 2**70: 2}, {"null": 1, str(2**70): 2}),
        ({(1, "a"): 1}, {"(1, 'a')": 1}),
        ({b"x": 1, Colour.RED: 2, Size.BIG: 3}, {"x": 1, "red": 2, "7": 3}),
        ({datetime.date(2026, 11, 22): 1}, {"2026-11-22": 1}),
        ({"\udc80": 1}, {"\\udc80": 1}),
        ({1: "number", "1": "text"}, {"1_": "number", "1": "text"}),
        ({"\udc80": 1, "\\udc80": 2, b"\x80": 3}, {"\\udc80_": 1, "\\udc80": 2, "\\x80": 3}),
        ({None: 1, "null": 2, "null_": 3, b"null": 4}, {"null__": 1, "null": 2, "null_": 3, "null___": 4}),
    ],
)
def test_a_key_becomes_text_and_none_is_lost(mapping: dict[Any, Any], form: dict[str, Any]) -> None:
    """Keys that are no text get a text; one whose text is taken steps aside with an underscore."""
    assert plain(mapping) == form


def test_a_thousand_keys_with_one_text_are_all_kept() -> None:
    """Objects that all print alike are all kept as keys, under names of moderate length."""

    class Same:
        def __str__(self) -> str:
            return "same"

    form = plain({Same(): number for number in range(1000)})

    assert isinstance(form, dict)
    assert sorted(form.values()) == list(range(1000))
    assert max(map(len, form)) < 20


def test_a_cycle_ends_with_a_word_that_says_so() -> None:
    """A container inside itself is written once; one that only appears twice is written twice."""
    loop: list[Any] = [1]
    loop.append({"again": loop})
    shared = [5]

    assert plain(loop) == [1, {"again": CYCLE}]
    assert plain([shared, shared]) == [[5], [5]]


def test_nesting_without_end_is_cut_where_json_can_still_read_it() -> None:
    """2,000 levels are cut to a depth that json.loads reads under the usual recursion limit."""
    deep: Any = "bottom"
    for _ in range(2000):
        deep = [deep]

    form = plain(deep)
    levels = 0
    while isinstance(form, list):
        form, levels = form[0], levels + 1

    assert (levels, form) == (MAX_DEPTH, TOO_DEEP)
    assert json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


def test_objects_that_make_ever_new_objects_end() -> None:
    """An object whose form is again such an object becomes a text instead of an endless line."""

    class Endless:
        def model_dump(self) -> Endless:
            return Endless()

        def __str__(self) -> str:
            return "endless"

    class Fresh(enum.Enum):
        A = 1

        @property
        def value(self) -> Fresh:  # type: ignore[override]
            return self

    assert plain(Endless()) == "endless"
    assert plain(Fresh.A) == "Fresh.A"


def test_containers_that_multiply_each_other_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty lists that hold the next one twice stand for 2**40 values; the line stays finite."""
    monkeypatch.setattr(_values, "MAX_VALUES", 1000)
    tower: Any = "x"
    for _ in range(40):
        tower = [tower, tower]

    encoded = json.dumps(plain(tower))

    assert TOO_MANY in encoded
    assert len(encoded) < 50_000


def test_a_dataclass_with_a_field_that_raises_keeps_the_others() -> None:
    """One unreadable field of a dataclass becomes a text that says so."""

    @dataclasses.dataclass
    class Half:
        good: int
        bad: int = 0

    def refuse(self: Half) -> int:
        raise KeyError("bad")

    half = Half(1)
    Half.bad = property(refuse, lambda self, value: None)  # type: ignore[assignment]

    assert plain(half) == {"good": 1, "bad": "<bad: reading it raised KeyError>"}


def test_a_mock_is_written_as_text() -> None:
    """A mock answers every question with yes, and is still written as what it prints."""
    mock = unittest.mock.MagicMock(name="service")

    assert plain(mock) == str(mock)


def test_an_unreadable_mapping_or_view_is_written_as_text() -> None:
    """A mapping whose items raise and a released memoryview fall back to their text."""

    class Broken(collections.UserDict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("gone")

        def __str__(self) -> str:
            return "broken"

    view = memoryview(b"x")
    view.release()

    assert plain(Broken()) == "broken"
    assert str(plain(view)).startswith("<released memory")


def test_a_class_without_a_readable_name_still_has_a_form() -> None:
    """A metaclass that hides the name of its classes makes no value fail."""

    class Meta(type):
        @property
        def __module__(cls) -> str:  # type: ignore[override]
            raise ValueError("hidden")

    hidden = Meta("Hidden", (Unprintable,), {})

    assert plain(hidden()) == "<<nameless>: str() raised ValueError>"
    assert plain(hidden) == "<nameless>"


def test_a_keyboard_interrupt_passes() -> None:
    """An interrupt that strikes while a value is read is not swallowed."""

    class Interrupted:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plain([Interrupted()])


def test_plain_changes_nothing_of_the_callers() -> None:
    """The caller's containers are read, never changed."""
    value = {"a": [{1: (2, {3})}], 5: b"x"}

    plain(value)

    assert value == {"a": [{1: (2, {3})}], 5: b"x"}


def test_numpy_is_recognised_without_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scalars and arrays of numpy become numbers and lists; numpy is only looked up, never imported."""
    assert "numpy" not in vars(_values)

    class Generic:
        def item(self) -> object:
            return 2.5

    class Array:
        def tolist(self) -> object:
            return [[1, 2], [3, 4]]

    monkeypatch.setitem(sys.modules, "numpy", types.SimpleNamespace(generic=Generic, ndarray=Array))  # type: ignore[arg-type]

    assert plain({"scalar": Generic(), "array": Array()}) == {"scalar": 2.5, "array": [[1, 2], [3, 4]]}


def test_real_numpy_values() -> None:
    """What numpy itself makes is written as plain numbers, lists and text."""
    numpy = pytest.importorskip("numpy")
    values = [
        numpy.int64(5),
        numpy.float32(0.5),
        numpy.bool_(True),
        numpy.float64("nan"),
        numpy.array([[1, 2]]),
    ]

    assert plain(values) == [5, 0.5, True, None, [[1, 2]]]


def test_real_pydantic_model() -> None:
    """A pydantic model is written as its fields."""
    pydantic = pytest.importorskip("pydantic")

    class User(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        name: str
        born: datetime.date

    assert plain(User(name="Ada", born=datetime.date(1815, 12, 10))) == {"name": "Ada", "born": "1815-12-10"}


@given(
    st.datetimes(
        datetime.datetime(1800, 1, 1),  # noqa: DTZ001
        datetime.datetime(9999, 12, 31),  # noqa: DTZ001
        timezones=st.just(datetime.UTC),
    ).map(datetime.datetime.timestamp)
    | st.floats(-1e6, 1e6)
)
def test_a_timestamp_is_the_moment_rounded_to_microseconds(created: float) -> None:
    """Every moment has six digits and is the one that datetime finds too."""
    expected = datetime.datetime.fromtimestamp(created, datetime.UTC)

    assert timestamp_text(created) == expected.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


@pytest.mark.parametrize(
    ("created", "written"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (0.9999999, "1970-01-01T00:00:01.000000Z"),
        (-0.0000001, "1970-01-01T00:00:00.000000Z"),
        (-1.5, "1969-12-31T23:59:58.500000Z"),
        (1795327200.123456, "2026-11-22T06:00:00.123456Z"),
        (math.nan, None),
        (math.inf, None),
        (1e300, None),
        (-1e15, None),
        (None, None),
        ("soon", None),
    ],
)
def test_a_timestamp_that_is_none_is_null(created: object, written: str | None) -> None:
    """Odd times carry over or are null; none makes a record fail."""
    assert timestamp_text(created) == written


def test_a_time_of_less_precision_spoils_no_other() -> None:
    """A time that is no float of Python's, which counts in steps of two minutes, leaves the next one alone."""
    numpy = pytest.importorskip("numpy")
    coarse = numpy.float32(1795327232.0)

    assert timestamp_text(coarse) == "2026-11-22T06:00:32.000000Z"
    assert timestamp_text(1795327231.0001) == "2026-11-22T06:00:31.000100Z"
    assert timestamp_text(1795327232.0001) == "2026-11-22T06:00:32.000100Z"


def test_frozen_time_changes_no_timestamp() -> None:
    """The text of a moment doesn't depend on what freezegun says is now."""
    with freeze_time("2001-01-01"):
        assert timestamp_text(1795327200.123456) == "2026-11-22T06:00:00.123456Z"
        assert plain(datetime.datetime.now(datetime.UTC)) == "2001-01-01T00:00:00+00:00"
