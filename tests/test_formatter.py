from __future__ import annotations

import copy
import json
import logging
import logging.config
import pickle
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from freezegun import freeze_time
from pythonjsonlogger.core import BaseJsonFormatter
from pythonjsonlogger.json import JsonFormatter

from jsonl_handler._encoding import ORJSON_ENCODER, STDLIB_ENCODER, checked_line, choose_encoder, encode_line
from jsonl_handler._lines import encode_event, way_of
from jsonl_handler.errors import ConfigError
from jsonl_handler.formatter import JsonlFormatter

CREATED = 1795327200.123456
STAMP = "2026-11-22T06:00:00.123456Z"


def make(msg: object = "hello %s", args: Any = ("world",), exc_info: Any = None, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord("app", logging.INFO, "/src/app.py", 5, msg, args, exc_info, "main")
    record.created = CREATED
    record.__dict__.update(extra)
    return record


def caught(error: BaseException) -> Any:
    try:
        raise error
    except BaseException:
        return sys.exc_info()


@pytest.fixture(params=["orjson", "json"])
def formatter(request: pytest.FixtureRequest) -> JsonlFormatter:
    """The default formatter with each encoder."""
    if request.param == "orjson":
        pytest.importorskip("orjson")
    made = JsonlFormatter()
    made._encoder = choose_encoder(request.param)
    return made


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


# The default line


def test_a_line_has_its_fields_in_one_order(formatter: JsonlFormatter) -> None:
    """The default line is timestamp, level, logger, message, session, seq, extras, exception, stack."""
    error = caught(ValueError("bad"))
    record = make(exc_info=error, path="/a", size=5)
    record.stack_info = "Stack (most recent call last):\n  here"

    line = formatter.encode(record, "1a2b3c4d", 17)

    assert line.endswith(b"}\n")
    assert list(json.loads(line).items()) == [
        ("timestamp", STAMP),
        ("level", "INFO"),
        ("logger", "app"),
        ("message", "hello world"),
        ("session", "1a2b3c4d"),
        ("seq", 17),
        ("path", "/a"),
        ("size", 5),
        (
            "exception",
            {
                "type": "ValueError",
                "message": "bad",
                "stacktrace": "".join(traceback.format_exception(*error)).rstrip("\n"),
            },
        ),
        ("stack_info", "Stack (most recent call last):\n  here"),
    ]


def test_the_bytes_of_a_line_are_compact_utf_8(formatter: JsonlFormatter) -> None:
    """Both encoders write the same compact bytes for everyday records."""
    line = formatter.encode(make("grün", (), n=1), "s", 0)

    assert (
        line
        == (
            f'{{"timestamp":"{STAMP}","level":"INFO","logger":"app","message":"grün","session":"s","seq":0,"n":1}}\n'
        ).encode()
    )


def test_absent_parts_are_left_out() -> None:
    """Without session, extras and exception the line has four fields; format() is it without newline."""
    record = make()

    assert json.loads(JsonlFormatter().encode(record)) == {
        "timestamp": STAMP,
        "level": "INFO",
        "logger": "app",
        "message": "hello world",
    }
    assert JsonlFormatter().format(record) + "\n" == JsonlFormatter().encode(record).decode()


def test_the_record_is_left_as_it_was() -> None:
    """Encoding sets nothing on the record, which other handlers will format too."""
    record = make({"a": [1]}, (), exc_info=caught(ValueError("x")), extra={"b": 2})
    before = copy.copy(record.__dict__)

    JsonlFormatter().encode(record, "s", 1)
    JsonlFormatter("%(asctime)s %(message)s", static_fields={"a": 1}).encode(record, "s", 1)

    assert record.__dict__ == before
    assert record.msg == {"a": [1]}


def test_a_later_change_does_not_show() -> None:
    """What was logged is what is in the line, whatever happens to the value afterwards."""
    value = {"a": [1]}
    line = JsonlFormatter().encode(make(value=value))

    value["a"].append(2)

    assert json.loads(line)["value"] == {"a": [1]}


@freeze_time("2030-01-01T00:00:00Z")
def test_frozen_time_is_the_records_time() -> None:
    """A record made in frozen time has that time, without rounding noise."""
    record = logging.LogRecord("app", 20, "", 0, "x", (), None)

    assert json.loads(JsonlFormatter().encode(record))["timestamp"] == "2030-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("created", [float("nan"), float("inf"), 1e300, None, "x"])
def test_an_impossible_time_is_null(formatter: JsonlFormatter, created: Any) -> None:
    """A record whose time is none keeps all else."""
    fields = json.loads(formatter.encode(make(created=created)))

    assert fields["timestamp"] is None
    assert fields["message"] == "hello world"
    assert "formatter_error" not in fields


# Extras


def test_extras_are_exact_whatever_filters_and_formatters_did() -> None:
    """Deleted standard attributes and ones that another formatter left change no extra."""
    record = make(mine=1, _private=2)
    logging.Formatter("%(asctime)s %(message)s").format(record)
    record.exc_text = None
    del record.threadName, record.args, record.pathname
    record.taskName = "task"

    fields = json.loads(JsonlFormatter().encode(record))

    assert set(fields) == {"timestamp", "level", "logger", "message", "mine", "_private"}
    assert fields["message"] == "hello %s"


def test_every_standard_attribute_may_be_gone() -> None:
    """A record with nothing left but an extra still makes a line."""
    record = make(mine=1)
    for name in set(record.__dict__) - {"mine"}:
        del record.__dict__[name]

    assert json.loads(JsonlFormatter().encode(record)) == {
        "timestamp": None,
        "level": None,
        "logger": None,
        "message": None,
        "mine": 1,
    }


def test_an_extra_with_a_core_name_steps_aside() -> None:
    """An extra that has the name of a core field is kept with an underscore, or as many as it takes."""
    names = ["timestamp", "level", "logger", "session", "seq", "exception"]
    record = make(**{name: f"my {name}" for name in names}, level_="taken", level__="taken too")

    fields = json.loads(JsonlFormatter().encode(record))

    assert fields["level"] == "INFO"
    assert {fields[f"{name}_"] for name in names if name != "level"} == {f"my {n}" for n in names if n != "level"}
    assert sorted(value for name, value in fields.items() if name.startswith("level_")) == [
        "my level",
        "taken",
        "taken too",
    ]
    assert "session" not in fields


def test_keys_that_are_no_text_become_text() -> None:
    """Extras under numbers and other keys are written under their text."""
    record = make()
    record.__dict__.update({5: "five", None: "none", (1,): "one"})

    fields = json.loads(JsonlFormatter().encode(record))

    assert (fields["5"], fields["null"], fields["(1,)"]) == ("five", "none", "one")


# Messages


def test_a_dict_message_becomes_fields(formatter: JsonlFormatter) -> None:
    """The entries of a dict message are fields; its `message` is the message; core names step aside."""
    logged = {"event": "start", "message": "hi", "level": 3, 5: "five"}

    fields = json.loads(formatter.encode(make(logged, (), event="extra"), "s", 1))

    assert fields == {
        "timestamp": STAMP,
        "level": "INFO",
        "logger": "app",
        "message": "hi",
        "session": "s",
        "seq": 1,
        "event": "start",
        "level_": 3,
        "5": "five",
        "event_": "extra",
    }
    assert logged == {"event": "start", "message": "hi", "level": 3, 5: "five"}


def test_a_dict_message_of_another_class_is_read_as_a_dict() -> None:
    """A subclass of dict whose methods fail is a dict message all the same."""

    class Odd(dict[str, Any]):
        items = __contains__ = __getitem__ = __iter__ = None  # type: ignore[assignment]

    fields = json.loads(JsonlFormatter().encode(make(Odd(a=1, message="hi"), ())))

    assert (fields["a"], fields["message"]) == (1, "hi")
    assert "formatter_error" not in fields


def test_a_dict_message_without_message_has_none() -> None:
    """Without the key `message` the field is absent, and arguments that came along are kept."""
    fields = json.loads(JsonlFormatter().encode(make({"a": 1}, (5, 6))))

    assert "message" not in fields
    assert (fields["a"], fields["args"]) == (1, [5, 6])


@pytest.mark.parametrize(
    ("msg", "args", "expected", "error"),
    [
        ("%d files", ("many",), ["many"], "TypeError: "),
        ("%s %s", ("one",), ["one"], "TypeError: not enough arguments for format string"),
        ("no place", (1, 2), [1, 2], "TypeError: not all arguments"),
        ("%(a)s", ({"b": 1},), [{"b": 1}], "KeyError: 'a'"),
        ("%q", (1,), [1], "ValueError: unsupported format character"),
    ],
)
def test_bad_arguments_make_a_line_that_says_so(
    formatter: JsonlFormatter, msg: str, args: Any, expected: Any, error: str
) -> None:
    """A message whose arguments don't fit is written raw, with the error and the arguments."""
    fields = json.loads(formatter.encode(make(msg, args, mine=1)))

    assert fields["message"] == msg
    assert fields["args"] == expected
    assert fields["message_error"].startswith(error)
    assert fields["mine"] == 1


def test_unprintable_arguments_and_messages_are_told() -> None:
    """An argument or message that can't be printed leaves a text in its place."""
    by_args = json.loads(JsonlFormatter().encode(make("%s", (Unprintable(),))))
    by_msg = json.loads(JsonlFormatter().encode(make(Unprintable(), ())))
    place = f"<{__name__}.Unprintable: str() raised ValueError>"

    assert (by_args["message"], by_args["args"]) == ("%s", [place])
    assert by_args["message_error"] == "ValueError: no text"
    assert by_msg["message"] == place


def test_an_object_as_message_is_its_text() -> None:
    """A message that is no text is printed, also by a record class with its own style of message."""

    class Braced(logging.LogRecord):
        def getMessage(self) -> str:
            return str(self.msg).format(*self.args or ())

    braced = Braced("app", 20, "", 0, "{} files", (5,), None)

    assert json.loads(JsonlFormatter().encode(make(5.0, ())))["message"] == "5.0"
    assert json.loads(JsonlFormatter().encode(braced))["message"] == "5 files"


# Exceptions


@pytest.mark.parametrize("exc_info", [None, False, (None, None, None), ()])
def test_no_exception_is_no_field(exc_info: Any) -> None:
    """exc_info=True outside an except block leaves no trace."""
    assert "exception" not in json.loads(JsonlFormatter().encode(make(exc_info=exc_info)))


def test_exceptions_are_named_as_in_a_traceback() -> None:
    """Types have their module unless they are built in; a message that can't be printed is told."""

    class Mute(Exception):
        __str__ = Unprintable.__str__

    decode = json.loads(JsonlFormatter().encode(make(exc_info=caught(json.JSONDecodeError("bad", "", 0)))))
    mute = json.loads(JsonlFormatter().encode(make(exc_info=caught(Mute()))))

    assert decode["exception"]["type"] == "json.decoder.JSONDecodeError"
    assert mute["exception"]["message"].endswith("Mute: str() raised ValueError>")
    assert "Traceback" in mute["exception"]["stacktrace"]


def test_an_exception_that_only_left_its_text_is_kept() -> None:
    """A record from another process has only exc_text; odd exc_info values are kept as text."""
    text_only = json.loads(JsonlFormatter().encode(make(exc_text="Traceback…")))
    odd = json.loads(JsonlFormatter().encode(make(exc_info=True)))

    assert text_only["exception"] == {"stacktrace": "Traceback…"}
    assert odd["exception"] == {"stacktrace": "True"}


def test_a_traceback_that_cannot_be_formatted_loses_nothing_else() -> None:
    """When formatting fails, the exception's type and message are still there."""
    broken = (ValueError, ValueError("bad"), "not a traceback")

    exception = json.loads(JsonlFormatter().encode(make(exc_info=broken)))["exception"]

    assert (exception["type"], exception["message"]) == ("ValueError", "bad")
    assert exception["stacktrace"].startswith("<the traceback could not be formatted: ")


def test_an_unusable_stack_is_kept_as_text() -> None:
    """A stack that is no text does not cost the record."""
    formatter = JsonlFormatter(stack_info_as_array=True)

    assert json.loads(formatter.encode(make(stack_info=5)))["stack_info"] == "5"
    assert json.loads(formatter.encode(make(stack_info="a\nb")))["stack_info"] == ["a", "b"]


# Options


def fields_of(record: logging.LogRecord, *args: Any, **options: Any) -> dict[str, Any]:
    fields = json.loads(JsonlFormatter(*args, **options).encode(record, "s", 1))
    assert "formatter_error" not in fields
    return fields  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("fmt", "style"),
    [
        ("%(levelname)s %(level)s %(message)s %(missing)s %(process)d %(rid)s", "%"),
        ("{levelname} {level} {message} {missing} {process} {rid}", "{"),
        ("$levelname $level ${message} $missing $process $rid", "$"),
        ("levelname, level, message, missing, process, rid", ","),
        (["levelname", "level", "message", "missing", "process", "rid"], "%"),
    ],
)
def test_fmt_names_the_fields(fmt: Any, style: str) -> None:
    """The fields that fmt names stand in place of level, logger and message; missing ones are null."""
    fields = fields_of(make(process=5, rid=7, logger="mine"), fmt, style=style)

    assert list(fields.items()) == [
        ("timestamp", STAMP),
        ("levelname", "INFO"),
        ("level", "INFO"),
        ("message", "hello world"),
        ("missing", None),
        ("process", 5),
        ("rid", 7),
        ("session", "s"),
        ("seq", 1),
        ("logger", "mine"),
    ]


