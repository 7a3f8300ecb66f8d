from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import logging
import math
import pathlib
import uuid
from typing import Any

import pytest
from conftest import respelt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jsonl_handler import _common, _encoding
from jsonl_handler._common import ShortWay
from jsonl_handler._encoding import Encoder, choose_encoder
from jsonl_handler._lines import encode_event, way_of
from jsonl_handler._values import timestamp_text
from jsonl_handler.formatter import RESERVED, JsonlFormatter

orjson = pytest.importorskip("orjson")

NATIVE, STDLIB = choose_encoder("orjson"), choose_encoder("json")


class Raises:
    """Everything one can ask of it raises."""

    def __str__(self) -> str:
        raise ValueError("no text")

    def __eq__(self, other: object) -> bool:
        raise ValueError("no equality")

    def __hash__(self) -> int:
        return 7

    def __bool__(self) -> bool:
        raise ValueError("no truth")

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise ValueError("no class")

    __repr__ = __str__
    __iter__ = __len__ = __int__ = __float__ = __bool__  # type: ignore[assignment]


class Same:
    def __str__(self) -> str:
        return "5"


class WithoutValue(enum.Enum):
    A = 1

    @property
    def value(self) -> Any:  # type: ignore[override]
        raise ValueError("no value")


class Holder(enum.Enum):
    LIST = [1, {2: float("nan")}]  # noqa: RUF012


class Word(str):
    pass


class Odd(dict[Any, Any]):
    items = keys = values = __iter__ = None  # type: ignore[assignment]


@dataclasses.dataclass
class Half:
    good: Any
    bad: Any = None


Half.bad = property(lambda self: 1 / 0, lambda self, value: None)  # type: ignore[assignment]


class Recursive:
    def __str__(self) -> str:
        return str(self)


def nested(levels: int, kind: int) -> Any:
    value: Any = Same()
    for level in range(levels):
        wraps: list[Any] = [[value], (value,), {"k": value}, collections.deque([value])]
        value = wraps[kind if kind < 4 else level % 4]
    return value


def cycle() -> Any:
    loop: list[Any] = [1]
    loop.append({"again": (loop, loop)})
    return loop


# Chosen by number: hypothesis would print them, and that is what they are bad at.
NASTY: list[Any] = [
    2**63,
    2**64,
    -(2**63) - 1,
    2**70,
    10**4299,
    10**5000,
    -(10**6000),
    Raises(),
    Same(),
    Recursive(),
    WithoutValue.A,
    Holder.LIST,
    Word("5"),
    Odd(a={1: 2}),
    Half(1),
    Raises,
    KeyError("x", {1}),
    ExceptionGroup("g", [ValueError()]),
    pathlib.PurePosixPath("/\udc80"),
    decimal.Decimal("sNaN"),
    memoryview(b"abc"),
    object.__new__(uuid.UUID),
    orjson.Fragment(b"not json\n\0"),
    logging.getLogger("x"),
    json,
    ...,
    range(5),
    (number for number in ()),
    {1: 2, "1": 3}.items(),
    cycle(),
]
NASTY_KEYS: list[Any] = [5, Same(), Word("x"), WithoutValue.A, Recursive(), datetime.date.min]


def nasty(number: int) -> Any:
    return NASTY[number]


def nasty_key(number: int) -> Any:
    return NASTY_KEYS[number]


texts = st.text(st.characters(exclude_categories=()), max_size=10)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    texts,
    st.binary(max_size=10),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(),
    st.integers(0, len(NASTY) - 1).map(nasty),
    st.builds(nested, st.integers(1, 600), st.integers(0, 4)),
)
keys = st.one_of(
    texts,
    st.sampled_from(["timestamp", "level", "logger", "message", "session", "seq", "exception", "5", "null", "a"]),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=5),
    st.tuples(st.integers()),
    st.integers(0, len(NASTY_KEYS) - 1).map(nasty_key),
    st.builds(Same),
    st.builds(Raises),
)
hashable = st.none() | st.integers() | texts | st.floats() | st.tuples(texts)


