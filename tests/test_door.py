from __future__ import annotations

import json
import logging
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from conftest import messages_of, respelt
from conftest import record as make_record
from hypothesis import given
from hypothesis import strategies as st

from jsonl_handler import JsonlFormatter, _common
from jsonl_handler._buffer import RecordBuffer
from jsonl_handler._door import Door
from jsonl_handler._lineage import Lineage
from jsonl_handler.settings import Settings


class Taken(RecordBuffer):
    """A buffer that keeps what it is given, as it is given."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.calls: list[tuple[bytes, int, float]] = []
        self.lost: list[str] = []

    def append(self, line: bytes, level: int, created: float) -> bool:
        self.calls.append((line, level, created))
        return False

    def lose(self, reason: str) -> None:
        self.lost.append(reason)


class Owner:
    """Whoever a session belongs to."""


OWNER = Owner()


def a_door(taken: Taken, formatter: logging.Formatter | None = None) -> Door:
    door = Door(taken, lambda record: None, lambda: None)
    door.lineage = Lineage("1a2b3c4d", 0, weakref.ref(OWNER))
    door.use(formatter)
    return door


def numbers(taken: Taken) -> list[int]:
    return [json.loads(line)["seq"] for line, _, _ in taken.calls]


@pytest.fixture
def compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shape has its short way from the first record on, made for the types of that one."""
    monkeypatch.setattr(_common, "_OFTEN", 1)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.binary(), st.dates()
)


@given(data=st.data(), names=st.lists(st.sampled_from("abcdef"), unique=True, max_size=4))
def test_a_record_makes_the_same_line_whatever_came_before_it(data: st.DataObject, names: list[str]) -> None:
    """The values of one record have no influence on how the next one of the same names is written."""
    taken, general = Taken(), JsonlFormatter()
    with pytest.MonkeyPatch.context() as often:
        often.setattr(_common, "_OFTEN", 1)
        door = a_door(taken)
        records = [make_record("x", **{name: data.draw(VALUES) for name in names}) for _ in range(4)]

        for record in records:
            door.way.go(record)

    assert door.way.go.__name__ == "short"
    # The spelling of a number may depend on what stands beside it.
    assert [respelt(line) for line, _, _ in taken.calls] == [
        respelt(general.encode(record, "1a2b3c4d", seq)) for seq, record in enumerate(records)
    ]
    assert [call[1:] for call in taken.calls] == [(record.levelno, record.created) for record in records]


@pytest.mark.parametrize("value", ["\ud800", 2**70, float("nan"), object()])
def test_a_record_that_takes_the_general_way_late_keeps_its_number(value: Any, compiled_at_once: None) -> None:
    """Numbers have no gap where a value needed more care than could be seen before."""
    taken = Taken()
    door = a_door(taken)

    for each in (1, value, "x", value):
        door.way.go(make_record("x", a=each))

    assert numbers(taken) == [0, 1, 2, 3]
    assert taken.lost == []


def test_a_session_that_closes_meanwhile_keeps_a_number_it_gave(compiled_at_once: None) -> None:
    """A record that has its number is written by the session that gave it."""
    taken = Taken()
    door = a_door(taken)
    lineage = door.lineage
    assert lineage is not None
    number = lineage.next_seq

    def give_and_close() -> int:
        door.lineage = None
        return number()

    door.way.go(make_record("x", a="plain"))
    lineage.next_seq = give_and_close
    door.way.go(make_record("x", a="\ud800"))

    assert numbers(taken) == [0, 1]
    assert taken.lost == []


@pytest.mark.parametrize(
    ("name", "value"), [("levelno", "20"), ("levelno", None), ("created", "now"), ("created", 5), ("created", None)]
)
def test_a_filter_may_spoil_what_every_record_has(name: str, value: Any, compiled_at_once: None) -> None:
    """A level that is no number, or a time that is none, loses no record."""
    taken = Taken()
    door = a_door(taken)
    spoilt = make_record("spoilt")
    setattr(spoilt, name, value)

    for record in (make_record("first"), spoilt, make_record("last")):
        door.way.go(record)

    assert numbers(taken) == [0, 1, 2]


@pytest.mark.parametrize("formatter", [None, JsonlFormatter()])
def test_a_long_line_is_cut_on_the_short_way_too(formatter: logging.Formatter | None, compiled_at_once: None) -> None:
    """`max_record_bytes` holds for each record, and a change of it for the next."""
    taken = Taken(Settings(max_record_bytes=2000))
    door = a_door(taken, formatter)

    for most in (2000, 1024):
        door.most = most
        door.way.go(make_record("x" * 5000))

    assert [len(line) <= most for (line, _, _), most in zip(taken.calls, (2000, 1024), strict=True)] == [True, True]
    assert all(json.loads(line)["truncated"] for line, _, _ in taken.calls)