def test_fmt_may_name_times_and_what_comes_anyway() -> None:
    """asctime follows datefmt; timestamp, session, exception named in fmt appear once."""
    fields = fields_of(
        make(exc_info=caught(ValueError("x"))),
        ["timestamp", "asctime", "session", "seq", "exc_info", "exception"],
        "%Y",
        timestamp=False,
    )

    assert list(fields) == ["timestamp", "asctime", "session", "seq", "exception"]
    assert fields["timestamp"] == STAMP
    assert fields["asctime"] in {"2026"}


def test_a_fmt_without_message_writes_none() -> None:
    """Who leaves the message out of fmt gets none, but a dict message's entry of that name stays an entry."""
    assert "message" not in fields_of(make(), "%(levelname)s")
    assert fields_of(make({"message": "hi"}, ()), "%(levelname)s")["message"] == "hi"


def test_the_timestamp_can_be_named_and_left_out() -> None:
    """timestamp=False leaves it out, a text names its key."""
    assert "timestamp" not in fields_of(make(), timestamp=False)
    assert fields_of(make(timestamp="mine"), timestamp="ts") | {} == {
        "ts": STAMP,
        "level": "INFO",
        "logger": "app",
        "message": "hello world",
        "session": "s",
        "seq": 1,
        "timestamp": "mine",
    }