def pairs(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[Any, Any]]:
    # Keys that can't be compared must not meet in one bucket: each goes in by itself.
    return st.lists(st.tuples(keys, inner), max_size=5).map(as_dict)


def as_dict(items: list[tuple[Any, Any]]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key, value in items:
        try:
            made[key] = value
        except ValueError:
            made["unequal"] = value
    return made


anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(collections.deque),
        st.sets(hashable, max_size=3),
        pairs(inner),
        pairs(inner).map(collections.OrderedDict),
        pairs(inner).map(collections.UserDict),
        st.builds(Half, inner),
    ),
    max_leaves=12,
)
extras = st.dictionaries(
    texts | st.sampled_from(["level", "level_", "session", "seq", "exception", "timestamp", "message_error", "x"]),
    anything,
    max_size=4,
)
many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in items]
    assert len(set(names)) == len(names), f"a name appears twice: {names}"
    return dict(items)


def strict(line: bytes) -> str:
    """The canonical text of a line, which must be one valid JSON object."""
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert b"\0" not in line
    fields = json.loads(line.decode(), parse_constant=refuse, object_pairs_hook=unique)
    assert isinstance(fields, dict)
    canonical = json.dumps(fields, sort_keys=True, ensure_ascii=False)
    canonical.encode()  # no lone surrogate, not even escaped
    return canonical


def written(record: logging.LogRecord, encoder: Encoder) -> str:
    formatter = JsonlFormatter()
    formatter._encoder = encoder
    line = formatter.encode(record, "1a2b3c4d", 17)
    assert '"session": "1a2b3c4d"' in strict(line)
    return strict(line)


def make(msg: Any, args: Any, extra: dict[Any, Any]) -> logging.LogRecord:
    record = logging.LogRecord("app", logging.INFO, "", 0, msg, None, None)
    record.args = args
    record.__dict__.update({name: value for name, value in extra.items() if name not in record.__dict__})
    return record


@many
@given(extras)
def test_any_extra_is_one_valid_line(extra: dict[str, Any]) -> None:
    """Any value in `extra` gives one strict JSON line, of the same value from both encoders."""
    record = make("hello", (), extra)

    line = written(record, NATIVE)

    assert line == written(record, STDLIB)
    assert "formatter_error" not in line


@many
@given(anything)
def test_any_message_is_one_valid_line(msg: Any) -> None:
    """Any value as the message, a dict of anything included, gives one strict JSON line."""
    record = make(msg, (), {"level": 1})

    assert written(record, NATIVE) == written(record, STDLIB)


@many
@given(
    st.sampled_from(["%s", "%d %s", "none", "%(a)s", "%r %x"]),
    st.lists(anything, max_size=3).map(tuple) | anything,
)
def test_any_arguments_are_one_valid_line(msg: str, args: Any) -> None:
    """Any arguments, fitting or not, give one strict JSON line."""
    record = make(msg, args, {})

    assert written(record, NATIVE) == written(record, STDLIB)


@many
@given(pairs(anything))
def test_any_event_is_one_valid_line(event: dict[Any, Any]) -> None:
    """Any mapping written as an event gives one strict JSON line."""
    assert '"seq": 17' in strict(encode_event(event, logging.INFO, 0.0, "1a2b3c4d", 17))