def test_a_buffer_that_fails_is_told(compiled_at_once: None) -> None:
    """What can't be kept is counted, and raises nothing."""

    class Full(Taken):
        def append(self, line: bytes, level: int, created: float) -> bool:
            raise MemoryError

    taken = Full()
    door = a_door(taken)

    for _ in range(3):
        door.way.go(make_record("x"))

    assert taken.lost == ["a record could not be encoded (MemoryError)"] * 3


def test_a_closed_session_is_asked_for_anew(compiled_at_once: None) -> None:
    """A record that comes while no session is open goes to whoever opens one."""
    asked: list[logging.LogRecord] = []
    taken = Taken()
    door = Door(taken, lambda record: asked.append(record), lambda: None)
    door.lineage = Lineage("1a2b3c4d", 0, weakref.ref(OWNER))
    first, second = make_record("first"), make_record("second")

    door.way.go(first)
    door.lineage = None
    door.way.go(second)

    assert asked == [second]
    assert numbers(taken) == [0]


def test_options_count_from_the_next_record_on(compiled_at_once: None) -> None:
    """A formatter whose options are changed while it is in use writes as they say."""
    taken, formatter = Taken(), JsonlFormatter()
    door = a_door(taken, formatter)
    changes: list[dict[str, Any]] = [{}, {"app": "shop"}, {}]

    for change in changes:
        formatter.static_fields.clear()
        formatter.static_fields.update(change)
        for _ in range(2):
            door.way.go(make_record("x"))

    apps = [json.loads(line).get("app") for line, _, _ in taken.calls]
    assert apps == [None, None, "shop", "shop", None, None]
    assert numbers(taken) == [*range(6)]


@pytest.mark.parametrize("replaced", ["before the first record", "later"])
def test_a_replaced_get_message_is_asked(
    replaced: str, compiled_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever replaces `LogRecord.getMessage`, to blacken secrets say, is heard for every record from then on."""
    taken = Taken()
    door = a_door(taken)
    if replaced == "later":
        door.way.go(make_record("secret"))

    monkeypatch.setattr(logging.LogRecord, "getMessage", lambda record: "***")
    for _ in range(3):
        door.way.go(make_record("secret"))
    monkeypatch.undo()
    door.way.go(make_record("open"))

    messages = [json.loads(line)["message"] for line, _, _ in taken.calls]
    assert messages == ["secret"] * (replaced == "later") + ["***"] * 3 + ["open"]


def test_a_get_message_replaced_before_the_import_is_asked(tmp_path: Path) -> None:
    """It need not be the standard library's when this package comes."""
    program = f"""
import logging
logging.LogRecord.getMessage = lambda record: "***"
import jsonl_handler
handler = jsonl_handler.JsonlHandler({str(tmp_path)!r})
log = logging.getLogger("app")
log.addHandler(handler)
for _ in range(200):
    log.warning("secret")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert messages_of(tmp_path) == ["***"] * 200


def test_a_record_is_taken_once_whatever_who_takes_it_raises(compiled_at_once: None) -> None:
    """What is raised after a record was taken does not have it taken again."""
    taken = Taken()
    door = a_door(taken)
    door.way.go(make_record("first", a=1))
    first = door.way.go
    door.way.go(make_record("second", b=1))
    second = door.way.go

    def take_and_raise(*arguments: Any) -> None:
        second(arguments[0])
        raise TimeoutError

    first.__globals__["other"] = take_and_raise
    with pytest.raises(TimeoutError):
        first(make_record("third", b=2))

    assert numbers(taken) == [0, 1, 2]


def test_where_no_code_can_be_compiled_records_go_the_general_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that forbids `exec` loses nothing, and hears of no error."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("no exec")

    monkeypatch.setattr(_common, "compiled", refuse)
    taken = Taken()
    door = a_door(taken)

    for number in range(3 * _common._OFTEN):
        door.way.go(make_record("x", a=number))

    assert numbers(taken) == [*range(3 * _common._OFTEN)]
    assert taken.lost == []


def test_a_time_outside_of_the_calendar_is_null_both_ways(
    compiled_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without orjson too, what has no timestamp says null."""
    monkeypatch.setattr("jsonl_handler._encoding.NATIVE_DUMPS", None)
    taken = Taken()
    door = a_door(taken)

    for _ in range(3):
        door.way.go(make_record("x", created=1e15))

    assert [json.loads(line)["timestamp"] for line, _, _ in taken.calls] == [None] * 3