def test_fields_can_be_renamed() -> None:
    """rename_fields applies to core fields, extras, exception; what then collides steps aside."""
    fields = fields_of(
        make(exc_info=caught(ValueError("x")), path="/a", severity="mine"),
        rename_fields={
            "level": "severity",
            "path": "file",
            "exception": "error",
            "session": "sid",
            "no": "where",
        },
    )

    assert fields["severity"] == "INFO"
    assert fields["severity_"] == "mine"
    assert fields["file"] == "/a"
    assert fields["error"]["type"] == "ValueError"
    assert fields["sid"] == "s"
    assert "where" not in fields
    assert fields_of(make(), rename_fields={"no": "where"}, rename_fields_keep_missing=True)["where"] is None


def test_static_and_default_fields() -> None:
    """Static fields win over core fields, logged ones over static ones, everything over defaults."""
    fields = fields_of(
        make(a="extra", b="extra"),
        static_fields={"level": "STATIC", "a": "static", "c": "static"},
        defaults={"b": "default", "c": "default", "d": "default", "message": "default"},
    )

    assert (fields["level"], fields["message"]) == ("STATIC", "hello world")
    assert [fields[name] for name in "abcd"] == ["extra", "extra", "static", "default"]


def test_reserved_attributes_are_chosen() -> None:
    """reserved_attrs says which attributes are no extras; the default is all standard ones."""
    standard = vars(logging.makeLogRecord({}))

    assert "colour" not in fields_of(make(colour="red"), reserved_attrs=[*standard, "colour"])
    every = fields_of(make(message="left", asctime="by another"), reserved_attrs=[])
    assert every["lineno"] == 5
    assert not {"asctime", "message_"} & set(every)