class Identity(JsonlFormatter):
    """Overrides a step, so that the quick way is not taken."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return log_data


@many
@given(anything, st.sampled_from([(), (5,), ("a", {1: 2})]), extras, st.booleans())
def test_the_quick_way_and_the_long_way_write_the_same(
    msg: Any, args: Any, extra: dict[str, Any], raised: bool
) -> None:
    """A subclass that changes nothing writes the very bytes of the default formatter."""
    record = make(msg, args, extra)
    if raised:
        record.exc_info = (ValueError, ValueError("bad"), None)
        record.stack_info = "stack"

    assert Identity().encode(record, "s", 1) == JsonlFormatter().encode(record, "s", 1)
    assert Identity().encode(record) == JsonlFormatter().encode(record)


@pytest.mark.parametrize("value", [{1: "a", "1": "b"}, [{None: 1, "null": 2}], ({float("nan"): 1},), {"": {True: 1}}])
def test_keys_are_the_same_from_both_encoders(value: Any) -> None:
    """Keys that are no text get one name, and two keys never share it, with either encoder."""
    record = make("x", (), {"value": value})

    assert written(record, NATIVE) == written(record, STDLIB)


def test_a_name_given_twice_is_the_same_both_ways() -> None:
    """An entry of a dict message, an extra and a core field of one name are kept alike in both ways."""
    record = make({"a": 1, "a_": 2, "level": 3}, (), {"a": 4, "level": 5})

    line = JsonlFormatter().encode(record)

    assert Identity().encode(record) == line
    assert {1, 2, 3, 4, 5} <= set(json.loads(line).values())


def test_what_crashes_the_quick_encoder_never_reaches_it() -> None:
    """Tuples nested a million deep, unfinished UUIDs and odd enums are written without harm."""
    deep: Any = ()
    for _ in range(1_000_000):
        deep = (deep,)
    record = make("x", (), {"deep": deep, "uuid": object.__new__(uuid.UUID), "enum": WithoutValue.A})

    assert written(record, NATIVE) == written(record, STDLIB)


def test_a_deep_line_can_be_read_back() -> None:
    """The deepest line that is written can be read with the usual recursion limit."""
    for levels in (90, 99, 101, 250, 260, 299, 301, 1000):
        record = make("x", (), {"deep": nested(levels, 2)})

        assert written(record, NATIVE) == written(record, STDLIB)


@st.composite
def common_records(draw: st.DrawFn) -> logging.LogRecord:
    """Records as most programs make them, and what comes near to that."""
    plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), anything)
    names = st.sampled_from(["a", "timestamp", "level", "logger", "session", "seq", "exception", "taskName", "\ud800"])
    extra = draw(st.dictionaries(st.one_of(names, st.text(), st.integers()), plain, max_size=6))
    record = make(draw(st.one_of(st.text(), anything)), draw(st.sampled_from([(), (5,), ("a", 2)])), extra)
    if draw(st.booleans()):
        # As a console handler in front leaves it.
        record.message, record.asctime = "left", "now"
    attributes = record.__dict__
    for name in draw(st.sets(st.sampled_from([*attributes]), max_size=2)):
        # A filter removes one, gives it another place, or another value.
        kept = attributes.pop(name)
        how = draw(st.integers(0, 2))
        if how:
            attributes[name] = kept if how == 1 else draw(plain)
    return record


@pytest.fixture
def compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first record of a shape goes the short way already."""
    monkeypatch.setattr(_common, "_OFTEN", 1)


