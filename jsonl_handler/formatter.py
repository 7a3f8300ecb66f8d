"""From a log record to one line of JSON.

What each value becomes is said in `_values`, how bytes are made in `_encoding`, how long lines are cut in
`_truncation`.
Nothing logged raises here: what can't be written as wished is written in a simpler way that says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS, BaseJsonFormatter

from jsonl_handler._encoding import choose_encoder, encode_line, foreign_line
from jsonl_handler._record import LEFT_BY_FORMATTERS, message_fields, trouble_fields
from jsonl_handler._values import describe, free_name, key_text, object_of, text, timestamp_text
from jsonl_handler.errors import ConfigError

CORE_FIELDS = frozenset({"timestamp", "level", "logger", "message", "session", "seq", "exception", "stack_info"})
"""Names that always mean the same; an extra or a key of a dict message that has one is kept as `<name>_`."""

_STANDARD_ATTRIBUTES = frozenset(RESERVED_ATTRS) | {"taskName"} | LEFT_BY_FORMATTERS
RESERVED = (CORE_FIELDS | _STANDARD_ATTRIBUTES) - LEFT_BY_FORMATTERS
"""What no extra of the user's can be called in a line of the default formatter."""
_OURS_IN_FMT = CORE_FIELDS - {"message", "stack_info"}
_ADDED_LAST = frozenset({"session", "seq", "exception", "exc_info", "exc_text", "stack_info"})
_JSON_STEPS = ("jsonify_log_record", "serialize_log_record")
_STEPS = ("add_fields", "process_log_record", "formatException", "formatStack", "formatTime", *_JSON_STEPS)
_LAST_RESORT = b'{"message":"<a record that could not be encoded>"}\n'