def test_traces_can_be_arrays() -> None:
    """exc_info_as_array writes the stack trace as a list of lines."""
    fields = fields_of(make(exc_info=caught(ValueError("x"))), exc_info_as_array=True)

    assert fields["exception"]["stacktrace"][0] == "Traceback (most recent call last):"


@pytest.mark.parametrize(("options", "where"), [({"prefix": "> "}, "prefix"), ({"fmt": 5}, "fmt")])
def test_options_that_cannot_work_are_refused(options: dict[str, Any], where: str) -> None:
    """A prefix would make the line no JSON; the error names the option."""
    with pytest.raises(ConfigError) as caught_error:
        JsonlFormatter(**options)

    assert caught_error.value.where == where


@pytest.mark.parametrize(("fmt", "style"), [("x", "?"), ("no field", "%"), ("{", "{")])
def test_a_wrong_style_is_refused(fmt: str, style: str) -> None:
    """fmt and style are checked as logging.Formatter checks them."""
    with pytest.raises(ValueError):
        JsonlFormatter(fmt, style=style)


def test_options_changed_later_take_effect() -> None:
    """Attributes of a formatter may be changed after it has written, as with python-json-logger."""
    formatter = JsonlFormatter()
    formatter.encode(make())

    formatter.reserved_attrs.add("secret")
    without_secret = json.loads(formatter.encode(make(secret="x")))
    formatter.timestamp = False
    without_timestamp = json.loads(formatter.encode(make(secret="x")))
    formatter.timestamp = True
    formatter.static_fields["app"] = "shop"
    with_static = json.loads(formatter.encode(make(secret="x")))

    everyday = {"timestamp": STAMP, "level": "INFO", "logger": "app", "message": "hello world"}
    assert without_secret == everyday
    assert without_timestamp | {"timestamp": STAMP} == everyday
    assert "timestamp" not in without_timestamp
    assert with_static == everyday | {"app": "shop"}