@pytest.mark.usefixtures("compiled_at_once")
@settings(many, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(common_records())
def test_the_short_way_and_the_general_way_write_the_same(record: logging.LogRecord) -> None:
    """The line of a record does not depend on which way it went."""
    line = way_of(None).go(record, "1a2b3c4d", 17)

    # Both are spelt by one encoder, for that of a number may depend on what stands beside it.
    assert respelt(line) == respelt(JsonlFormatter().encode(record, "1a2b3c4d", 17))
    with pytest.MonkeyPatch.context() as without_orjson:
        without_orjson.setattr(_encoding, "NATIVE_DUMPS", None)
        line = way_of(None).go(record, "1a2b3c4d", 17)
    assert strict(line) == written(record, STDLIB)


@pytest.mark.usefixtures("compiled_at_once")
def test_a_small_number_beside_a_date_is_the_same_both_ways() -> None:
    """An encoder's way to spell a number changes no value."""
    record = make("x", (), {"a": 5.960464477539063e-08, "b": datetime.date(2000, 1, 1)})

    assert respelt(way_of(None).go(record, "s", 1)) == respelt(JsonlFormatter().encode(record, "s", 1))


@pytest.mark.parametrize("encoder", ["orjson", "json"])
@pytest.mark.parametrize(
    "extra", [{}, {"a": 1, "b": 'x"\\\n{}%é', "c": 1.5, "d": None, "it's {": -0.0, "e": [True, {"f": (2,)}]}]
)
def test_what_most_programs_log_goes_the_short_way(
    extra: dict[str, Any], encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text, arguments, plain extras, and what a console handler in front leaves: all of that is common."""
    if encoder == "json":
        monkeypatch.setattr(_encoding, "NATIVE_DUMPS", None)
        monkeypatch.setattr(_encoding, "ORJSON_ENCODER", None)
    general = JsonlFormatter().encode
    asked: list[logging.LogRecord] = []

    def ask(record: logging.LogRecord, session: str | None, seq: int | None) -> bytes:
        asked.append(record)
        return general(record, session, seq)

    way = ShortWay(ask, RESERVED)
    for number in range(200):
        fresh = make("%s of %d", ("one", number), dict(extra))
        if number % 2:
            logging.Formatter("%(asctime)s %(message)s").format(fresh)
        assert way.go(fresh, "1a2b3c4d", number) == general(fresh, "1a2b3c4d", number)
    # Until each of the two shapes has come often.
    assert len(asked) == 2 * (_common._OFTEN - 1)


def test_shapes_without_end_are_not_all_kept() -> None:
    """Programs whose extras have ever new names don't fill the memory with what is kept of each."""
    way = ShortWay(JsonlFormatter().encode, RESERVED)
    for number in range(_common._MOST_SEEN + 10):
        way.go(make("x", (), {f"a{number}": 1}), "s", number)
    assert len(way._seen) <= _common._MOST_SEEN
    for number in range(_common._MOST_COMPILED + 10):
        for seq in range(_common._OFTEN):
            assert json.loads(way.go(make("x", (), {f"b{number}": seq}), "s", seq))[f"b{number}"] == seq
    assert len(way._compiled) == _common._MOST_COMPILED
    way.go(make("x", (), {"c" * (_common._LONGEST_NAME + 1): 1}), "s", 0)
    assert not any(len(name) > _common._LONGEST_NAME for names in way._seen for name in names)


def test_options_that_change_later_are_seen(compiled_at_once: None) -> None:
    """A formatter whose options are changed while it is in use writes as they say from then on."""
    formatter = JsonlFormatter()
    way = way_of(formatter)
    for change in (
        lambda: formatter.static_fields.update(a=1),
        lambda: formatter.static_fields.clear(),
        lambda: setattr(formatter, "timestamp", False),
        lambda: setattr(formatter, "timestamp", True),
        lambda: formatter.reserved_attrs.add("user"),
        lambda: formatter.rename_fields.update(level="severity"),
    ):
        change()
        fresh = make("x", (), {"user": "alice"})
        assert way.go(fresh, "s", 1) == formatter.encode(fresh, "s", 1)
    assert b"alice" not in way.go(fresh, "s", 1)


@many
@given(st.floats(0, 253402300799, allow_nan=False), st.lists(st.integers(-3_000_000, 3_000_000), max_size=5))
def test_a_timestamp_does_not_depend_on_the_one_before(created: float, shifts: list[int]) -> None:
    """The text of a moment is that of the nearest microsecond, whatever was written before it."""
    for shift in (*shifts, 0):
        moment = created + shift / 1e6
        if 0 <= moment < 253402300799:
            written_text = timestamp_text(moment)
            whole = math.floor(moment)
            micros = math.floor((moment - whole + 1) * 1e6 + 0.5) - 1_000_000
            told = datetime.datetime.fromtimestamp(whole, datetime.UTC) + datetime.timedelta(microseconds=micros)
            assert written_text == told.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