class JsonlFormatter(BaseJsonFormatter):
    """Writes `timestamp`, `level`, `logger`, `message`, `session`, `seq`, extras, `exception`, `stack_info`.

    The options are those of python-json-logger; here *timestamp* is on unless it is False, extras may begin
    with an underscore, and the record is left as it was. *fmt* names fields that stand in place of `level`,
    `logger` and `message`: these names or record attributes. Raises `ConfigError` for a *prefix* and for a
    *fmt* of another type, `ValueError` for a *style* or *fmt* that `logging.Formatter` would refuse.
    """

    _is_default: bool | None
    _has_usual_reserved: bool

    def __init__(
        self,
        fmt: str | Sequence[str] | None = None,
        datefmt: str | None = None,
        style: str = "%",
        validate: bool = True,
        *,
        prefix: str = "",
        rename_fields: dict[str, str] | None = None,
        rename_fields_keep_missing: bool = False,
        static_fields: dict[str, Any] | None = None,
        reserved_attrs: Sequence[str] | None = None,
        timestamp: bool | str = True,
        defaults: dict[str, Any] | None = None,
        exc_info_as_array: bool = False,
        stack_info_as_array: bool = False,
    ) -> None:
        if prefix:
            problem = f"{prefix!r} in front of a line would make it no JSON; use static_fields to add a field"
            raise ConfigError(None, "prefix", problem)
        if not (fmt is None or isinstance(fmt, (str, Sequence))):
            raise ConfigError(None, "fmt", f"{fmt!r} is neither a text nor a list of field names")
        super().__init__(
            fmt,
            datefmt,
            style,
            validate,
            rename_fields=rename_fields,
            rename_fields_keep_missing=rename_fields_keep_missing,
            static_fields=static_fields,
            reserved_attrs=list(_STANDARD_ATTRIBUTES) if reserved_attrs is None else reserved_attrs,
            timestamp=timestamp,
            defaults=defaults,
            exc_info_as_array=exc_info_as_array,
            stack_info_as_array=stack_info_as_array,
        )
        self.reserved_attrs |= LEFT_BY_FORMATTERS
        has_names = bool(fmt) or overrides(self, "parse")
        self._named: list[str] | None = list(self._required_fields) if has_names else None
        self._encoder = choose_encoder()

    def __setattr__(self, name: str, value: object) -> None:
        # Options are attributes that users may change; whether all are the default is then found out again.
        super().__setattr__(name, value)
        super().__setattr__("_is_default", None)

    def encode(self, record: logging.LogRecord, session: str | None = None, seq: int | None = None) -> bytes:
        """The record as one line; *session* and *seq* are left out when None. The record is not changed."""
        try:
            if self.is_default():
                return self._encoder(self._default_fields(record, record.__dict__, session, seq))
            return self._encode_in_steps(record, session, seq)
        except Exception as error:
            return rescued(record, session, seq, error)

    def is_default(self) -> bool:
        """True while no option, and no method of a subclass, makes another line than the default."""
        if self._is_default is None:
            super().__setattr__("_is_default", self._find_default())
            super().__setattr__("_has_usual_reserved", self.reserved_attrs == _STANDARD_ATTRIBUTES)
        # Some are changed in place.
        return self._is_default is True and not (self.rename_fields or self.static_fields or self.defaults)

    def is_stock(self) -> bool:
        """True while `is_default`, and `reserved_attrs` are the usual ones."""
        return self.is_default() and self._has_usual_reserved and len(self.reserved_attrs) == len(_STANDARD_ATTRIBUTES)

    def format(self, record: logging.LogRecord) -> str:
        """The line without its newline, for handlers that know of no session."""
        return self.encode(record)[:-1].decode()

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Fill *log_data*, which comes with `session` and `seq` if there are any; meant to be overridden."""
        rename = self._get_rename
        attributes = record.__dict__
        given = dict(log_data)
        core = self._core_fields(record, attributes, message_dict)
        log_data.clear()
        for fields in (self.defaults, core, given, self.static_fields):
            for name, value in fields.items():
                log_data[rename(name)] = value

        has_message = self._named is None or "message" in self._named
        taken = set(map(rename, (*core, *given, "session", "seq", "exception", "stack_info")))
        if has_message:
            taken.add(rename("message"))
        skipped = self.reserved_attrs.union(self._named or ()).difference(_OURS_IN_FMT)
        logged = [item for item in message_dict.items() if item[0] != "message" or not has_message]
        logged += [item for item in attributes.items() if item[0] not in skipped]
        for key, value in logged:
            name = free_name(rename(key if type(key) is str else key_text(key)), taken)
            taken.add(name)
            log_data[name] = value

        for name, value in trouble_fields(attributes, self.formatException, self.formatStack).items():
            log_data[rename(name)] = value
        if self.rename_fields_keep_missing:
            for name in self.rename_fields.values():
                log_data.setdefault(name, None)

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """*log_data* as JSON text."""
        return self._encoder(log_data)[:-1].decode()

    def _find_default(self) -> bool:
        plain_options = self.timestamp is True and not (self.exc_info_as_array or self.stack_info_as_array)
        return plain_options and self._named is None and not any(overrides(self, step) for step in _STEPS)

    def _default_fields(
        self, record: logging.LogRecord, attributes: dict[str, Any], session: str | None, seq: int | None
    ) -> dict[str, Any]:
        # What `add_fields` does when all options are the default, in one pass: most records of most programs.
        get = attributes.get
        fields: dict[str, Any] = {
            "timestamp": timestamp_text(get("created")),
            "level": get("levelname"),
            "logger": get("name"),
        }
        message: Any = get("msg")
        is_dict = type(message) is not str and issubclass(type(message), dict)
        message_dict: dict[Any, Any] | None = dict(dict.items(message)) if is_dict else None
        fields.update(message_fields(record, attributes, message_dict))
        if session is not None:
            fields["session"] = session
        if seq is not None:
            fields["seq"] = seq
        if message_dict is not None:
            for key, value in message_dict.items():
                if key != "message":
                    fields[free_name(key if type(key) is str else key_text(key), fields, CORE_FIELDS)] = value
        reserved = self.reserved_attrs
        for key, value in attributes.items():
            if key not in reserved:
                if type(key) is not str or key in fields or key in CORE_FIELDS:
                    key = free_name(key_text(key), fields, CORE_FIELDS)
                fields[key] = value
        if get("exc_info") or get("exc_text") or get("stack_info"):
            fields.update(trouble_fields(attributes, self.formatException, self.formatStack))
        return fields

    def _core_fields(
        self, record: logging.LogRecord, attributes: dict[str, Any], message_dict: dict[str, Any]
    ) -> dict[str, Any]:
        core: dict[str, Any] = {}
        if self.timestamp:
            name = self.timestamp if isinstance(self.timestamp, str) else "timestamp"
            core[name] = timestamp_text(attributes.get("created"))
        for name in ("level", "logger", "message") if self._named is None else self._named:
            if name == "message":
                is_dict = issubclass(type(attributes.get("msg")), dict)
                core.update(message_fields(record, attributes, message_dict if is_dict else None))
            elif name == "asctime":
                core[name] = self.formatTime(record, self.datefmt)
            elif name == "timestamp":
                core[name] = timestamp_text(attributes.get("created"))
            elif name not in _ADDED_LAST:
                core[name] = attributes.get({"level": "levelname", "logger": "name"}.get(name, name))
        return core

    def _encode_in_steps(self, record: logging.LogRecord, session: str | None, seq: int | None) -> bytes:
        fields: dict[str, Any] = {}
        if session is not None:
            fields["session"] = session
        if seq is not None:
            fields["seq"] = seq
        message: Any = record.__dict__.get("msg")
        self.add_fields(fields, record, dict(dict.items(message)) if issubclass(type(message), dict) else {})
        # A step that changes its argument and forgets to return it loses nothing.
        processed: Any = self.process_log_record(fields)
        processed = fields if processed is None else processed
        if any(overrides(self, step) for step in _JSON_STEPS):
            return foreign_line(self.serialize_log_record(processed))
        return self._encoder(processed) if type(processed) is dict else encode_line(processed)


def overrides(formatter: JsonlFormatter, step: str) -> bool:
    """True when a subclass has its own way of a step."""
    return getattr(type(formatter), step) is not getattr(JsonlFormatter, step)


def rescued(record: logging.LogRecord, session: str | None, seq: int | None, error: Exception) -> bytes:
    """The line of a record that could not be written as wished, in a simpler way that says so."""
    for make in (_careful_fields, _least_fields):
        try:
            fields = make(record, session, seq)
            fields[free_name("formatter_error", fields)] = describe(error)
            return encode_line(fields)
        except Exception:
            continue
    return _LAST_RESORT


def _careful_fields(record: logging.LogRecord, session: str | None, seq: int | None) -> dict[str, Any]:
    # A copy with text keys only: the record's own may be unhashable, or another thread changed the record.
    attributes = object_of(record.__dict__.items())
    message: Any = attributes.get("msg")
    if issubclass(type(message), dict):
        attributes["msg"] = object_of(dict.items(message))
    return DEFAULT._default_fields(record, attributes, session, seq)


def _least_fields(record: logging.LogRecord, session: str | None, seq: int | None) -> dict[str, Any]:
    get = record.__dict__.get
    return {
        "timestamp": timestamp_text(get("created")),
        "level": text(get("levelname")),
        "logger": text(get("name")),
        "message": text(get("msg")),
        "session": session,
        "seq": seq,
    }


DEFAULT = JsonlFormatter()
"""Makes the lines where no formatter is set."""