def test_dict_config_builds_it() -> None:
    """A formatter entry of dictConfig takes the options; without `format` the default line stays."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"j": {"class": "jsonl_handler.formatter.JsonlFormatter"}},
            "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "j"}},
            "loggers": {"made.by.dictconfig": {"handlers": ["h"]}},
        }
    )
    logger = logging.getLogger("made.by.dictconfig")
    made = logger.handlers[0].formatter
    logger.handlers.clear()

    assert made is not None
    assert json.loads(made.format(make())) == json.loads(JsonlFormatter().format(make()))


def test_a_formatter_can_be_copied() -> None:
    """Copies and pickles write the same line."""
    formatter = JsonlFormatter(static_fields={"a": 1})

    for twin in (copy.deepcopy(formatter), pickle.loads(pickle.dumps(formatter))):
        assert twin.encode(make(), "s", 1) == formatter.encode(make(), "s", 1)


# Subclasses


def test_subclasses_override_the_steps() -> None:
    """add_fields, process_log_record, formatException and jsonify_log_record are honoured."""

    class Own(JsonlFormatter):
        def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
            super().add_fields(log_data, record, message_dict)
            log_data["level"] = log_data["level"].lower()

        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            return {**log_data, "processed": True}

        def formatException(self, ei: Any) -> str:
            return "short"

    class Written(JsonlFormatter):
        def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
            return json.dumps(log_data | {"written": True}, indent=1)

    own = json.loads(Own().encode(make(exc_info=caught(ValueError("x"))), "s", 1))
    written = Written().encode(make(), "s", 1)

    assert (own["level"], own["processed"], own["session"], own["seq"]) == ("info", True, "s", 1)
    assert own["exception"]["stacktrace"] == "short"
    assert written.count(b"\n") == 1
    assert json.loads(written)["written"] is True


def test_a_step_that_fails_or_forgets_costs_no_record() -> None:
    """A step that raises is told in the default line; one that returns nothing keeps the fields."""

    class Fails(JsonlFormatter):
        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            raise KeyError("oops")

    class Forgets(JsonlFormatter):
        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            log_data["seen"] = True
            return None  # type: ignore[return-value]

    failed = json.loads(Fails().encode(make(mine=1), "s", 1))
    forgot = json.loads(Forgets().encode(make(mine=1), "s", 1))

    assert failed["formatter_error"] == "KeyError: 'oops'"
    assert (failed["message"], failed["mine"], failed["seq"]) == ("hello world", 1, 1)
    assert (forgot["seen"], forgot["mine"]) == (True, 1)


def test_an_overridden_format_is_used() -> None:
    """A subclass that overrides format() has its object written."""

    class Own(JsonlFormatter):
        def format(self, record: logging.LogRecord) -> str:
            return '{"mine": true}'

    assert way_of(Own()).go(make(), "s", 1) == b'{"mine": true}\n'


# Any formatter


def test_no_formatter_is_the_default_one() -> None:
    """Without a formatter, and with ours, the line carries session and seq."""
    expected = JsonlFormatter().encode(make(), "s", 1)

    assert way_of(None).go(make(), "s", 1) == expected
    assert way_of(JsonlFormatter()).go(make(), "s", 1) == expected


def test_a_plain_formatters_text_is_the_message() -> None:
    """What logging.Formatter returns is one field, newlines included."""
    encode = way_of(logging.Formatter("%(levelname)s\n%(message)s")).go

    assert json.loads(encode(make(), "s", 1)) == {"message": "INFO\nhello world"}


def test_a_foreign_json_line_is_kept_as_it_is() -> None:
    """Valid JSON of another JSON formatter is not touched, but it is made one line."""
    one_line = JsonFormatter("%(message)s", timestamp=False)
    indented = JsonFormatter("%(message)s", json_indent=2)

    assert way_of(one_line).go(make(a=1), "s", 1) == b'{"message": "hello world", "a": 1}\n'
    assert way_of(indented).go(make(a=1), "s", 1) == b'{"message":"hello world","a":1}\n'


class Returns(BaseJsonFormatter):
    def __init__(self, text: Any) -> None:
        super().__init__()
        self.text = text

    def format(self, record: logging.LogRecord) -> Any:
        if isinstance(self.text, Exception):
            raise self.text
        return self.text


@pytest.mark.parametrize(
    ("returned", "line"),
    [
        ('{"a": NaN, "b": [Infinity]}', {"a": None, "b": [None]}),
        ('{"a": "\\udc80"}', {"a": "\\udc80"}),
        ('{"a": "\udc80"}', {"a": "\\udc80"}),
        (b'{"a": 1}', {"a": 1}),
        ('{"a": 1}\r\n', {"a": 1}),
        ("[1]", {"message": "[1]"}),
        ("> {}", {"message": "> {}"}),
        ("[" * 5000, {"message": "[" * 5000}),
        ("", {"message": ""}),
        (None, {"message": "None"}),
    ],
)
def test_a_foreign_line_is_made_valid(returned: Any, line: dict[str, Any]) -> None:
    """What another JSON formatter returns ends as one strict JSON object, whatever it is."""
    written = way_of(Returns(returned)).go(make(), "s", 1)

    assert written.count(b"\n") == 1
    assert json.loads(written, parse_constant=pytest.fail) == line


@pytest.mark.parametrize("formatter", [Returns(ValueError("oops")), BaseJsonFormatter()])
def test_a_foreign_formatter_that_fails_costs_no_record(formatter: logging.Formatter) -> None:
    """When another formatter raises, the default line is written and names the error."""
    fields = json.loads(way_of(formatter).go(make(mine=1), "s", 1))

    assert (fields["message"], fields["mine"], fields["seq"]) == ("hello world", 1, 1)
    assert fields["formatter_error"].startswith(("ValueError: oops", "NotImplementedError"))


def test_an_interrupt_passes_through() -> None:
    """KeyboardInterrupt is not taken for a failure of the formatter."""

    class Interrupts:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        JsonlFormatter().encode(make(Interrupts(), ()))


# When nothing goes right


class Unhashable:
    def __init__(self) -> None:
        self.armed = False

    def __hash__(self) -> int:
        if self.armed:
            raise ValueError("no hash")
        return 5


def test_keys_that_turn_unhashable_lose_nothing() -> None:
    """A key whose hash fails later is still written under its text."""
    key, record = Unhashable(), make(mine=1)
    record.__dict__[key] = "value"
    record.msg, record.args = {key: "in message"}, ()
    key.armed = True

    fields = json.loads(JsonlFormatter().encode(record, "s", 1))

    assert {"value", "in message", 1} <= set(fields.values())


def test_the_least_line_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """When even the default line fails, the core of the record is written with what the error was."""
    monkeypatch.setattr(JsonlFormatter, "_default_fields", lambda *args: 1 / 0)

    fields = json.loads(JsonlFormatter().encode(make(), "s", 1))

    assert (fields["message"], fields["session"], fields["seq"]) == ("hello %s", "s", 1)
    assert fields["formatter_error"] == "ZeroDivisionError: division by zero"


def test_there_is_always_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing at all can be encoded, a line says that there was a record."""
    monkeypatch.setattr("jsonl_handler.formatter.encode_line", lambda fields: 1 / 0)
    monkeypatch.setattr(JsonlFormatter, "_default_fields", lambda *args: 1 / 0)

    assert json.loads(JsonlFormatter().encode(make(), "s", 1)) == {"message": "<a record that could not be encoded>"}


@pytest.mark.parametrize("encoder", [None, "json"])
def test_a_caller_deep_in_recursion_can_log(encoder: str | None) -> None:
    """A record logged near the recursion limit is a line, with less of a nested value if need be."""
    nested: Any = {1, 2}
    for _ in range(200):
        nested = [nested]
    formatter = JsonlFormatter()
    formatter._encoder = choose_encoder(encoder)
    record = make(nested=nested)

    def dive(levels: int) -> bytes:
        return dive(levels - 1) if levels else formatter.encode(record, "s", 1)

    used = len(traceback.extract_stack())
    roomy = json.loads(dive(sys.getrecursionlimit() - used - 80))
    tight = json.loads(dive(sys.getrecursionlimit() - used - 30))

    assert (roomy["message"], roomy["seq"]) == ("hello world", 1)
    assert isinstance(roomy["nested"], list)
    assert (tight["message"], tight["seq"]) == ("hello world", 1)


# Lines without a record


def test_an_event_gets_what_it_lacks() -> None:
    """A mapping written without a record gets timestamp and level, session and seq."""
    event = {"event": "start", "session": "mine"}

    assert list(json.loads(encode_event(event, logging.INFO, CREATED, "s", 1)).items()) == [
        ("timestamp", STAMP),
        ("level", "INFO"),
        ("session", "s"),
        ("seq", 1),
        ("event", "start"),
        ("session_", "mine"),
    ]


def test_an_events_own_fields_stay() -> None:
    """An event that brings its own timestamp and level keeps them, and any key and mapping is taken."""

    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise ValueError("no items")

    own = json.loads(encode_event({"timestamp": "now", "level": "info", 5: 1, "seq": 2}, 20, CREATED, None, None))
    broken = json.loads(encode_event(Broken(a=1), 20, CREATED, "s", 1))

    assert own == {"timestamp": "now", "level": "info", "5": 1, "seq_": 2}
    assert broken["formatter_error"] == "ValueError: no items"
    assert (broken["message"], broken["seq"]) == ("{'a': 1}", 1)


def test_any_mapping_is_a_line() -> None:
    """encode_line takes mappings that are no dict, and ones that fail."""
    from types import MappingProxyType

    class Broken:
        def items(self) -> Iterator[Any]:
            raise ValueError("no items")

        def __str__(self) -> str:
            return "broken"

    assert encode_line(MappingProxyType({"a": 1})) == b'{"a":1}\n'
    assert json.loads(encode_line(Broken())) == {
        "message": "broken",
        "formatter_error": "ValueError: no items",
    }  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (b'{"a":1}', b'{"a":1}\n'),
        (b'{"a":1}\n', b'{"a":1}\n'),
        (b'{"a":1}\r\n', b'{"a":1}\n'),
        ('{"a":"ü"}', '{"a":"ü"}\n'.encode()),
        (bytearray(b"{}"), b"{}\n"),
        (b"trusted", b"trusted\n"),
    ],
)
def test_an_encoded_line_is_taken_as_it_is(given: Any, line: bytes) -> None:
    """A line that the user encoded gets exactly one newline and is not changed otherwise."""
    assert checked_line(given) == line


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b'{"a":\n1}\n', '{"a":\n1}\n'),
        (b'{"a":\r1}', '{"a":\r1}'),
        (b"{}\n\n", "{}\n\n"),
        (b'{"a":"\0"}', '{"a":"\0"}'),
        (b"", ""),
        (b"\n", "\n"),
        (b"  ", "  "),
        (b'{"a":"\xff"}', '{"a":"\\xff"}'),
        ('{"a":"\udc80"}', '{"a":"\\udc80"}'),
        (5, 5),
    ],
)
def test_a_line_that_would_break_the_file_is_wrapped(given: Any, message: object) -> None:
    """Newlines, NUL, nothing and undecodable bytes don't reach the file; what was given is kept."""
    assert json.loads(checked_line(given)) == {"message": message, "malformed": True}


# Encoders


def test_an_encoder_is_chosen_by_name() -> None:
    """orjson is taken when it is installed; a name that can't be had is refused with the remedy."""
    assert choose_encoder("json") is STDLIB_ENCODER
    assert choose_encoder() is (ORJSON_ENCODER or STDLIB_ENCODER)
    with pytest.raises(ConfigError):
        choose_encoder("simplejson")


def test_without_orjson_the_standard_library_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where orjson is missing, asking for it names what to install."""
    monkeypatch.setattr("jsonl_handler._encoding.ORJSON_ENCODER", None)

    assert choose_encoder() is STDLIB_ENCODER
    with pytest.raises(ConfigError, match="fast"):
        choose_encoder("orjson")
